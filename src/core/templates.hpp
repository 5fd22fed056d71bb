// The mustache templates of the mail. templates/embed generates their definitions.

#pragma once

namespace job_alerting::core {

extern const char *const digest_text_template;
extern const char *const digest_html_template;

} // namespace job_alerting::core
