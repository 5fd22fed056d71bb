// The forms of a digest for receivers that have a form of their own: mustache templates of JSON, in
// templates/.

#pragma once

#include "core/webhook.hpp"

#include <cstddef>
#include <string>
#include <string_view>

namespace job_alerting::core {

// A receiver's form and limits; doc/channels.md cites the sources of the limits.
struct WebhookFormat {
    const char *name;
    const char *content_template;
    std::size_t max_bytes; // of the whole body
    std::size_t max_text;  // bytes of `text` in UTF-8
};

// Returns nullptr if the name is unknown.
const WebhookFormat *webhook_format(std::string_view name);

// The names of all formats in words: "discord, google_chat, mattermost and teams".
std::string webhook_format_names();

// Renders the body of a digest. The template has the values text, code (the text without backticks,
// for a code block), subject, message_id and timestamp. Every value is escaped for JSON before it
// meets the template, so no text of a job can break the template. Counts what the limits omit.
std::string formatted_body(const Digest &digest, const WebhookEvent &event,
                           const WebhookFormat &format, std::size_t max_listed,
                           const std::string &job_url);

// Renders the body of a test message.
std::string formatted_test_body(const Mail &test, const WebhookEvent &event,
                                const WebhookFormat &format);

} // namespace job_alerting::core
