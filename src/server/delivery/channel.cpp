#include "server/base/prelude.hpp"

#include "server/delivery/channel.hpp"

#include "server/delivery/secret.hpp"

namespace job_alerting::server {

const Channel &channel_of(ChannelKind kind) {
    switch (kind) {
    case ChannelKind::log:
        return log_channel();
    case ChannelKind::sendgrid:
        return sendgrid_channel();
    case ChannelKind::smtp:
        return smtp_channel();
    case ChannelKind::slack:
        return slack_channel();
    case ChannelKind::webhook:
        return webhook_channel();
    }
    throw std::logic_error("the channel is unknown");
}

std::string channel_fault(ChannelKind kind, const Settings &settings) {
    try {
        channel_of(kind).check(settings);
        return {};
    } catch (const CannotSend &why) {
        return core::not_sent(why.what()).error;
    } catch (const BadSecret &bad) {
        return core::not_sent(bad.what()).error;
    }
}

core::Outcome hand_over(ChannelKind kind, const Message &message, const Settings &settings) {
    try {
        return channel_of(kind).send(message, settings);
    } catch (const CannotSend &why) {
        return core::not_sent(why.what());
    } catch (const BadSecret &bad) {
        return core::not_sent(bad.what());
    }
}

} // namespace job_alerting::server
