// Job data is hostile text. These make it fit to be shown, and comparable.

#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace job_alerting::core {

// Valid UTF-8 without the control sequences of terminals, and without control, bidirectional and
// other invisible characters; a joiner stays behind what it can join. Line feeds are kept, CR LF
// and every other line end become one; a tab becomes a space; a malformed byte becomes '?'. What
// it adds is ASCII, so the result fits every database encoding that the input fitted.
std::string clean(std::string_view hostile);

// The same on one line: every run of white space becomes one space, none at either end.
std::string clean_line(std::string_view hostile);

// clean_line() and clip() in one, without reading more of a long text than is kept of it.
std::string one_line(std::string_view hostile, std::size_t most);

// Whether it shows nothing.
bool shows_nothing(std::string_view hostile);

// How many characters (code points) a clean text has.
std::size_t characters(std::string_view clean_text);

// At most `most` characters of clean text, cut on a character boundary; what was
// cut is marked by "..." within the limit.
std::string clip(std::string_view clean_text, std::size_t most);

// The first lines of an error: at most `lines` non-empty ones and `most` characters, a cut marked.
std::string first_lines(std::string_view hostile, std::size_t lines, std::size_t most);

// The part that two errors of one cause share: the telling line (trace.hpp), with numbers, UUIDs,
// hex numbers, tokens, mail addresses, the parameters of addresses, quoted strings and timestamps
// masked; but an HTTP status or a code of three digits stays. Bounded in length and in time.
std::string normalise_error(std::string_view hostile);

// RFC 3986 percent-encoding of everything but unreserved characters.
std::string percent_encode(std::string_view text);

} // namespace job_alerting::core
