// A channel: how a digest is rendered as a message, and how the message is sent. Each channel has a
// file in this folder and one in core; channel_of() lists them all.

#pragma once

#include "server/base/settings.hpp"
#include "server/delivery/route.hpp"
#include "server/ledger/digests.hpp"

#include "core/digest.hpp"
#include "core/outcome.hpp"
#include "core/render.hpp"

namespace job_alerting::server {

// A rendered digest as stored in its row. While the digest is in doubt, every attempt sends the
// same bytes.
struct Message {
    std::string subject; // in the database's encoding, like the request; not needed to send it
    std::string request;
    std::string message_id; // empty for a channel that has none
};

// All functions throw CannotSend or BadSecret if a setting or a file prevents delivery.
class Channel {
public:
    virtual ~Channel() = default;

    // Checks settings and files without connecting to anything. A transaction must be open.
    virtual void check(const Settings &settings) const = 0;

    // A transaction must be open.
    virtual Message message(const core::Digest &content, const DigestRow &digest,
                            const Settings &settings) const = 0;

    // Renders a test message, which is not a digest. A transaction must be open.
    virtual Message test_message(const core::Mail &test, const Settings &settings) const = 0;

    // Sends a message. No transaction may be open. Throws ServerError if it is interrupted.
    virtual core::Outcome send(const Message &message, const Settings &settings) const = 0;
};

const Channel &log_channel();
const Channel &sendgrid_channel();
const Channel &smtp_channel();
const Channel &slack_channel();
const Channel &webhook_channel();

const Channel &channel_of(ChannelKind kind);

// Returns which setting or file prevents a digest from being sent; empty if none does. A
// transaction must be open.
std::string channel_fault(ChannelKind kind, const Settings &settings);

// Sends a message. A setting or file that prevents sending is returned as an outcome. Throws
// ServerError if it is interrupted.
core::Outcome hand_over(ChannelKind kind, const Message &message, const Settings &settings);

} // namespace job_alerting::server
