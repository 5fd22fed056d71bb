// Terminal control sequences of ECMA-48: colours, titles, links, character sets.

#pragma once

#include <cstddef>
#include <string_view>

namespace job_alerting::core {

// The length in bytes of the control sequence at the beginning of the text; 0 if there is none.
// Knows both forms: ESC, and a C1 control (U+0080 to U+009F). A string such as a title must end in
// its line. If it does not, only the introducer counts, so that the sequence hides no text.
std::size_t escape_sequence(std::string_view text);

} // namespace job_alerting::core
