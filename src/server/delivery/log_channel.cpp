// The channel `log`: writes a digest as one entry of the server log.

#include "server/base/prelude.hpp"

#include "server/delivery/channel.hpp"

#include "server/base/encoding.hpp"
#include "server/base/guard.hpp"
#include "server/delivery/mail.hpp"

namespace job_alerting::server {

namespace {

Message message_of(const core::Mail &mail) {
    return {.subject = from_utf8(mail.subject),
            .request = from_utf8(mail.subject + "\n\n" + mail.text),
            .message_id = ""};
}

class LogChannel : public Channel {
public:
    void check(const Settings &) const override {
        if (log_level() >= FATAL)
            throw CannotSend("log_min_messages keeps digests out of the server log");
    }

    Message message(const core::Digest &content, const DigestRow &,
                    const Settings &settings) const override {
        return message_of(mail_of(content, settings));
    }

    Message test_message(const core::Mail &test, const Settings &) const override {
        return message_of(test);
    }

    core::Outcome send(const Message &message, const Settings &settings) const override {
        check(settings);
        guarded([&] {
            ereport(LOG, (errmsg_internal("%s", message.request.c_str()), errhidestmt(true),
                          errhidecontext(true)));
        });
        core::Outcome outcome;
        outcome.state = core::State::accepted;
        return outcome;
    }
};

} // namespace

const Channel &log_channel() {
    static const LogChannel channel;
    return channel;
}

} // namespace job_alerting::server
