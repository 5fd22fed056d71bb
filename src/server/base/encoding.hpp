// Conversion between the database's encoding and UTF-8, which core uses.

#pragma once

#include <string>

namespace job_alerting::server {

// All functions but copy_text() need an open transaction, and replace a character that the target
// encoding lacks with '?'.

// From the database's encoding. The bytes of an SQL_ASCII database are not converted: core makes
// any input valid UTF-8.
std::string to_utf8(const std::string &text);

// to_utf8() for the C regime; may return `text` itself.
const char *utf8_of(const char *text);

// To the database's encoding. Core adds only ASCII to a text, so nothing it adds is lost.
std::string from_utf8(const std::string &text);

// Copies text in the database's encoding into `size` bytes, truncated at a character boundary. C
// regime; raises no error.
void copy_text(char *target, std::size_t size, const char *text);

} // namespace job_alerting::server
