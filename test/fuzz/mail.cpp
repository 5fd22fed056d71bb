// Hostile failures in DigestBuilder, render() and sendgrid_body(). For any failures:
//
//   the digest counts each failure once;
//   subject, text and HTML are valid UTF-8 without control and bidirectional characters, the
//   subject is one line, the HTML at most 80 kB;
//   the request is ASCII and JSON, and has them unchanged;
//   no < or > of a job is one in the HTML: the same failures with parentheses instead give the same
//   HTML, and the same failures give the same bytes; no line of a job in the text looks like the
//   beginning of a block, a note or the footer.
//
// Input: records. The first: database, cluster, job_url, a note, max_listed, and how often the
// failures are repeated under other names. Each other one is a failure: its fields in the order of
// failure_of(), the last of them the error.

#include "property.hpp"

#include "core/sendgrid.hpp"
#include "core/slack.hpp"
#include "core/webhook_format.hpp"

using namespace job_alerting::core;
using namespace job_alerting::fuzz;

namespace {

constexpr std::size_t max_failures = 16; // of one input, so that its HTML needs no cut
constexpr long max_copies = 10;

struct Input {
    std::string database, cluster, job_url, note;
    std::size_t max_listed = 0;
    long copies = 1;
    std::vector<Failure> failures;
};

std::optional<std::string> or_none(const std::string &text) {
    return text.empty() ? std::nullopt : std::optional(text);
}

std::optional<int> number(Fields &fields) {
    const auto text = or_none(fields.next());
    return text ? std::optional(static_cast<int>(std::strtol(text->c_str(), nullptr, 10)))
                : std::nullopt;
}

Failure failure_of(const std::string &record) {
    Fields fields(record, unit_separator);
    Failure failure;
    failure.queue = fields.next();
    failure.job_id = fields.next();
    failure.source = or_none(fields.next());
    failure.job_type = or_none(fields.next());
    failure.target_type = or_none(fields.next());
    failure.target_id = or_none(fields.next());
    failure.status = or_none(fields.next());
    failure.attempts = number(fields);
    failure.max_attempts = number(fields);
    if (const auto time = number(fields))
        failure.failed_at = Moment{*time, "2026-07-14 03:10:00+02:00"};
    failure.chain = or_none(fields.next());
    failure.error = or_none(fields.rest());
    return failure;
}

Input input_from(const std::string &bytes) {
    Fields records(bytes, record_separator);
    Fields fields(records.next(), unit_separator);
    Input input;
    input.database = fields.next();
    input.cluster = fields.next();
    input.job_url = fields.next();
    input.note = fields.next();
    input.max_listed = static_cast<std::size_t>(std::clamp(fields.next_number(), 0L, 1000L));
    input.copies = std::clamp(fields.next_number(), 1L, max_copies);
    while (records.has_more() && input.failures.size() < max_failures)
        input.failures.push_back(failure_of(records.next()));
    return input;
}

// Another name, without a digit, since those are masked in an error.
std::string variant(long number) {
    return std::string(static_cast<std::size_t>(number), 'x');
}

Digest digest_of(const Input &input) {
    DigestBuilder builder(input.max_listed);
    for (long copy = 0; copy < input.copies; ++copy) {
        for (Failure failure : input.failures) {
            if (copy > 0)
                failure.job_type = variant(copy) + failure.job_type.value_or("");
            builder.add(failure);
        }
    }
    Digest digest = builder.finish();
    digest.id = 17;
    digest.database = input.database;
    digest.cluster = input.cluster;
    if (!input.note.empty())
        digest.notes.push_back(input.note);
    return digest;
}

void check_counts(const Digest &digest, const Input &input) {
    std::int64_t counted = digest.unnamed;
    for (const Group &group : digest.groups)
        for (const Cause &cause : group.causes)
            counted += cause.count;
    require(counted == digest.count, "each failure is counted once");
    require(digest.count == input.copies * static_cast<std::int64_t>(input.failures.size()),
            "all failures are counted");
}

std::size_t lines_that_begin(const std::string &text, const std::string &with) {
    return occurrences("\n" + text, "\n" + with);
}

void check_text(const Mail &mail) {
    const std::string &text = mail.text;
    require(is_fit_to_show(text), "the text is fit to show");
    require(text.ends_with("\n") && !text.ends_with("\n\n"), "the text ends in one line feed");
    require(text.find(" \n") == text.npos, "no trailing spaces");
    require(text.find("\n\n\n") == text.npos, "no two empty lines in succession");
    require(lines_that_begin(text, "* ") ==
                occurrences(mail.html, "<b dir=\"auto\" style=\"font-size:15px\">"),
            "each block of the text is one of the HTML");
    require(lines_that_begin(text, "Note:") == occurrences(mail.html, "<b>Note:</b>"),
            "each note of the text is one of the HTML");
    require(lines_that_begin(text, "Digest #") == 1, "one footer");
}

bool begins_entity(std::string_view text) {
    for (const char *entity : {"&amp;", "&lt;", "&gt;", "&quot;", "&apos;", "&nbsp;"})
        if (text.starts_with(entity))
            return true;
    return false;
}

void check_html(const std::string &html) {
    require(is_fit_to_show(html), "the HTML is fit to show");
    require(html.size() <= max_html_bytes, "the HTML is at most 80 kB");
    for (auto at = html.find('&'); at != html.npos; at = html.find('&', at + 1))
        require(begins_entity(std::string_view(html).substr(at)), "each & is escaped");
    const std::string before = "<a href=\"";
    for (auto at = html.find(before); at != html.npos; at = html.find(before, at + 1)) {
        const auto end = html.find('"', at + before.size());
        require(html.compare(end, 9, "\" style=\"") == 0, "a link ends where it should");
    }
}

void check_body(const Mail &mail) {
    Envelope envelope;
    envelope.digest_id = 17;
    envelope.from = {"alerts@example.com", "Job alerts"};
    envelope.to = {{"ops@example.com", ""}};
    const std::string body = sendgrid_body(mail, envelope);
    require(is_printable_ascii(body), "the request is ASCII");
    const auto json = nlohmann::json::parse(body, nullptr, false);
    require(!json.is_discarded(), "the request is JSON");
    require(json["subject"] == mail.subject && json["content"][0]["value"] == mail.text &&
                json["content"][1]["value"] == mail.html,
            "the request holds the mail as it is");
}

void check_message(const std::string &body, const std::string &job_url) {
    require(is_printable_ascii(body), "the message is ASCII");
    const auto message = nlohmann::json::parse(body, nullptr, false);
    require(!message.is_discarded(), "the message is JSON");
    require(message["blocks"].size() <= max_slack_blocks, "the message has few blocks");
    require(characters(message.dump()) <= max_slack_characters, "the message is bounded");
    require(characters(message["blocks"][0]["text"]["text"].get<std::string>()) <= 150,
            "the header is bounded");
    const std::string notification = message["text"];
    require(is_one_line(notification) && notification.find_first_of("<>") == notification.npos,
            "the notification is one line without markup");
    require(!job_url.empty() || body.find("\"type\":\"link\"") == body.npos, "no other links");
}

void check_event(const std::string &body, const Mail &mail, const Digest &digest) {
    require(is_printable_ascii(body), "the event is a line of ASCII");
    require(body.size() <= max_webhook_bytes, "the event is bounded");
    const auto json = nlohmann::json::parse(body, nullptr, false);
    require(!json.is_discarded(), "the event is JSON");
    const auto &data = json["data"];
    require(data["subject"] == mail.subject, "the event has the subject");
    require(data["omitted"]["failures"].get<std::int64_t>() >= 0 &&
                data["omitted"]["failures"].get<std::int64_t>() +
                        static_cast<std::int64_t>(data["failures"].size()) ==
                    digest.count,
            "the event counts the failures that it does not list");
}

// No text of a job breaks the template of a format.
void check_formats(const Digest &digest, const Mail &mail, const Input &input,
                   const WebhookEvent &event) {
    for (const char *name : {"discord", "google_chat", "mattermost", "teams"}) {
        const std::string body =
            formatted_body(digest, event, *webhook_format(name), input.max_listed, input.job_url);
        require(is_printable_ascii(body), "the message is a line of ASCII");
        const auto json = nlohmann::json::parse(body, nullptr, false);
        require(!json.is_discarded(), "the message is JSON");
        if (json.contains("attachments"))
            require(json["attachments"][0]["content"]["fallbackText"] == mail.subject,
                    "the card has the subject");
        else
            require(json.size() == (json.contains("content") ? 2 : 1), "it has no other members");
    }
}

std::string bracketed(std::string text) {
    std::replace(text.begin(), text.end(), '<', '(');
    std::replace(text.begin(), text.end(), '>', ')');
    return text;
}

void replace_all(std::string &text, std::string_view what, std::string_view with) {
    for (auto at = text.find(what); at != text.npos; at = text.find(what, at + with.size()))
        text.replace(at, what.size(), with);
}

// An escaped angle bracket of a job as what bracketed() makes of it.
std::string unescaped(std::string html) {
    replace_all(html, "&lt;", "(");
    replace_all(html, "&gt;", ")");
    replace_all(html, "%3C", "%28"); // in a link
    replace_all(html, "%3E", "%29");
    return html;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    const std::string bytes(input_of(data, size));
    const Input input = input_from(bytes);
    const Digest digest = digest_of(input);
    check_counts(digest, input);
    const Mail mail = render(digest, input.max_listed, input.job_url);
    require(is_one_line(mail.subject), "the subject is one line, fit to show");
    require(characters(mail.subject) <= 600, "the subject is bounded");
    check_text(mail);
    check_html(mail.html);
    check_body(mail);
    check_message(slack_body(digest, input.max_listed, input.job_url), input.job_url);
    const WebhookEvent event = {"job-alerting-17", "2026-07-14T01:00:00Z"};
    check_event(webhook_body(digest, event, input.max_listed, input.job_url), mail, digest);
    check_formats(digest, mail, input, event);

    if (input.copies > 1)
        return 0;

    const Input other = input_from(bracketed(bytes));
    const Mail harmless = render(digest_of(other), other.max_listed, other.job_url);
    require(unescaped(mail.html) == unescaped(harmless.html), "no < of a job is a tag");
    require(unescaped(bracketed(mail.text)) == unescaped(harmless.text) &&
                bracketed(mail.subject) == harmless.subject,
            "nothing else depends on it");
    return 0;
}
