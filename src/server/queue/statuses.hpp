// The words that a job table has for how its jobs stand. C regime.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

// Statuses of jobs that have ended, or have used up their attempts, of which no rule knows whether
// they are failures: for people, null when there are none. Reads the table as its owner does, and
// of a large one a sample. A time limit (ms; 0 for none) only in a worker; needs no SPI.
char *unknown_statuses(Relation jobs, Oid owner, int time_limit);

} // namespace job_alerting::server
