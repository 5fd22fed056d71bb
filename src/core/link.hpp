// The address of a job in somebody's administration pages.

#pragma once

#include "core/failure.hpp"

#include <string>

namespace job_alerting::core {

// `job_url` with its placeholders replaced by what the job has, percent-encoded. Empty when that is
// not an http address, or is one that could not lead to this job.
std::string job_link(const std::string &job_url, const Failure &job);

// What keeps `job_url` from ever giving a link, for people; empty when nothing does, as when there
// is none.
std::string job_url_fault(const std::string &job_url);

} // namespace job_alerting::core
