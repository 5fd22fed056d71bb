#include "core/webhook_format.hpp"

#include "core/headline.hpp"
#include "core/layout.hpp"
#include "core/phrases.hpp"
#include "core/templates.hpp"

#include <kainjow/mustache.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <iterator>

namespace job_alerting::core {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t code_block = 7; // bytes of the marks around `code`

const WebhookFormat formats[] = {
    {"discord", discord_template, max_webhook_bytes, 2000 - code_block},
    {"google_chat", google_chat_template, 32000, max_webhook_bytes},
    {"mattermost", mattermost_template, max_webhook_bytes, 16383 - code_block},
    {"teams", teams_template, 28000, max_webhook_bytes},
};

std::string body_of(const WebhookFormat &format, const WebhookEvent &event,
                    const std::string &subject, const std::string &text);

} // namespace

const WebhookFormat *webhook_format(std::string_view name) {
    const auto found =
        std::find_if(std::begin(formats), std::end(formats),
                     [&](const WebhookFormat &format) { return format.name == name; });
    return found == std::end(formats) ? nullptr : found;
}

std::string webhook_format_names() {
    std::string names;
    for (const WebhookFormat &format : formats) {
        if (!names.empty())
            names += &format == std::end(formats) - 1 ? " and " : ", ";
        names += format.name;
    }
    return names;
}

std::string formatted_body(const Digest &digest, const WebhookEvent &event,
                           const WebhookFormat &format, std::size_t max_listed,
                           const std::string &job_url) {
    const std::string line = subject(digest);
    Extent extent = full_extent(digest, max_listed);
    std::size_t notes = max_notes;
    for (;;) {
        const std::string text = render_text(phrases_of(digest, extent, job_url, notes));
        std::string body = body_of(format, event, line, text);
        const bool fits = text.size() <= format.max_text && body.size() <= format.max_bytes;
        if (fits || (extent.is_nothing() && notes == 0))
            return body;
        // Terminates: a digest without causes and notes is far below the limits.
        if (extent.is_nothing())
            --notes;
        else if (text.size() > format.max_text)
            extent = reduced(extent, text.size(), format.max_text);
        else
            extent = reduced(extent, body.size(), format.max_bytes);
    }
}

std::string formatted_test_body(const Mail &test, const WebhookEvent &event,
                                const WebhookFormat &format) {
    return body_of(format, event, test.subject, test.text);
}

namespace {

std::string escaped(const std::string &text) {
    const std::string quoted = Json(text).dump(-1, ' ', true, Json::error_handler_t::replace);
    return quoted.substr(1, quoted.size() - 2);
}

std::string body_of(const WebhookFormat &format, const WebhookEvent &event,
                    const std::string &subject, const std::string &text) {
    std::string code = text;
    std::replace(code.begin(), code.end(), '`', '\'');
    kainjow::mustache::data values;
    values["subject"] = escaped(subject);
    values["text"] = escaped(text);
    values["code"] = escaped(code);
    values["message_id"] = escaped(event.message_id);
    values["timestamp"] = escaped(event.timestamp);
    kainjow::mustache::mustache content{format.content_template};
    content.set_custom_escape([](const std::string &value) { return value; });
    return Json::parse(content.render(values)).dump(-1, ' ', true);
}

} // namespace

} // namespace job_alerting::core
