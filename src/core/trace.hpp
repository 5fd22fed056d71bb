// An error as a program writes it: a message, a stack trace, the end of a log.

#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace job_alerting::core {

// The line that says what went wrong, clean and on one line: of a stack trace the exception, of a
// log the last error, else the first line. Known are the traces of Python, Java and its kin, Node,
// .NET, PHP, Ruby, Go, Rust and Elixir. Empty only where the error is blank; never longer than the
// error; the telling line of a telling line is that line. Bounded in length and linear in time.
std::string telling_line(std::string_view hostile);

// An error as it is shown: its telling line, then the rest of the message, the exception or log
// line above, and the nearest frames; at most `lines` lines and `most` characters, a cut marked.
std::string excerpt(std::string_view hostile, std::size_t lines, std::size_t most);

} // namespace job_alerting::core
