// What a key has to be before it is sent, and the file that holds it.

#pragma once

#include <string>
#include <sys/stat.h>

namespace job_alerting::http {

// The longest key, and the largest file that is read for one.
inline constexpr std::size_t max_key = 4096;

// Why a file may not hold a key; empty when it may. It must be a regular one as the server wants
// ssl_key_file: `user`'s with no access for others, or root's with at most read access for the
// group. At most 4 KiB.
std::string key_file_fault(const struct stat &file, uid_t user);

// The key in what a file or the environment holds: without a byte order mark and one line end.
std::string key_in(std::string text);

// Why a text cannot be a key; empty when it can. Never holds any of it.
std::string key_fault(const std::string &text);

} // namespace job_alerting::http
