// The parts that make a message unique: time and randomness.

#pragma once

#include <string>

namespace job_alerting::server {

// The time in UTC, in a format of strftime().
std::string utc_now(const char *format);

// Returns 24 hexadecimal digits that nobody can guess. Throws std::runtime_error if the system has
// no random numbers.
std::string random_token();

} // namespace job_alerting::server
