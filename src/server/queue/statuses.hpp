// The values of the status column of a job table. C regime.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

// Lists, for messages, the statuses of finished or exhausted jobs that are known neither as
// failures nor as successes; null if there are none. Reads the table with its owner's privileges;
// of a large table, reads a sample. Only a worker may set a time limit (ms; 0 for none). SPI need
// not be connected.
char *unknown_statuses(Relation jobs, Oid owner, int time_limit);

} // namespace job_alerting::server
