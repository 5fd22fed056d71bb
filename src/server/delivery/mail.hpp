// Rendering of a digest as a mail, and its envelope; shared by the channels that send mail.

#pragma once

#include "server/base/settings.hpp"
#include "server/ledger/digests.hpp"

#include "core/digest.hpp"
#include "core/render.hpp"
#include "core/sendgrid.hpp"

namespace job_alerting::server {

// All functions need an open transaction.

core::Mail mail_of(const core::Digest &content, const Settings &settings);

// The Message-ID of a digest is the same in every attempt. Throws CannotSend if an address is
// missing or malformed.
core::Envelope envelope_of(const DigestRow &digest, const Settings &settings,
                           core::LocalPart local_part = core::LocalPart::ascii);

} // namespace job_alerting::server
