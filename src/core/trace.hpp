// Reads an error as a program wrote it: a message, a stack trace, or the end of a log.

#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace job_alerting::core {

// The line that names the problem, clean and on one line: the exception of a stack trace, the last
// error of a log, otherwise the first line. Knows the traces of Python, Java and other languages
// of the JVM, Node, .NET, PHP, Ruby, Go, Rust and Elixir. The result is empty only for a blank
// error, is never longer than the error, and is its own telling line. Takes linear time.
std::string telling_line(std::string_view hostile);

// The part of an error that a digest shows: the telling line, the rest of its message, the
// exception or log line above it, and the nearest frames. Has at most `max_lines` lines and
// `max_length` characters, and marks a cut.
std::string excerpt(std::string_view hostile, std::size_t max_lines, std::size_t max_length);

} // namespace job_alerting::core
