// What differs between channels: what a digest becomes, and how that is handed over.

#pragma once

#include "server/base/settings.hpp"
#include "server/delivery/route.hpp"
#include "server/ledger/digests.hpp"

#include "core/digest.hpp"
#include "core/outcome.hpp"

namespace job_alerting::server {

// A digest as its row stores it: the same bytes are handed over at every try while in doubt.
struct Message {
    std::string subject; // in the database's encoding, like the request
    std::string request;
    std::string message_id; // empty for a channel that has none
};

// Throws CannotSend. A transaction must be open.
Message make_message(ChannelKind channel, const core::Digest &content, const DigestRow &digest,
                     const Settings &settings);

// A small message that is no digest, likewise.
Message make_test_message(ChannelKind channel, const std::string &database,
                          const Settings &settings);

// What would keep a digest from being handed over, as far as settings and files tell; empty when
// nothing would. A transaction must be open.
std::string channel_fault(ChannelKind channel, const Settings &settings);

// Hands a request over, with no transaction open. Throws ServerError when it is interrupted.
core::Outcome hand_over(ChannelKind channel, const std::string &request, const Settings &settings);

} // namespace job_alerting::server
