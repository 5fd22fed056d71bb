// check() of one queue: whether rounds can read it, and whether they may miss failures, report them
// twice, or take long.

#pragma once

#include "server/coordination/rows.hpp"
#include "server/ledger/ledger.hpp"

namespace job_alerting::server {

// Returns a row for the queue and, if it can be read, one for each check of it. An error that the
// server raises about the queue is a finding; otherwise throws what Transaction and Rows throw. No
// transaction may be open; writes nothing.
void check_queue(const Queue &queue, Rows &rows);

} // namespace job_alerting::server
