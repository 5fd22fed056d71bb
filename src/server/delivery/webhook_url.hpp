// The address of a webhook is a secret: anyone who has it can post there.

#pragma once

#include "server/base/settings.hpp"

#include "core/message.hpp"
#include "core/outcome.hpp"

#include <cstdint>
#include <string>

namespace job_alerting::server {

// Posts a request to a webhook, with no transaction open, and interprets the answer. Neither the
// answer nor the outcome quotes the address. Throws ServerError when it is interrupted.
core::Outcome post_to_webhook(core::Request request, const Settings &settings,
                              core::Outcome (*interpret)(const core::Answer &, std::int64_t));

} // namespace job_alerting::server
