#include "server/base/prelude.hpp"

#include "server/delivery/channel.hpp"

#include "server/base/encoding.hpp"
#include "server/base/guard.hpp"
#include "server/delivery/route.hpp"
#include "server/delivery/secret.hpp"

#include "core/conceal.hpp"
#include "core/headline.hpp"
#include "core/render.hpp"
#include "core/sendgrid.hpp"
#include "core/slack.hpp"
#include "core/test_message.hpp"
#include "http/endpoint.hpp"

extern "C" {
#include "pgtime.h"
#include "port.h"
}

namespace job_alerting::server {

namespace {

std::string date_now() {
    const pg_time_t now = static_cast<pg_time_t>(time(nullptr));
    char text[64];
    pg_strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S +0000", pg_gmtime(&now));
    return text;
}

std::string random_token() {
    unsigned char bytes[12];
    if (!pg_strong_random(bytes, sizeof(bytes)))
        throw std::runtime_error("no random numbers are to be had");
    std::string token;
    for (const unsigned char byte : bytes)
        for (const int half : {byte >> 4, byte & 15})
            token += "0123456789abcdef"[half];
    return token;
}

// Letters, digits, '.' and '-' only: mail systems mangle or refuse other identifiers.
std::string make_message_id(std::int64_t digest, const std::string &sender) {
    std::string domain = sender.substr(sender.find('@') + 1);
    for (char &c : domain)
        if (!isalnum(static_cast<unsigned char>(c)) && c != '.')
            c = '-';
    return "<job-alerting." + std::to_string(digest) + "." + random_token() + "@" + domain + ">";
}

std::vector<core::Address> addresses(const char *setting, const std::string &list) {
    if (list.empty())
        throw CannotSend(std::string(setting) + " is not set");
    try {
        return core::parse_addresses(to_utf8(list));
    } catch (const core::BadAddress &bad) {
        throw CannotSend(std::string(setting) + " is malformed: " + bad.unquoted());
    }
}

struct Addresses {
    core::Address from;
    std::vector<core::Address> to;
};

Addresses mail_addresses(const Settings &settings) {
    const std::vector<core::Address> from = addresses("job_alerting.mail_from", settings.mail_from);
    if (from.size() != 1)
        throw CannotSend("job_alerting.mail_from names more than one sender");
    const std::vector<core::Address> to = addresses("job_alerting.mail_to", settings.mail_to);
    if (to.size() > core::max_recipients)
        throw CannotSend("job_alerting.mail_to names " + std::to_string(to.size()) +
                         " recipients, and SendGrid takes " + std::to_string(core::max_recipients) +
                         " at most");
    return {.from = from[0], .to = to};
}

core::Mail mail_of(const core::Digest &content, const Settings &settings) {
    return core::render(content, settings.max_listed, to_utf8(settings.job_url));
}

Message log_message(const core::Mail &mail) {
    return {.subject = from_utf8(mail.subject),
            .request = from_utf8(mail.subject + "\n\n" + mail.text),
            .message_id = ""};
}

Message sendgrid_message(const core::Mail &mail, const DigestRow &digest,
                         const Settings &settings) {
    const Addresses addresses = mail_addresses(settings);
    core::Envelope envelope;
    envelope.digest_id = digest.id;
    envelope.from = addresses.from;
    envelope.to = addresses.to;
    envelope.message_id = digest.message_id.empty()
                              ? make_message_id(digest.id, addresses.from.email)
                              : digest.message_id;
    envelope.date = date_now();
    return {.subject = from_utf8(mail.subject),
            .request = core::sendgrid_body(mail, envelope),
            .message_id = envelope.message_id};
}

Message slack_message(const core::Digest &content, const Settings &settings) {
    return {.subject = from_utf8(core::subject(content)),
            .request = core::slack_body(content, settings.max_listed, to_utf8(settings.job_url)),
            .message_id = ""};
}

void check_sendgrid_url(const Settings &settings) {
    const std::string fault = http::endpoint_fault(settings.sendgrid_url);
    if (!fault.empty())
        throw CannotSend("job_alerting.sendgrid_url cannot be used: " + fault);
}

SecretPlace sendgrid_key(const Settings &settings) {
    return {.what = "key",
            .setting = "job_alerting.sendgrid_api_key_file",
            .file = settings.sendgrid_api_key_file,
            .variable = "SENDGRID_API_KEY"};
}

SecretPlace slack_webhook(const Settings &settings) {
    return {.what = "webhook URL",
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

std::int64_t seconds_now() {
    return static_cast<std::int64_t>(time(nullptr));
}

core::Outcome send_through_sendgrid(const std::string &body, const Settings &settings) {
    check_sendgrid_url(settings);
    check_route(settings);
    const Secret key(sendgrid_key(settings));
    core::Request request = core::sendgrid_request(settings.sendgrid_url, key.text(), body);
    core::Answer answer = post(request, settings);
    for (std::string &header : request.headers)
        wipe(header);
    conceal(answer, key.text(), "(key)");
    core::Outcome outcome = core::interpret_sendgrid(answer, seconds_now());
    core::conceal(outcome.error, key.text(), "(key)"); // that was in pieces before it was cleaned
    return outcome;
}

// The path, without a first step such as /services, which every webhook has; and the token at its
// end, without which the rest is of no use.
std::vector<std::string_view> webhook_secrets(std::string_view url) {
    constexpr std::size_t min_token = 6; // a shorter one would be found in ordinary words
    url = url.substr(0, url.find_last_not_of('/') + 1);
    const std::string_view host = host_of(url);
    const auto after_host = static_cast<std::size_t>(host.data() + host.size() - url.data());
    const std::string_view path = url.substr(std::min(url.find('/', after_host), url.size()));
    const std::string_view steps = path.substr(std::min(path.find('/', 1), path.size()));
    const std::string_view token = url.substr(url.rfind('/') + 1);
    const std::string_view secret = steps.empty() ? path : steps;
    if (token.size() < min_token)
        return {secret};
    return {secret, token};
}

core::Outcome send_through_slack(const std::string &body, const Settings &settings) {
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

void check_sendgrid(const Settings &settings) {
    mail_addresses(settings);
    check_sendgrid_url(settings);
    check_route(settings);
    const Secret key(sendgrid_key(settings));
}

void check_slack(const Settings &settings) {
    check_route(settings);
    const Secret url(slack_webhook(settings));
    check_webhook_url(url);
}

void check_log() {
    if (log_min_messages >= FATAL)
        throw CannotSend("log_min_messages keeps digests out of the server's log");
}

core::Outcome write_to_log(const std::string &text) {
    check_log();
    guarded([&] {
        ereport(LOG,
                (errmsg_internal("%s", text.c_str()), errhidestmt(true), errhidecontext(true)));
    });
    core::Outcome outcome;
    outcome.state = core::State::accepted;
    return outcome;
}

} // namespace

Message make_message(ChannelKind channel, const core::Digest &content, const DigestRow &digest,
                     const Settings &settings) {
    switch (channel) {
    case ChannelKind::log:
        return log_message(mail_of(content, settings));
    case ChannelKind::sendgrid:
        return sendgrid_message(mail_of(content, settings), digest, settings);
    case ChannelKind::slack:
        return slack_message(content, settings);
    }
    throw CannotSend("the channel is unknown");
}

Message make_test_message(ChannelKind channel, const std::string &database,
                          const Settings &settings) {
    const core::Mail mail = core::test_message(to_utf8(database));
    switch (channel) {
    case ChannelKind::log:
        return log_message(mail);
    case ChannelKind::sendgrid:
        return sendgrid_message(mail, DigestRow{}, settings);
    case ChannelKind::slack:
        return {.subject = "", .request = core::slack_text(mail.text), .message_id = ""};
    }
    throw CannotSend("the channel is unknown");
}

std::string channel_fault(ChannelKind channel, const Settings &settings) {
    try {
        switch (channel) {
        case ChannelKind::log:
            check_log();
            break;
        case ChannelKind::sendgrid:
            check_sendgrid(settings);
            break;
        case ChannelKind::slack:
            check_slack(settings);
            break;
        }
        return {};
    } catch (const CannotSend &why) {
        return core::not_sent(why.what()).error;
    } catch (const BadSecret &bad) {
        return core::not_sent(bad.what()).error;
    }
}

core::Outcome hand_over(ChannelKind channel, const std::string &request, const Settings &settings) {
    try {
        switch (channel) {
        case ChannelKind::log:
            return write_to_log(request);
        case ChannelKind::sendgrid:
            return send_through_sendgrid(request, settings);
        case ChannelKind::slack:
            return send_through_slack(request, settings);
        }
        return core::not_sent("the channel is unknown");
    } catch (const CannotSend &why) {
        return core::not_sent(why.what());
    } catch (const BadSecret &bad) {
        return core::not_sent(bad.what());
    }
}

} // namespace job_alerting::server
