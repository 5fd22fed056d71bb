// The subject of a digest, and the headline above its body.

#pragma once

#include "core/digest.hpp"

#include <cstdint>
#include <string>

namespace job_alerting::core {

// "4 jobs failed in prod/approachnote". Also counts the queues that could not be read.
std::string headline(const Digest &digest);

// The headline, the kinds of job that failed, and the digest's number.
std::string subject(const Digest &digest);

// "1 job", "2 jobs".
std::string counted(std::int64_t count, const char *one, const char *many);

} // namespace job_alerting::core
