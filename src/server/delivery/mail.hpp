// A digest as a mail, whichever channel carries it: its envelope, from the settings.

#pragma once

#include "server/base/settings.hpp"
#include "server/ledger/digests.hpp"

#include "core/digest.hpp"
#include "core/render.hpp"
#include "core/sendgrid.hpp"

namespace job_alerting::server {

// All need an open transaction.

core::Mail mail_of(const core::Digest &content, const Settings &settings);

// The Message-ID stays the same at every try of a digest. Throws CannotSend when an address is
// missing or malformed.
core::Envelope envelope_of(const DigestRow &digest, const Settings &settings);

} // namespace job_alerting::server
