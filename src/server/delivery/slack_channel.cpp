// The channel `slack`: sends a message through an incoming webhook, whose URL is a secret.

#include "server/base/prelude.hpp"

#include "server/delivery/channel.hpp"

#include "server/base/encoding.hpp"
#include "server/delivery/secret.hpp"
#include "server/delivery/webhook_url.hpp"

#include "core/headline.hpp"
#include "core/slack.hpp"
#include "http/endpoint.hpp"

namespace job_alerting::server {

namespace {

SecretPlace slack_webhook(const Settings &settings) {
    return {.kind = "webhook URL",
            .setting = "job_alerting.slack_webhook_url_file",
            .file = settings.slack_webhook_url_file,
            .variable = "SLACK_WEBHOOK_URL"};
}

void check_webhook_url(const Secret &url) {
    const std::string fault = http::webhook_fault(url.text());
    if (!fault.empty())
        throw CannotSend("the webhook URL of job_alerting.slack_webhook_url_file or "
                         "SLACK_WEBHOOK_URL cannot be used: " +
                         fault);
}

class SlackChannel : public Channel {
public:
    void check(const Settings &settings) const override {
        check_route(settings);
        const Secret url(slack_webhook(settings));
        check_webhook_url(url);
    }

    Message message(const core::Digest &content, const DigestRow &,
                    const Settings &settings) const override {
        return {.subject = from_utf8(core::subject(content)),
                .request =
                    core::slack_body(content, settings.max_listed, to_utf8(settings.job_url)),
                .message_id = ""};
    }

    Message test_message(const core::Mail &test, const Settings &) const override {
        return {.subject = "", .request = core::slack_text(test.text), .message_id = ""};
    }

    core::Outcome send(const Message &message, const Settings &settings) const override;
};

core::Outcome SlackChannel::send(const Message &message, const Settings &settings) const {
    check_route(settings);
    const Secret url(slack_webhook(settings));
    check_webhook_url(url);
    return post_to_webhook(core::slack_request(url.text(), message.request), settings,
                           core::interpret_slack);
}

} // namespace

const Channel &slack_channel() {
    static const SlackChannel channel;
    return channel;
}

} // namespace job_alerting::server
