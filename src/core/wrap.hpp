// Wraps plain text for terminals and old mail readers.

#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace job_alerting::core {

// Breaks lines between words so that they have at most `width` characters if possible. Continuation
// lines are indented by two more columns, or repeat the quote bar. Removes trailing spaces and
// repeated empty lines. The result ends with one line feed.
std::string wrap(std::string_view text, std::size_t width);

} // namespace job_alerting::core
