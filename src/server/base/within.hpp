// Work that a transaction can do without.

#pragma once

#include "server/base/guard.hpp"

namespace job_alerting::server {

// Runs `work`, which reads in the transaction that is open, for at most so many milliseconds.
// Returns whether it came to its end in time; it may then have done a part. Throws what the work
// throws; the transaction can then only be left.
bool within(int milliseconds, const std::function<void()> &work);

} // namespace job_alerting::server
