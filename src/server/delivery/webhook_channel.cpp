// The channel `webhook`: JSON for a program, whose address is a secret.

#include "server/base/prelude.hpp"

#include "server/delivery/channel.hpp"

#include "server/base/encoding.hpp"
#include "server/delivery/base64.hpp"
#include "server/delivery/secret.hpp"
#include "server/delivery/signature.hpp"
#include "server/delivery/stamp.hpp"
#include "server/delivery/webhook_url.hpp"

#include "core/headline.hpp"
#include "core/webhook_format.hpp"
#include "http/endpoint.hpp"

namespace job_alerting::server {

namespace {

constexpr std::string_view secret_prefix = "whsec_";
constexpr std::size_t min_signing_key = 24; // bytes; as Standard Webhooks demands
constexpr std::size_t max_signing_key = 64;

// Throws CannotSend where no file is named.
SecretPlace receiver(const Settings &settings) {
    if (settings.webhook_url_file.empty())
        throw CannotSend("job_alerting.webhook_url_file is not set");
    return {.kind = "receiver URL",
            .setting = "job_alerting.webhook_url_file",
            .file = settings.webhook_url_file,
            .variable = ""};
}

void check_receiver(const Secret &url) {
    const std::string fault = http::receiver_fault(url.text());
    if (!fault.empty())
        throw CannotSend("the URL in job_alerting.webhook_url_file cannot be used: " + fault);
}

// The key that signs messages; empty if no secret is configured. Overwritten when it goes out of
// scope.
class SigningKey {
public:
    explicit SigningKey(const Settings &settings) {
        if (settings.webhook_secret_file.empty())
            return;
        const Secret secret({.kind = "signing secret",
                             .setting = "job_alerting.webhook_secret_file",
                             .file = settings.webhook_secret_file,
                             .variable = ""});
        if (secret.text().starts_with(secret_prefix))
            key_ = from_base64(secret.text().substr(secret_prefix.size())).value_or("");
        if (key_.size() < min_signing_key || key_.size() > max_signing_key) {
            wipe(key_);
            throw CannotSend("the secret in job_alerting.webhook_secret_file cannot be used: it is "
                             "not whsec_ and 24 to 64 bytes in base64");
        }
    }
    SigningKey(const SigningKey &) = delete;
    SigningKey &operator=(const SigningKey &) = delete;
    ~SigningKey() { wipe(key_); }

    std::string sign(const std::string &text) const {
        return key_.empty() ? "" : signature_of(text, key_);
    }

private:
    std::string key_;
};

// Returns nullptr for json. Throws CannotSend if the setting is invalid.
const core::WebhookFormat *format_of(const Settings &settings) {
    if (settings.webhook_format == "json")
        return nullptr;
    const core::WebhookFormat *const format = core::webhook_format(settings.webhook_format);
    if (!format)
        throw CannotSend("job_alerting.webhook_format is none of json, " +
                         core::webhook_format_names());
    return format;
}

core::WebhookEvent event_of(const DigestRow &digest) {
    return {.message_id = digest.message_id.empty()
                              ? "job-alerting-" + std::to_string(digest.id) + "-" + random_token()
                              : digest.message_id,
            .timestamp = utc_now("%Y-%m-%dT%H:%M:%SZ")};
}

class WebhookChannel : public Channel {
public:
    void check(const Settings &settings) const override {
        check_route(settings);
        const Secret url(receiver(settings));
        check_receiver(url);
        const SigningKey key(settings);
        format_of(settings);
    }

    Message message(const core::Digest &content, const DigestRow &digest,
                    const Settings &settings) const override {
        const core::WebhookEvent event = event_of(digest);
        const core::WebhookFormat *const format = format_of(settings);
        const std::string job_url = to_utf8(settings.job_url);
        return {.subject = from_utf8(core::subject(content)),
                .request = format
                               ? core::formatted_body(content, event, *format, settings.max_listed,
                                                      job_url)
                               : core::webhook_body(content, event, settings.max_listed, job_url),
                .message_id = event.message_id};
    }

    Message test_message(const core::Mail &test, const Settings &settings) const override {
        const core::WebhookEvent event = event_of(DigestRow{});
        const core::WebhookFormat *const format = format_of(settings);
        return {.subject = "",
                .request = format ? core::formatted_test_body(test, event, *format)
                                  : core::webhook_test_body(test, event),
                .message_id = event.message_id};
    }

    core::Outcome send(const Message &message, const Settings &settings) const override;
};

core::Outcome WebhookChannel::send(const Message &message, const Settings &settings) const {
    check_route(settings);
    const Secret url(receiver(settings));
    check_receiver(url);
    const SigningKey key(settings);
    const std::int64_t now = seconds_now();
    const std::string signature =
        key.sign(core::signed_text(message.message_id, now, message.request));
    return post_to_webhook(
        core::webhook_request(url.text(), message.message_id, now, signature, message.request),
        settings, core::interpret_webhook);
}

} // namespace

const Channel &webhook_channel() {
    static const WebhookChannel channel;
    return channel;
}

} // namespace job_alerting::server
