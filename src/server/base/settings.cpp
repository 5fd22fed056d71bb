#include "server/base/prelude.hpp"

#include "server/base/settings.hpp"

#include "server/base/number.hpp"

#include "core/digest.hpp"
#include "core/link.hpp"
#include "core/outcome.hpp"
#include "core/sendgrid.hpp"
#include "core/text.hpp"
#include "core/webhook_format.hpp"
#include "http/endpoint.hpp"

#include <climits>

extern "C" {
#include "access/parallel.h"
}

namespace job_alerting::server {

namespace {

constexpr int day = 24 * 3600;
constexpr int minute = 60 * 1000; // in milliseconds

Number interval = {.name = "job_alerting.interval",
                   .description = "Sets the time between rounds.",
                   .unit = GUC_UNIT_S,
                   .min = 1,
                   .max = 7 * day,
                   .initial = "1h",
                   .fallback = 3600,
                   .fallback_description = "a round runs every hour"};
Number max_listed = {.name = "job_alerting.max_listed",
                     .description = "Sets the maximum number of jobs that a digest lists one by "
                                    "one; it counts the others.",
                     .unit = 0,
                     .min = 0,
                     .max = static_cast<int>(core::listed_limit),
                     .initial = "50",
                     .fallback = 50,
                     .fallback_description = "at most 50 jobs are listed"};
Number http_timeout = {.name = "job_alerting.http_timeout",
                       .description = "Sets the maximum duration of a request.",
                       .unit = GUC_UNIT_MS,
                       .min = 1000,
                       .max = 10 * minute,
                       .initial = "30s",
                       .fallback = 30 * 1000,
                       .fallback_description = "the limit is 30s"};
Number lock_timeout = {.name = "job_alerting.lock_timeout",
                       .description = "Sets the maximum time that a round waits for a lock.",
                       .unit = GUC_UNIT_MS,
                       .min = 1,
                       .max = 10 * minute,
                       .initial = "5s",
                       .fallback = 5 * 1000,
                       .fallback_description = "the limit is 5s"};
Number scan_timeout = {.name = "job_alerting.scan_timeout",
                       .description = "Sets the maximum duration of a failure query.",
                       .unit = GUC_UNIT_MS,
                       .min = 1,
                       .max = 24 * 60 * minute,
                       .initial = "5min",
                       .fallback = 5 * minute,
                       .fallback_description = "the limit is 5min"};
Number retention = {.name = "job_alerting.retention",
                    .description = "Sets the age at which failures that were reported and no "
                                   "longer stand are deleted.",
                    .unit = GUC_UNIT_S,
                    .min = 0,
                    .max = INT_MAX / day * day,
                    .initial = "90d",
                    .fallback = INT_MAX,
                    .fallback_description = "no failure is deleted"};
const Number *const numbers[] = {&interval,     &max_listed,   &http_timeout,
                                 &lock_timeout, &scan_timeout, &retention};

// By ChannelKind.
constexpr const char *channels_meaning = "A comma-separated list of log, sendgrid, smtp, slack and "
                                         "webhook. If empty, failures are only recorded.";

constexpr const char *on_in_doubt_words[] = {"resend", "hold"};

char *channels = nullptr;
char *mail_from = nullptr;
char *mail_to = nullptr;
char *job_url = nullptr;
char *sendgrid_api_key_file = nullptr;
char *sendgrid_url = nullptr;
char *smtp_url = nullptr;
char *smtp_credentials_file = nullptr;
char *slack_webhook_url_file = nullptr;
char *webhook_url_file = nullptr;
char *webhook_secret_file = nullptr;
char *webhook_format = nullptr;
char *heartbeat_url_file = nullptr;
char *on_in_doubt = nullptr;
char *ca_file = nullptr;
char *proxy = nullptr;

// True while define_settings() runs: the server then checks values from the configuration file.
bool defining = false;

// Rejects an invalid value when a user sets it. A value that is found at server start, or stored
// with a database, is kept and rejected when a digest is to be sent: otherwise the server would use
// the default, and a mistyped test address must not become the real one, nor 'hald' become
// 'resend'. A parallel worker inherits its leader's settings: rejecting a kept value there would
// make every parallel query fail.
bool may_refuse(GucSource source) {
    if (defining || InitializingParallelWorker)
        return false;
    return source == PGC_S_FILE || source == PGC_S_TEST || source >= PGC_S_INTERACTIVE;
}

// Runs a check that may throw, for a check hook, which must not throw.
template <typename Fault> bool check(char **value, GucSource source, Fault &&fault_of) noexcept {
    if (!may_refuse(source))
        return true;
    try {
        const std::string fault = fault_of(std::string(*value ? *value : ""));
        if (fault.empty())
            return true;
        GUC_check_errdetail("%s", fault.c_str());
    } catch (...) {
        GUC_check_errdetail("Out of memory.");
    }
    return false;
}

bool check_channels(char **value, void **, GucSource source) {
    return check(value, source, [](const std::string &text) -> std::string {
        std::vector<ChannelKind> parsed;
        std::string unknown;
        if (parse_channels(text.c_str(), parsed, unknown))
            return {};
        return "\"" + unknown +
               "\" is not a channel; channels are log, sendgrid, smtp, slack and webhook.";
    });
}

std::string as_sentence(const std::string &fault) {
    return fault.empty() ? fault : "The address cannot be used: " + fault + ".";
}

bool check_sendgrid_url(char **value, void **, GucSource source) {
    return check(value, source,
                 [](const std::string &text) { return as_sentence(http::endpoint_fault(text)); });
}

bool check_smtp_url(char **value, void **, GucSource source) {
    return check(value, source, [](const std::string &text) {
        return text.empty() ? text : as_sentence(http::mail_server_fault(text));
    });
}

bool check_webhook_format(char **value, void **, GucSource source) {
    return check(value, source, [](const std::string &text) -> std::string {
        return text == "json" || core::webhook_format(text)
                   ? ""
                   : "Available values: json, " + core::webhook_format_names() + ".";
    });
}

bool check_job_url(char **value, void **, GucSource source) {
    return check(value, source,
                 [](const std::string &text) { return as_sentence(core::job_url_fault(text)); });
}

bool check_proxy(char **value, void **, GucSource source) {
    return check(value, source,
                 [](const std::string &text) { return as_sentence(http::proxy_fault(text)); });
}

// SendGrid takes only addresses in ASCII, mail servers others too.
core::LocalPart local_part() {
    std::vector<ChannelKind> parsed;
    std::string unknown;
    parse_channels(channels, parsed, unknown);
    const bool by_smtp = std::find(parsed.begin(), parsed.end(), ChannelKind::smtp) != parsed.end();
    return by_smtp ? core::LocalPart::utf8 : core::LocalPart::ascii;
}

// An empty list is accepted here and reported when a digest is to be sent.
bool check_addresses(char **value, GucSource source, std::size_t max, const char *too_many) {
    return check(value, source, [&](const std::string &text) -> std::string {
        try {
            return text.empty() || core::parse_addresses(text, local_part()).size() <= max
                       ? ""
                       : too_many;
        } catch (const core::BadAddress &bad) {
            return std::string(bad.what()) + ".";
        }
    });
}

bool check_mail_from(char **value, void **, GucSource source) {
    return check_addresses(value, source, 1, "A mail can have only one sender.");
}

bool check_mail_to(char **value, void **, GucSource source) {
    return check_addresses(value, source, core::max_recipients,
                           "A mail can have at most 1000 recipients.");
}

// Returns the keyword in its canonical spelling, or nullptr if the text is not a keyword.
const char *on_in_doubt_word(const char *text) {
    for (const char *word : on_in_doubt_words)
        if (text && pg_strcasecmp(text, word) == 0)
            return word;
    return nullptr;
}

bool check_on_in_doubt(char **value, void **, GucSource source) {
    return check(value, source, [](const std::string &text) -> std::string {
        return on_in_doubt_word(text.c_str()) ? "" : "Available values: resend, hold.";
    });
}

const char *show_on_in_doubt() {
    const char *word = on_in_doubt_word(on_in_doubt);
    return word ? word : on_in_doubt;
}

template <Number *number> bool check_number(char **value, void **, GucSource source) {
    const bool good = check(value, source, [](const std::string &text) -> std::string {
        return is_number(*number, text.c_str()) ? ""
                                                : "The value must be " + range_of(*number) + ".";
    });
    if (!good)
        GUC_check_errhint("%s", number->unit == 0
                                    ? "Write a whole number."
                                    : "Write a number and one of the units \"us\", \"ms\", \"s\", "
                                      "\"min\", \"h\" and \"d\".");
    return good;
}

template <Number *number> const char *show_number() {
    return shown(*number);
}

void define_text(const char *name, const char *description, const char *more, char **variable,
                 const char *initial, GucContext context, int flags = 0,
                 GucStringCheckHook check_hook = nullptr, GucShowHook show_hook = nullptr) {
    DefineCustomStringVariable(name, description, more, variable, initial, context, flags,
                               check_hook, nullptr, show_hook);
}

template <Number *number> void define_number(GucContext context) {
    define_text(number->name, number->description, nullptr, &number->text, number->initial, context,
                0, check_number<number>, show_number<number>);
}

std::string text_of(const char *value) {
    return value ? value : "";
}

} // namespace

Settings current_settings() {
    return {.interval = value_of(interval),
            .channels = text_of(channels),
            .mail_from = text_of(mail_from),
            .mail_to = text_of(mail_to),
            .job_url = text_of(job_url),
            .max_listed = static_cast<std::size_t>(value_of(max_listed)),
            .sendgrid_api_key_file = text_of(sendgrid_api_key_file),
            .sendgrid_url = text_of(sendgrid_url),
            .smtp_url = text_of(smtp_url),
            .smtp_credentials_file = text_of(smtp_credentials_file),
            .slack_webhook_url_file = text_of(slack_webhook_url_file),
            .webhook_url_file = text_of(webhook_url_file),
            .webhook_secret_file = text_of(webhook_secret_file),
            .webhook_format = text_of(webhook_format),
            .heartbeat_url_file = text_of(heartbeat_url_file),
            .http_timeout = value_of(http_timeout),
            .hold_in_doubt = on_in_doubt_word(on_in_doubt) != on_in_doubt_words[0],
            .retention = value_of(retention),
            .ca_file = text_of(ca_file),
            .proxy = text_of(proxy)};
}

int lock_timeout_setting() {
    return value_of(lock_timeout);
}
int scan_timeout_setting() {
    return value_of(scan_timeout);
}
std::int64_t interval_setting() {
    return value_of(interval);
}

std::vector<SettingFault> setting_faults() {
    std::vector<SettingFault> faults;
    const auto add = [&](const char *setting, const char *initial, const std::string &what) {
        // The value may be invalid in the database's encoding.
        if (!what.empty())
            faults.push_back({setting, initial, core::not_sent(what).error});
    };
    for (const Number *number : numbers)
        add(number->name, number->initial, fault_of(*number));
    if (!on_in_doubt_word(on_in_doubt))
        add("job_alerting.on_in_doubt", on_in_doubt_words[0],
            "job_alerting.on_in_doubt is \"" + core::one_line(text_of(on_in_doubt), 60) +
                "\", which is neither resend nor hold; until it is fixed, no digest in doubt is "
                "sent again");
    return faults;
}

void define_settings() {
    defining = true;

    define_number<&interval>(PGC_SIGHUP);
    define_text("job_alerting.channels", "Sets the channels that digests are sent through.",
                channels_meaning, &channels, "log", PGC_SUSET, GUC_LIST_INPUT, check_channels);
    define_text("job_alerting.mail_from", "Sets the sender of mails.",
                "An address, or a name and an address in angle brackets.", &mail_from, "",
                PGC_SUSET, GUC_SUPERUSER_ONLY, check_mail_from);
    define_text("job_alerting.mail_to", "Sets the recipients of mails.",
                "A comma-separated list of addresses, or of names with an address in angle "
                "brackets.",
                &mail_to, "", PGC_SUSET, GUC_SUPERUSER_ONLY, check_mail_to);
    define_text("job_alerting.job_url", "Sets the URL of a job, for the links in a digest.",
                "{queue}, {job_id}, {source}, {job_type}, {target_type} and {target_id} are "
                "replaced by the job's values, percent-encoded. If empty, a digest has no links.",
                &job_url, "", PGC_SUSET, 0, check_job_url);
    define_number<&max_listed>(PGC_SUSET);
    define_text("job_alerting.sendgrid_api_key_file",
                "Sets the file that contains the SendGrid API key.",
                "If empty, the server's environment variable SENDGRID_API_KEY is used.",
                &sendgrid_api_key_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY);
    define_text("job_alerting.sendgrid_url", "Sets the base URL of SendGrid's API.",
                "The EU region is https://api.eu.sendgrid.com. Plain http is allowed only to the "
                "loopback interface.",
                &sendgrid_url, "https://api.sendgrid.com", PGC_SIGHUP, 0, check_sendgrid_url);
    define_text("job_alerting.smtp_url", "Sets the URL of the mail server.",
                "smtp://host:587 (STARTTLS is required) or smtps://host:465. A mail server on this "
                "machine needs no TLS.",
                &smtp_url, "", PGC_SIGHUP, 0, check_smtp_url);
    define_text("job_alerting.smtp_credentials_file",
                "Sets the file that contains the login at the mail server.",
                "The user on its first line, the password on its second. If empty, there is no "
                "login.",
                &smtp_credentials_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY);
    define_text("job_alerting.slack_webhook_url_file",
                "Sets the file that contains the URL of the Slack webhook.",
                "If empty, the server's environment variable SLACK_WEBHOOK_URL is used.",
                &slack_webhook_url_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY);
    define_text("job_alerting.webhook_url_file",
                "Sets the file that contains the URL that digests are posted to as JSON.", nullptr,
                &webhook_url_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY);
    define_text("job_alerting.webhook_secret_file",
                "Sets the file that contains the secret that such messages are signed with.",
                "whsec_ and 24 to 64 bytes in base64. If empty, they are not signed.",
                &webhook_secret_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY);
    define_text("job_alerting.webhook_format", "Sets the form of digests that are posted to a URL.",
                "json is for programs; the others are the forms of the receivers of these names.",
                &webhook_format, "json", PGC_SUSET, 0, check_webhook_format);
    define_text("job_alerting.heartbeat_url_file",
                "Sets the file that contains the URL to request after each complete round.",
                "An external watchdog at that URL notices when rounds stop. If empty, no heartbeat "
                "is sent.",
                &heartbeat_url_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY);
    define_number<&http_timeout>(PGC_SIGHUP);
    define_number<&lock_timeout>(PGC_SIGHUP);
    define_number<&scan_timeout>(PGC_SIGHUP);
    define_text("job_alerting.on_in_doubt",
                "Sets the action for a digest that was sent but whose answer was lost.",
                "resend sends it again, byte for byte the same; hold waits for an operator.",
                &on_in_doubt, on_in_doubt_words[0], PGC_SUSET, 0, check_on_in_doubt,
                show_on_in_doubt);
    define_number<&retention>(PGC_SUSET);
    define_text("job_alerting.ca_file", "Sets the file of trusted certificate authorities.",
                "If empty, the system's certificate authorities are trusted.", &ca_file, "",
                PGC_SIGHUP, GUC_SUPERUSER_ONLY);
    define_text("job_alerting.proxy", "Sets the proxy for requests to providers.",
                "If empty, no proxy is used; environment variables are ignored.", &proxy, "",
                PGC_SIGHUP, GUC_SUPERUSER_ONLY, check_proxy);
    MarkGUCPrefixReserved("job_alerting");

    defining = false;
}

} // namespace job_alerting::server
