#include "core/outcome.hpp"

#include "core/text.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <limits>
#include <string_view>

namespace job_alerting::core {

namespace {

constexpr std::size_t max_provider_id = 200;
constexpr std::size_t max_error_line = 500;
constexpr std::int64_t max_wait = 3600;

// The differences between providers.
struct ProviderRules {
    const char *address_setting; // holds the provider's address
    bool (*accepts)(const Answer &answer);
    bool refuses_by_200;
    std::string (*complaint)(const Answer &answer); // empty where the answer has none
    const char *(*hint)(int status);                // for its special statuses; else nullptr
};

Outcome interpret(const Answer &answer, std::int64_t now, const ProviderRules &rules);
State state_after(const Answer &answer, const ProviderRules &rules);
std::string describe(const Answer &answer, const ProviderRules &rules);
std::string hint(int status, const ProviderRules &rules);
std::optional<std::int64_t> requested_wait(const Answer &answer, std::int64_t now);
bool sendgrid_accepts(const Answer &answer);
std::string sendgrid_complaint(const Answer &answer);
const char *sendgrid_hint(int status);
bool slack_accepts(const Answer &answer);
std::string plain_complaint(const Answer &answer);
const char *slack_hint(int status);
bool webhook_accepts(const Answer &answer);
const char *webhook_hint(int status);
std::string header(const Answer &answer, const char *name);

} // namespace

const char *to_string(State state) {
    switch (state) {
    case State::pending:
        return "pending";
    case State::sending:
        return "sending";
    case State::in_doubt:
        return "in_doubt";
    case State::accepted:
        return "accepted";
    }
    return "unknown";
}

Outcome interpret_sendgrid(const Answer &answer, std::int64_t now) {
    const ProviderRules rules = {.address_setting = "sendgrid_url",
                                 .accepts = sendgrid_accepts,
                                 .refuses_by_200 = true,
                                 .complaint = sendgrid_complaint,
                                 .hint = sendgrid_hint};
    Outcome outcome = interpret(answer, now, rules);
    outcome.provider_id = ascii_line(header(answer, "x-message-id"), max_provider_id);
    return outcome;
}

Outcome interpret_slack(const Answer &answer, std::int64_t now) {
    const ProviderRules rules = {.address_setting = "slack_webhook_url_file",
                                 .accepts = slack_accepts,
                                 .refuses_by_200 = false,
                                 .complaint = plain_complaint,
                                 .hint = slack_hint};
    return interpret(answer, now, rules);
}

Outcome interpret_webhook(const Answer &answer, std::int64_t now) {
    const ProviderRules rules = {.address_setting = "webhook_url_file",
                                 .accepts = webhook_accepts,
                                 .refuses_by_200 = false,
                                 .complaint = plain_complaint,
                                 .hint = webhook_hint};
    return interpret(answer, now, rules);
}

Outcome not_sent(std::string why) {
    Outcome outcome;
    outcome.error = ascii_line(why, max_error_line);
    return outcome;
}

std::string note_of(const Outcome &outcome) {
    const bool accepted = outcome.state == State::accepted;
    return !accepted || outcome.refused.empty() ? "" : "not delivered to " + outcome.refused;
}

std::string ascii_line(std::string_view hostile, std::size_t max_length) {
    std::string line;
    for (const char c : clean_line(hostile)) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x80)
            line += c;
        else if (byte >= 0xC0)
            line += '?'; // once per character, at its first byte
    }
    return clip(line, max_length);
}

namespace {

Outcome interpret(const Answer &answer, std::int64_t now, const ProviderRules &rules) {
    Outcome outcome;
    outcome.state = state_after(answer, rules);
    outcome.http_status = answer.status;
    if (outcome.state != State::accepted)
        outcome.error = ascii_line(describe(answer, rules), max_error_line);
    if (answer.status == 429)
        outcome.wait = requested_wait(answer, now);
    outcome.content_refused = answer.status == 400 || answer.status == 413;
    return outcome;
}

State state_after(const Answer &answer, const ProviderRules &rules) {
    const int status = answer.status;
    if (status == 0)
        return answer.handed_over ? State::in_doubt : State::pending;
    if (rules.accepts(answer))
        return State::accepted;
    // 3xx and 4xx mean that the message was surely not accepted. Other statuses, such as 5xx, leave
    // that open.
    const bool refused =
        (status == 200 && rules.refuses_by_200) || (status >= 300 && status <= 499);
    return refused ? State::pending : State::in_doubt;
}

const char *sendgrid_hint(int status) {
    switch (status) {
    case 200:
        return "accepted but not queued, as in sandbox mode: check sendgrid_url";
    case 401:
        return "check the API key and the account's credits";
    case 403:
        return "check that mail_from is a verified sender and that the API key may send mail";
    default:
        return nullptr;
    }
}

const char *slack_hint(int status) {
    switch (status) {
    case 200:
        return "the answer did not come from Slack: check slack_webhook_url_file and proxy";
    case 401:
    case 403:
        return "the webhook is not allowed to post: check slack_webhook_url_file and the app in "
               "Slack";
    case 404:
    case 405:
    case 410:
        return "the webhook or its Slack channel no longer exists: check slack_webhook_url_file";
    default:
        return nullptr;
    }
}

const char *webhook_hint(int status) {
    switch (status) {
    case 401:
    case 403:
        return "check webhook_url_file and webhook_secret_file";
    case 410:
        return "the receiver has gone: check webhook_url_file";
    default:
        return nullptr;
    }
}

bool webhook_accepts(const Answer &answer) {
    return answer.status >= 200 && answer.status <= 299;
}

bool sendgrid_accepts(const Answer &answer) {
    return answer.status == 202; // 200: valid, but not queued
}

// Reads {"errors": [{"message": ...}, ...]}. Empty for any other body, such as a proxy's.
std::string sendgrid_complaint(const Answer &answer) {
    const auto json = nlohmann::json::parse(answer.body, nullptr, false);
    const auto errors = json.is_object() ? json.find("errors") : json.end();
    std::string all;
    if (errors == json.end() || !errors->is_array())
        return all;
    for (const auto &error : *errors) {
        const auto message = error.is_object() ? error.find("message") : error.end();
        if (message != error.end() && message->is_string()) {
            all += all.empty() ? "" : "; ";
            all += clean_line(message->get_ref<const std::string &>());
        }
    }
    return all;
}

// A proxy's 200, or one that was cut off, is not Slack's word for it.
bool slack_accepts(const Answer &answer) {
    return answer.status == 200 && answer.body == "ok";
}

// A plain text, such as Slack's word invalid_blocks. A page comes from a proxy.
std::string plain_complaint(const Answer &answer) {
    const std::string line = clean_line(answer.body);
    return line.starts_with('<') ? std::string() : line;
}

std::string describe(const Answer &answer, const ProviderRules &rules) {
    if (answer.status == 0) {
        const std::string complaint = clean_line(answer.error);
        return complaint.empty() ? "no answer" : complaint;
    }
    std::string text = "HTTP " + std::to_string(answer.status);
    const std::string complaint = clip(rules.complaint(answer), max_error_line / 2);
    const std::string advice = hint(answer.status, rules);
    if (complaint.empty())
        return advice.empty() ? text : text + ": " + advice;
    text += ": " + complaint;
    return advice.empty() ? text : text + " (" + advice + ")";
}

// The setting to check; empty where the status does not point to one.
std::string hint(int status, const ProviderRules &rules) {
    if (const char *const special = rules.hint(status))
        return special;
    if (status == 413)
        return "the message is too large: lower max_listed";
    if (status == 429)
        return "too many requests";
    const bool blames_content = status == 400 || status == 415;
    if (blames_content || status < 300 || status > 499)
        return {};
    return (status < 400 ? "a redirect: check " : "check ") + std::string(rules.address_setting) +
           " and proxy";
}

// The number if the header is one, apart from white space. A number out of range becomes the
// maximum.
std::optional<std::int64_t> number(const std::string &header) {
    const std::string line = clean_line(header);
    std::int64_t value = 0;
    const char *const end = line.data() + line.size();
    const auto [stop, fault] = std::from_chars(line.data(), end, value);
    if (stop != end || line.empty() || line.front() == '-')
        return std::nullopt;
    if (fault == std::errc::result_out_of_range)
        return std::numeric_limits<std::int64_t>::max();
    return fault == std::errc() ? std::optional(value) : std::nullopt;
}

// True if the text matches the form, in which # matches a digit and * any character.
bool has_form(std::string_view text, std::string_view form) {
    const auto fits = [](char c, char wanted) {
        return wanted == '*' || (wanted == '#' ? c >= '0' && c <= '9' : c == wanted);
    };
    return std::equal(text.begin(), text.end(), form.begin(), form.end(), fits);
}

// Parses an HTTP date, "Sun, 06 Nov 1994 08:49:37 GMT", to seconds since 1970. strptime() would
// expect the names of the server's locale.
std::optional<std::int64_t> http_date(const std::string &header) {
    using namespace std::chrono;
    constexpr std::string_view names = "JanFebMarAprMayJunJulAugSepOctNovDec";
    const std::string line = clean_line(header);
    if (!has_form(line, "***, ## *** #### ##:##:## GMT"))
        return std::nullopt;
    const auto part = [&](std::size_t at, std::size_t size) {
        int value = 0;
        std::from_chars(line.data() + at, line.data() + at + size, value);
        return value;
    };
    const std::size_t name = names.find(line.substr(8, 3));
    const int hour = part(17, 2), minute = part(20, 2), second = part(23, 2); // leap seconds too
    if (name == names.npos || name % 3 != 0 || hour > 23 || minute > 59 || second > 60)
        return std::nullopt;
    const year_month_day date(year(part(12, 4)), month(name / 3 + 1), day(part(5, 2)));
    if (!date.ok())
        return std::nullopt;
    const std::int64_t days = sys_days(date).time_since_epoch().count();
    return ((days * 24 + hour) * 60 + minute) * 60 + second;
}

// The seconds from now until then; 0 for the past.
std::int64_t until(std::int64_t then, std::int64_t now) {
    return then > now ? then - std::max<std::int64_t>(now, 0) : 0;
}

// The longer of the waits that the two headers request. A time in the past requests none.
std::optional<std::int64_t> requested_wait(const Answer &answer, std::int64_t now) {
    const std::string retry_after = header(answer, "retry-after");
    std::int64_t wait = number(retry_after).value_or(0);
    if (const auto date = http_date(retry_after))
        wait = until(*date, now);
    if (const auto reset = number(header(answer, "x-ratelimit-reset")))
        wait = std::max(wait, until(*reset, now));
    return wait > 0 ? std::optional(std::min(wait, max_wait)) : std::nullopt;
}

std::string header(const Answer &answer, const char *name) {
    const auto found = answer.headers.find(name);
    return found == answer.headers.end() ? std::string() : found->second;
}

} // namespace

} // namespace job_alerting::core
