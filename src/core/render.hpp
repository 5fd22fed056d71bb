// Renders a digest as a mail: subject, plain text and HTML, with the same facts in both.

#pragma once

#include "core/digest.hpp"
#include "core/phrases.hpp"

#include <cstddef>
#include <string>

namespace job_alerting::core {

struct Mail {
    std::string subject; // one line
    std::string text;    // lines end in LF and have 78 columns if the data allow it
    std::string html;    // at most max_html_bytes
};

// Gmail clips a mail above about 102 kB.
inline constexpr std::size_t max_html_bytes = 80 * 1000;

// Lists up to `max_listed` jobs one by one, fewer if the HTML would be too large, and counts the
// others by cause. `job_url` is the address of a job, with the placeholders {queue} {job_id}
// {source} {job_type} {target_type} {target_id}; an empty one gives no links. An id of 0 marks
// a digest that was not recorded. The same digest always gives the same bytes.
Mail render(const Digest &digest, std::size_t max_listed, const std::string &job_url);

// The plain text of these phrases, as in the mail.
std::string render_text(const Phrases &phrases);

} // namespace job_alerting::core
