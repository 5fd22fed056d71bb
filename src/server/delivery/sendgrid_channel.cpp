// The channel `sendgrid`: sends a mail through SendGrid's Web API.

#include "server/base/prelude.hpp"

#include "server/delivery/channel.hpp"

#include "server/base/encoding.hpp"
#include "server/delivery/mail.hpp"
#include "server/delivery/secret.hpp"

#include "core/conceal.hpp"
#include "core/sendgrid.hpp"
#include "http/endpoint.hpp"

namespace job_alerting::server {

namespace {

void check_sendgrid_url(const Settings &settings) {
    const std::string fault = http::endpoint_fault(settings.sendgrid_url);
    if (!fault.empty())
        throw CannotSend("job_alerting.sendgrid_url cannot be used: " + fault);
}

SecretPlace sendgrid_key(const Settings &settings) {
    return {.kind = "key",
            .setting = "job_alerting.sendgrid_api_key_file",
            .file = settings.sendgrid_api_key_file,
            .variable = "SENDGRID_API_KEY"};
}

core::Envelope sendgrid_envelope(const DigestRow &digest, const Settings &settings) {
    core::Envelope envelope = envelope_of(digest, settings);
    if (envelope.to.size() > core::max_recipients)
        throw CannotSend("job_alerting.mail_to names " + std::to_string(envelope.to.size()) +
                         " recipients, but SendGrid accepts at most " +
                         std::to_string(core::max_recipients));
    return envelope;
}

Message message_of(const core::Mail &mail, const core::Envelope &envelope) {
    return {.subject = from_utf8(mail.subject),
            .request = core::sendgrid_body(mail, envelope),
            .message_id = envelope.message_id};
}

class SendGridChannel : public Channel {
public:
    void check(const Settings &settings) const override {
        sendgrid_envelope(DigestRow{}, settings);
        check_sendgrid_url(settings);
        check_route(settings);
        const Secret key(sendgrid_key(settings));
    }

    Message message(const core::Digest &content, const DigestRow &digest,
                    const Settings &settings) const override {
        return message_of(mail_of(content, settings), sendgrid_envelope(digest, settings));
    }

    Message test_message(const core::Mail &test, const Settings &settings) const override {
        return message_of(test, sendgrid_envelope(DigestRow{}, settings));
    }

    core::Outcome send(const Message &message, const Settings &settings) const override;
};

core::Outcome SendGridChannel::send(const Message &message, const Settings &settings) const {
    check_sendgrid_url(settings);
    check_route(settings);
    const Secret key(sendgrid_key(settings));
    core::Request request =
        core::sendgrid_request(settings.sendgrid_url, key.text(), message.request);
    core::Answer answer = post(request, settings);
    for (std::string &header : request.headers)
        wipe(header);
    conceal(answer, key.text(), "(key)");
    core::Outcome outcome = core::interpret_sendgrid(answer, seconds_now());
    // Cleaning the answer may have joined parts of the key: conceal it again.
    core::conceal(outcome.error, key.text(), "(key)");
    return outcome;
}

} // namespace

const Channel &sendgrid_channel() {
    static const SendGridChannel channel;
    return channel;
}

} // namespace job_alerting::server
