// The channel `smtp`: a mail through a mail server.

#include "server/base/prelude.hpp"

#include "server/delivery/channel.hpp"

#include "server/base/encoding.hpp"
#include "server/delivery/base64.hpp"
#include "server/delivery/mail.hpp"
#include "server/delivery/secret.hpp"

#include "core/conceal.hpp"
#include "core/smtp.hpp"
#include "http/endpoint.hpp"

namespace job_alerting::server {

namespace {

void check_smtp_url(const Settings &settings) {
    if (settings.smtp_url.empty())
        throw CannotSend("job_alerting.smtp_url is not set");
    const std::string fault = http::mail_server_fault(settings.smtp_url);
    if (!fault.empty())
        throw CannotSend("job_alerting.smtp_url cannot be used: " + fault);
}

// Nothing where no login is wanted.
std::optional<Login> login(const Settings &settings) {
    if (settings.smtp_credentials_file.empty())
        return std::nullopt;
    return std::optional<Login>(std::in_place,
                                SecretPlace{.kind = "login",
                                            .setting = "job_alerting.smtp_credentials_file",
                                            .file = settings.smtp_credentials_file,
                                            .variable = nullptr});
}

core::Envelope smtp_envelope(const DigestRow &digest, const Settings &settings) {
    return envelope_of(digest, settings, core::LocalPart::utf8);
}

Message message_of(const core::Mail &mail, const core::Envelope &envelope) {
    return {.subject = from_utf8(mail.subject),
            .request = core::smtp_request(mail, envelope),
            .message_id = envelope.message_id};
}

// The password, as it is and as a server was told it.
void conceal_login(std::string &text, const Login &login) {
    const std::string &password = login.password();
    std::string forms[] = {
        password, base64(password),
        base64(std::string(1, '\0') + login.user() + std::string(1, '\0') + password)};
    for (std::string &form : forms) {
        core::conceal(text, form, "(password)");
        wipe(form);
    }
}

void conceal_login(core::SmtpAnswer &answer, const Login &login) {
    conceal_login(answer.error, login);
    conceal_login(answer.reply, login);
    for (core::RefusedRecipient &refused : answer.refused)
        conceal_login(refused.reply, login);
}

class SmtpChannel : public Channel {
public:
    void check(const Settings &settings) const override {
        smtp_envelope(DigestRow{}, settings);
        check_smtp_url(settings);
        check_route(settings);
        login(settings);
    }

    Message message(const core::Digest &content, const DigestRow &digest,
                    const Settings &settings) const override {
        return message_of(mail_of(content, settings), smtp_envelope(digest, settings));
    }

    Message test_message(const core::Mail &test, const Settings &settings) const override {
        return message_of(test, smtp_envelope(DigestRow{}, settings));
    }

    core::Outcome send(const Message &message, const Settings &settings) const override;
};

core::Outcome SmtpChannel::send(const Message &message, const Settings &settings) const {
    check_smtp_url(settings);
    check_route(settings);
    const std::optional<core::Submission> submission = core::submission_of(message.request);
    if (!submission)
        throw CannotSend("what the digest stores is not a mail");
    const std::optional<Login> known = login(settings);
    http::MailServer server = {.url = settings.smtp_url, .user = "", .password = ""};
    if (known) {
        server.user = known->user();
        server.password = known->password();
    }
    core::SmtpAnswer answer = submit(*submission, server, settings);
    wipe(server.password);
    if (known)
        conceal_login(answer, *known);
    return core::interpret_smtp(answer, *submission);
}

} // namespace

const Channel &smtp_channel() {
    static const SmtpChannel channel;
    return channel;
}

} // namespace job_alerting::server
