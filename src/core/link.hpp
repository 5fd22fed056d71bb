// The address of a job in the user's admin pages.

#pragma once

#include "core/failure.hpp"

#include <string>

namespace job_alerting::core {

// `job_url` with its placeholders replaced by the percent-encoded values of the job. Empty if the
// result is not an http address, or could not lead to this job.
std::string job_link(const std::string &job_url, const Failure &job);

// The reason why `job_url` can never give a link, in words. Empty if it is valid or empty.
std::string job_url_fault(const std::string &job_url);

} // namespace job_alerting::core
