// The mustache templates of the mail and of the webhook's formats. templates/embed generates their
// definitions.

#pragma once

namespace job_alerting::core {

extern const char *const digest_text_template;
extern const char *const digest_html_template;
extern const char *const discord_template;
extern const char *const google_chat_template;
extern const char *const mattermost_template;
extern const char *const teams_template;

} // namespace job_alerting::core
