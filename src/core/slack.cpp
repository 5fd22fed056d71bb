#include "core/slack.hpp"

#include "core/headline.hpp"
#include "core/phrases.hpp"
#include "core/text.hpp"

#include <nlohmann/json.hpp>

#include <string_view>
#include <utility>
#include <vector>

namespace job_alerting::core {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t max_header = 150; // characters

Json body_of(const std::string &subject, const Phrases &phrases);
Json message_of(const std::string &text, Json blocks);
Json section(const std::string &text);
std::string escaped(std::string_view text);
std::size_t size_of(const Json &body);

} // namespace

std::string slack_body(const Digest &digest, std::size_t max_listed, const std::string &job_url) {
    const std::string line = subject(digest);
    Extent extent = full_extent(digest, max_listed);
    std::size_t notes = max_notes;
    for (;;) {
        const Json body = body_of(line, phrases_of(digest, extent, job_url, notes));
        const std::size_t size = size_of(body);
        const std::size_t blocks = body["blocks"].size();
        const bool fits = size <= max_slack_characters && blocks <= max_slack_blocks;
        if (fits || (extent.is_nothing() && notes == 0))
            return body.dump(-1, ' ', true, Json::error_handler_t::replace);
        // Terminates: a digest without causes and notes is far below the limits.
        if (extent.is_nothing())
            --notes;
        else if (size > max_slack_characters)
            extent = reduced(extent, size, max_slack_characters);
        else
            extent = fewer_causes(extent, blocks, max_slack_blocks);
    }
}

std::string slack_text(const std::string &text) {
    const Json body = message_of(text, Json::array({section(text)}));
    return body.dump(-1, ' ', true, Json::error_handler_t::replace);
}

Request slack_request(const std::string &webhook_url, std::string body) {
    return {
        .url = webhook_url, .headers = {"Content-Type: application/json"}, .body = std::move(body)};
}

namespace {

Json notes_block(const std::vector<std::string> &notes);
Json cause_block(const CausePhrases &cause);
void add_sections(Json &blocks, const std::vector<SectionPhrases> &sections);
std::string header_of(const std::string &headline);
std::string joined_lines(const std::vector<std::string> &lines);

// Job text goes into elements without markup: plain_text, or text in a rich text. In mrkdwn, *, _,
// ~ and the backtick cannot be escaped.
Json plain(const std::string &text) {
    return {{"type", "plain_text"}, {"text", text}, {"emoji", false}};
}

Json section(const std::string &text) {
    return {{"type", "section"}, {"text", plain(text)}};
}

Json text_element(const std::string &text) {
    return {{"type", "text"}, {"text", text}};
}

Json bold(const std::string &text) {
    Json element = text_element(text);
    element["style"] = {{"bold", true}};
    return element;
}

Json link(const std::string &url) {
    return {{"type", "link"}, {"url", url}};
}

// A part of a rich text: rich_text_section or rich_text_preformatted.
Json part(const char *type, Json elements) {
    return {{"type", type}, {"elements", std::move(elements)}};
}

Json paragraph(Json elements) {
    return part("rich_text_section", std::move(elements));
}

Json rich_text(Json parts) {
    return part("rich_text", std::move(parts));
}

Json body_of(const std::string &subject, const Phrases &phrases) {
    Json blocks = Json::array();
    blocks.push_back({{"type", "header"}, {"text", plain(header_of(phrases.headline))}});
    blocks.push_back(section(phrases.period));
    if (!phrases.notes.empty())
        blocks.push_back(notes_block(phrases.notes));
    add_sections(blocks, phrases.sections);
    if (const std::string rest = joined_lines({phrases.rest, phrases.unnamed}); !rest.empty())
        blocks.push_back(section(rest));
    blocks.push_back({{"type", "divider"}});
    Json footer = Json::array(
        {plain(phrases.origin + (phrases.previous.empty() ? "" : " " + phrases.previous) + " " +
               phrases.standing)});
    if (!phrases.query.empty())
        footer.push_back(plain(phrases.query));
    blocks.push_back({{"type", "context"}, {"elements", std::move(footer)}});
    return message_of(subject, std::move(blocks));
}

Json message_of(const std::string &text, Json blocks) {
    return {
        {"text", escaped(text)}, // shown in notifications
        {"mrkdwn", false},       {"blocks", std::move(blocks)},
        {"unfurl_links", false}, {"unfurl_media", false},
    };
}

Json notes_block(const std::vector<std::string> &notes) {
    Json parts = Json::array();
    for (const std::string &note : notes)
        parts.push_back(paragraph(Json::array({bold("Note: "), text_element(note + "\n")})));
    return rich_text(std::move(parts));
}

void add_sections(Json &blocks, const std::vector<SectionPhrases> &sections) {
    for (const SectionPhrases &section_phrases : sections) {
        blocks.push_back({{"type", "divider"}});
        if (!section_phrases.title.empty())
            blocks.push_back(
                rich_text(Json::array({paragraph(Json::array({bold(section_phrases.title)}))})));
        // A single cause already shows the break, unless an earlier digest reported it.
        if (!section_phrases.never_ran.empty() || section_phrases.broke_before ||
            (!section_phrases.broke.empty() && section_phrases.causes.size() > 1))
            blocks.push_back(
                section(joined_lines({section_phrases.broke, section_phrases.never_ran})));
        for (const CausePhrases &cause : section_phrases.causes)
            blocks.push_back(cause_block(cause));
        if (!section_phrases.rest.empty())
            blocks.push_back(section(section_phrases.rest));
    }
}

void add_job(Json &parts, const JobPhrases &job) {
    Json elements = Json::array();
    const std::string facts = joined_lines({job.name, job.facts, job.no_error});
    if (!facts.empty())
        elements.push_back(text_element("\n" + facts + (job.link.empty() ? "" : "\n")));
    if (!job.link.empty())
        elements.push_back(link(job.link));
    if (!elements.empty())
        parts.push_back(paragraph(std::move(elements)));
    if (!job.error.empty())
        parts.push_back(
            part("rich_text_preformatted", Json::array({text_element(joined_lines(job.error))})));
}

Json cause_block(const CausePhrases &cause) {
    const std::string count = cause.count.empty() ? "" : ": " + cause.count;
    const std::string mark = cause.mark.empty() ? "" : ", " + cause.mark;
    Json head = Json::array({bold(cause.title + count + mark)});
    // Listed jobs show their own errors.
    const std::string error = cause.jobs.empty() ? cause.error : "";
    if (const std::string more = joined_lines({cause.reported, cause.period, cause.note, error});
        !more.empty())
        head.push_back(text_element("\n" + more));
    Json parts = Json::array({paragraph(std::move(head))});
    for (const JobPhrases &job : cause.jobs)
        add_job(parts, job);
    if (!cause.rest.empty())
        parts.push_back(paragraph(Json::array({text_element("\n" + cause.rest)})));
    return rich_text(std::move(parts));
}

// Joins the lines that are not empty.
std::string joined_lines(const std::vector<std::string> &lines) {
    std::string all;
    for (const std::string &line : lines)
        if (!line.empty())
            all += (all.empty() ? "" : "\n") + line;
    return all;
}

// Fits the limit even if Slack counts escaped characters.
std::string header_of(const std::string &headline) {
    std::size_t max_length = max_header;
    std::string header = clip(headline, max_length);
    while (characters(escaped(header)) > max_header)
        header = clip(headline, --max_length);
    return header;
}

std::string escaped(std::string_view text) {
    std::string result;
    for (const char c : text) {
        if (c == '&')
            result += "&amp;";
        else if (c == '<')
            result += "&lt;";
        else if (c == '>')
            result += "&gt;";
        else
            result += c;
    }
    return result;
}

// Slack does not document how it counts, and has refused messages with far less text than its
// limit. Therefore all of the JSON counts, with characters escaped.
std::size_t size_of(const Json &body) {
    return characters(escaped(body.dump(-1, ' ', false, Json::error_handler_t::replace)));
}

} // namespace

} // namespace job_alerting::core
