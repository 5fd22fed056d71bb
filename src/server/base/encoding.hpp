// Text between the database, in its encoding, and core, in UTF-8.

#pragma once

#include <string>

namespace job_alerting::server {

// All but copy_text() need an open transaction, and put '?' for a character that the other encoding
// lacks.

// From the database's encoding. In an SQL_ASCII database the bytes stay what they are: core
// makes valid UTF-8 of whatever it is given.
std::string to_utf8(const std::string &text);

// The same in the C regime.
const char *utf8_of(const char *text);

// To the database's encoding. What core adds to text is ASCII, so all of it has a place there.
std::string from_utf8(const std::string &text);

// Copies text of the database into `size` bytes, cut on a character boundary. C regime; raises no
// error.
void copy_text(char *target, std::size_t size, const char *text);

} // namespace job_alerting::server
