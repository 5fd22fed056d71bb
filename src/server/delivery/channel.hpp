// A channel: how a digest becomes a message, and how that is handed over. Each has a file of its
// own in this room and one in core; the table in channel.cpp names them all.

#pragma once

#include "server/base/settings.hpp"
#include "server/delivery/route.hpp"
#include "server/ledger/digests.hpp"

#include "core/digest.hpp"
#include "core/outcome.hpp"
#include "core/render.hpp"

namespace job_alerting::server {

// A digest as its row stores it: the same bytes are handed over at every try while in doubt.
struct Message {
    std::string subject; // in the database's encoding, like the request
    std::string request;
    std::string message_id; // empty for a channel that has none
};

// Every function throws CannotSend or BadSecret when a setting or a file prevents delivery.
class Channel {
public:
    virtual ~Channel() = default;

    // Reads settings and files, and reaches nothing. A transaction must be open.
    virtual void check(const Settings &settings) const = 0;

    // A transaction must be open.
    virtual Message message(const core::Digest &content, const DigestRow &digest,
                            const Settings &settings) const = 0;

    // A small message that is no digest, likewise.
    virtual Message test_message(const core::Mail &test, const Settings &settings) const = 0;

    // Hands a request over, with no transaction open. Throws ServerError when it is interrupted.
    virtual core::Outcome send(const std::string &request, const Settings &settings) const = 0;
};

const Channel &log_channel();
const Channel &sendgrid_channel();
const Channel &slack_channel();

const Channel &channel_of(ChannelKind kind);

// Why a digest could not be handed over, as far as settings and files tell; empty when nothing
// prevents it. A transaction must be open.
std::string channel_fault(ChannelKind kind, const Settings &settings);

// Hands a request over. A setting or file that prevents it is an outcome, too. Throws ServerError
// when it is interrupted.
core::Outcome hand_over(ChannelKind kind, const std::string &request, const Settings &settings);

} // namespace job_alerting::server
