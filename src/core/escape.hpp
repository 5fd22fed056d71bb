// The control sequences of terminals, as ECMA-48 has them: colours, titles, links, character sets.

#pragma once

#include <cstddef>
#include <string_view>

namespace job_alerting::core {

// The length of the control sequence that the text begins with, in bytes; 0 where it begins with
// none. Both forms are known: after ESC, and after a C1 control (U+0080 to U+009F). A string such
// as a title must end in its line; of one that does not, only the introducer is a sequence, so that
// it hides nothing.
std::size_t escape_sequence(std::string_view text);

} // namespace job_alerting::core
