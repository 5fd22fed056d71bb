#include "server/prelude.hpp"

#include "server/settings.hpp"

#include "core/link.hpp"
#include "http/endpoint.hpp"

#include <climits>

extern "C" {
#include "access/parallel.h"
}

namespace job_alerting::server {

namespace {

enum OnInDoubt { resend, hold };

const config_enum_entry on_in_doubt_options[] = {
    {"resend", resend, false}, {"hold", hold, false}, {nullptr, 0, false}};

int interval = 3600;
char *channels = nullptr;
char *mail_from = nullptr;
char *mail_to = nullptr;
char *job_url = nullptr;
int max_listed = 50;
char *sendgrid_api_key_file = nullptr;
char *sendgrid_url = nullptr;
char *slack_webhook_url_file = nullptr;
char *heartbeat_url_file = nullptr;
int http_timeout = 30 * 1000;
int lock_timeout = 5 * 1000;
int scan_timeout = 5 * 60 * 1000;
int on_in_doubt = resend;
int retention = 90 * 24 * 3600;
char *ca_file = nullptr;
char *proxy = nullptr;

// While a setting is defined, the value that the configuration file gave it is examined.
bool defining = false;

// A bad value is refused where somebody sets it. Where it is found (at server start, or stored
// with a database) it is kept, and refused when something is to be sent: the alternative is the
// default, and a mistyped test address must not become the real one. A parallel worker gets what
// its leader has: if it refused what was kept, every parallel query would fail.
bool may_refuse(GucSource source) {
    if (defining || InitializingParallelWorker)
        return false;
    return source == PGC_S_FILE || source == PGC_S_TEST || source >= PGC_S_INTERACTIVE;
}

// Runs a check that may throw, for a hook that must not.
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
        return "\"" + unknown + "\" is not a channel; channels are log, sendgrid and slack.";
    });
}

std::string as_sentence(const std::string &fault) {
    return fault.empty() ? fault : "The address cannot be used: " + fault + ".";
}

bool check_sendgrid_url(char **value, void **, GucSource source) {
    return check(value, source,
                 [](const std::string &text) { return as_sentence(http::endpoint_fault(text)); });
}

bool check_job_url(char **value, void **, GucSource source) {
    return check(value, source,
                 [](const std::string &text) { return as_sentence(core::job_url_fault(text)); });
}

bool check_proxy(char **value, void **, GucSource source) {
    return check(value, source,
                 [](const std::string &text) { return as_sentence(http::proxy_fault(text)); });
}

void define_text(const char *name, const char *meaning, const char *more, char **variable,
                 const char *initial, GucContext context, int flags = 0,
                 GucStringCheckHook check_hook = nullptr) {
    DefineCustomStringVariable(name, meaning, more, variable, initial, context, flags, check_hook,
                               nullptr, nullptr);
}

void define_number(const char *name, const char *meaning, int *variable, int least, int most,
                   GucContext context, int flags) {
    DefineCustomIntVariable(name, meaning, nullptr, variable, *variable, least, most, context,
                            flags, nullptr, nullptr, nullptr);
}

std::string text_of(const char *value) {
    return value ? value : "";
}

} // namespace

const char *to_string(ChannelKind kind) {
    switch (kind) {
    case ChannelKind::log:
        return "log";
    case ChannelKind::sendgrid:
        return "sendgrid";
    case ChannelKind::slack:
        return "slack";
    }
    return "unknown";
}

Settings current_settings() {
    return {.interval = interval,
            .channels = text_of(channels),
            .mail_from = text_of(mail_from),
            .mail_to = text_of(mail_to),
            .job_url = text_of(job_url),
            .max_listed = static_cast<std::size_t>(max_listed),
            .sendgrid_api_key_file = text_of(sendgrid_api_key_file),
            .sendgrid_url = text_of(sendgrid_url),
            .slack_webhook_url_file = text_of(slack_webhook_url_file),
            .heartbeat_url_file = text_of(heartbeat_url_file),
            .http_timeout = http_timeout,
            .hold_in_doubt = on_in_doubt == hold,
            .retention = retention,
            .ca_file = text_of(ca_file),
            .proxy = text_of(proxy)};
}

int lock_timeout_setting() {
    return lock_timeout;
}
int scan_timeout_setting() {
    return scan_timeout;
}
std::int64_t interval_setting() {
    return interval;
}

bool parse_channels(const char *list, std::vector<ChannelKind> &channels, std::string &unknown) {
    const std::string_view text = list ? list : "";
    const auto trimmed = [](std::string_view word) {
        const auto first = word.find_first_not_of(" \t\r\n");
        if (first == word.npos)
            return std::string_view();
        return word.substr(first, word.find_last_not_of(" \t\r\n") - first + 1);
    };
    channels.clear();
    if (trimmed(text).empty())
        return true;
    bool all_known = true;
    for (std::size_t start = 0; start <= text.size();) {
        const std::size_t comma = std::min(text.find(',', start), text.size());
        const std::string_view word = trimmed(text.substr(start, comma - start));
        start = comma + 1;
        std::optional<ChannelKind> kind;
        for (const ChannelKind candidate :
             {ChannelKind::log, ChannelKind::sendgrid, ChannelKind::slack})
            if (word == to_string(candidate))
                kind = candidate;
        if (!kind && all_known)
            unknown = word;
        all_known = all_known && kind;
        if (kind && std::find(channels.begin(), channels.end(), *kind) == channels.end())
            channels.push_back(*kind);
    }
    return all_known;
}

void define_settings() {
    defining = true;

    define_number("job_alerting.interval", "Time from one round to the next.", &interval, 1,
                  7 * 24 * 3600, PGC_SIGHUP, GUC_UNIT_S);
    define_text(
        "job_alerting.channels", "Channels that digests are sent through.",
        "A comma-separated list of log, sendgrid and slack. Empty: failures are recorded only.",
        &channels, "log", PGC_SUSET, GUC_LIST_INPUT, check_channels);
    define_text("job_alerting.mail_from", "Sender of the mails.",
                "An address, or a name and an address in angle brackets.", &mail_from, "",
                PGC_SUSET);
    define_text("job_alerting.mail_to", "Recipients of the mails.",
                "A comma-separated list; each an address, or a name and an address in angle "
                "brackets.",
                &mail_to, "", PGC_SUSET);
    define_text("job_alerting.job_url", "Address of a job, for the links in a digest.",
                "{queue}, {job_id}, {source}, {job_type}, {target_type} and {target_id} are "
                "replaced by the job's, percent-encoded. Empty: no links.",
                &job_url, "", PGC_SUSET, 0, check_job_url);
    define_number("job_alerting.max_listed",
                  "Jobs listed one by one in a digest; the others are counted.", &max_listed, 0,
                  1000, PGC_SUSET, 0);
    define_text("job_alerting.sendgrid_api_key_file", "File that holds the SendGrid API key.",
                "Empty: the environment variable SENDGRID_API_KEY of the server.",
                &sendgrid_api_key_file, "", PGC_SIGHUP);
    define_text("job_alerting.sendgrid_url", "Base address of SendGrid's API.",
                "For data in the EU: https://api.eu.sendgrid.com. Plain http to this machine only.",
                &sendgrid_url, "https://api.sendgrid.com", PGC_SIGHUP, 0, check_sendgrid_url);
    define_text("job_alerting.slack_webhook_url_file",
                "File that holds the address of the Slack webhook.",
                "Empty: the environment variable SLACK_WEBHOOK_URL of the server.",
                &slack_webhook_url_file, "", PGC_SIGHUP);
    define_text("job_alerting.heartbeat_url_file",
                "File that holds the address to ask for after each round that did all it should.",
                "Empty: none. An outside watchdog there notices when no round comes any more.",
                &heartbeat_url_file, "", PGC_SIGHUP);
    define_number("job_alerting.http_timeout", "Longest time that a request may take.",
                  &http_timeout, 1000, 600 * 1000, PGC_SIGHUP, GUC_UNIT_MS);
    define_number("job_alerting.lock_timeout", "Longest time that a round waits for a lock.",
                  &lock_timeout, 1, 600 * 1000, PGC_SIGHUP, GUC_UNIT_MS);
    define_number("job_alerting.scan_timeout", "Longest time that a failure query may take.",
                  &scan_timeout, 1, 24 * 3600 * 1000, PGC_SIGHUP, GUC_UNIT_MS);
    DefineCustomEnumVariable("job_alerting.on_in_doubt",
                             "What becomes of a digest that was handed over but never answered.",
                             "resend: it is sent again, byte for byte the same. hold: it waits for "
                             "an operator.",
                             &on_in_doubt, resend, on_in_doubt_options, PGC_SUSET, 0, nullptr,
                             nullptr, nullptr);
    define_number("job_alerting.retention",
                  "Age at which failures that were reported and stand no more are forgotten.",
                  &retention, 0, INT_MAX, PGC_SUSET, GUC_UNIT_S);
    define_text("job_alerting.ca_file", "File of the certificate authorities to trust.",
                "Empty: those of the system.", &ca_file, "", PGC_SIGHUP);
    define_text("job_alerting.proxy", "Proxy for requests to providers.",
                "Empty: none, whatever the environment says.", &proxy, "", PGC_SIGHUP, 0,
                check_proxy);
    MarkGUCPrefixReserved("job_alerting");

    defining = false;
}

} // namespace job_alerting::server
