// Slack's incoming webhooks as a channel: the one file that knows them.

#pragma once

#include "core/digest.hpp"
#include "core/message.hpp"

#include <cstddef>
#include <string>

namespace job_alerting::core {

// All that a message says, with what Block Kit adds to it. Slack refuses those above about 13,000.
inline constexpr std::size_t max_slack_characters = 12000;
inline constexpr std::size_t max_slack_blocks = 50;

// The body of the POST: the facts of the mail as Block Kit, in JSON of pure ASCII, so it can be
// stored in any database encoding, and the same bytes for the same digest. `max_listed` and
// `job_url`: as for render(); what Slack's limits leave no room for is counted.
std::string slack_body(const Digest &digest, std::size_t max_listed, const std::string &job_url);

// The body of a plain message.
std::string slack_text(const std::string &text);

// The request around a stored body. The address is the secret.
Request slack_request(const std::string &webhook_url, std::string body);

} // namespace job_alerting::core
