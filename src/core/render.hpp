// A digest in words: subject, plain text and HTML, the same facts in both.

#pragma once

#include "core/digest.hpp"

#include <cstddef>
#include <string>

namespace job_alerting::core {

struct Mail {
    std::string subject; // one line
    std::string text;    // lines end in LF, 78 columns where the data allow it
    std::string html;    // at most max_html_bytes
};

// Above about 102 kB Gmail clips a mail.
inline constexpr std::size_t max_html_bytes = 80 * 1000;

// `max_listed`: jobs listed one by one; fewer where the HTML would be too large. All others are
// counted, block by block. `job_url`: an address for a job, in which {queue} {job_id} {source}
// {job_type} {target_type} {target_id} are replaced by the job's, percent-encoded; empty for no
// links. A digest without a number (id 0) is one that was not recorded.
// Needs no locale and no clock: the same digest gives the same bytes.
Mail render(const Digest &digest, std::size_t max_listed, const std::string &job_url);

} // namespace job_alerting::core
