// The channel `slack`: sends a message through an incoming webhook, whose URL is a secret.

#include "server/base/prelude.hpp"

#include "server/delivery/channel.hpp"

#include "server/base/encoding.hpp"
#include "server/delivery/secret.hpp"

#include "core/conceal.hpp"
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

// The parts of the URL to conceal: the path without its first segment, which is the same in every
// webhook (/services), and the token at its end.
std::vector<std::string_view> webhook_secrets(std::string_view url) {
    constexpr std::size_t min_token = 6; // a shorter token would match ordinary words
    url = url.substr(0, url.find_last_not_of('/') + 1);
    const std::string_view path = http::parts_of(url).path;
    const std::string_view steps = path.substr(std::min(path.find('/', 1), path.size()));
    const std::string_view token = url.substr(url.rfind('/') + 1);
    const std::string_view secret = steps.empty() ? path : steps;
    if (token.size() < min_token)
        return {secret};
    return {secret, token};
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

    core::Outcome send(const std::string &body, const Settings &settings) const override;
};

core::Outcome SlackChannel::send(const std::string &body, const Settings &settings) const {
    check_route(settings);
    const Secret url(slack_webhook(settings));
    check_webhook_url(url);
    core::Request request = core::slack_request(url.text(), body);
    core::Answer answer = post(request, settings);
    wipe(request.url);
    for (const std::string_view secret : webhook_secrets(url.text()))
        conceal(answer, secret, "(webhook)");
    core::Outcome outcome = core::interpret_slack(answer, seconds_now());
    for (const std::string_view secret : webhook_secrets(url.text()))
        core::conceal(outcome.error, secret, "(webhook)");
    return outcome;
}

} // namespace

const Channel &slack_channel() {
    static const SlackChannel channel;
    return channel;
}

} // namespace job_alerting::server
