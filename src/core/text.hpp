// Cleans and clips job data, which is hostile text.

#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace job_alerting::core {

// Valid UTF-8 without terminal control sequences and without control, bidirectional and other
// invisible characters. Keeps a joiner after a character that it can join. Every line end becomes
// a line feed, a tab a space, a malformed byte '?'. Adds only ASCII, so the result fits every
// encoding that the input fits.
std::string clean(std::string_view hostile);

// The same on one line: every run of white space becomes one space, with none at either end.
std::string clean_line(std::string_view hostile);

// clean_line() and clip() in one. Reads no more of a long text than it keeps.
std::string one_line(std::string_view hostile, std::size_t max_length);

// True if no character of the text is visible.
bool shows_nothing(std::string_view hostile);

// The number of characters (code points) in a clean text.
std::size_t characters(std::string_view clean_text);

// At most `max_length` characters of clean text. Cuts between characters, and marks a cut by "..."
// within the limit.
std::string clip(std::string_view clean_text, std::size_t max_length);

// The first lines of an error: at most `max_lines` that are not empty, and `max_length` characters.
// Marks a cut.
std::string first_lines(std::string_view hostile, std::size_t max_lines, std::size_t max_length);

// The common part of errors with one cause: the telling line (trace.hpp), with numbers, UUIDs, hex
// numbers, tokens, mail addresses, URL queries, quoted strings and timestamps masked. Keeps an
// HTTP status and a code of three digits. Bounded in length and in time.
std::string normalise_error(std::string_view hostile);

// Appends a mark and the byte in two hexadecimal digits, such as =C3.
void append_hex(std::string &text, char mark, char byte);

// Percent-encodes all but the unreserved characters of RFC 3986.
std::string percent_encode(std::string_view text);

} // namespace job_alerting::core
