// Plain text as a terminal and an old mail reader like it.

#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace job_alerting::core {

// Lines of at most `width` characters where words allow it, the later parts of a line set in by two
// more than the first, or quoted like it; no trailing spaces, never two empty lines in succession,
// one line feed at the end.
std::string wrap(std::string_view text, std::size_t width);

} // namespace job_alerting::core
