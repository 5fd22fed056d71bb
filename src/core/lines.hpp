// Text as lines.

#pragma once

#include <string_view>
#include <vector>

namespace job_alerting::core {

// The lines of a text, without their line feeds, as views of it. The last line needs no line feed.
std::vector<std::string_view> lines_of(std::string_view text);

} // namespace job_alerting::core
