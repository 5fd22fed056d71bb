// Checks a key and its file before the key is sent.

#pragma once

#include <string>
#include <sys/stat.h>

namespace job_alerting::http {

// Limit on a key and on its file, in bytes.
inline constexpr std::size_t max_key = 4096;

// The fault of a key file; empty if it is valid. The rules of ssl_key_file apply: a regular file
// that belongs to `user` with no access for others, or to root with at most read access for the
// group. The limit is 4 KiB.
std::string key_file_fault(const struct stat &file, uid_t user);

// The key in the content of a file or an environment variable. Strips a byte order mark and one
// line end.
std::string key_in(std::string text);

// The fault of a key; empty if it is valid. Never quotes the key.
std::string key_fault(const std::string &text);

// Why the two lines of such a file cannot be a login; empty when they can. A password may have
// blanks, and letters that are not ASCII.
std::string login_fault(const std::string &text);

} // namespace job_alerting::http
