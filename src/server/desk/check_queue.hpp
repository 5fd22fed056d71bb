// check() of one queue: whether rounds can read it, and what they may miss, tell twice or be slowed
// down by.

#pragma once

#include "server/coordination/rows.hpp"
#include "server/ledger/ledger.hpp"

namespace job_alerting::server {

// Returns a row for the queue and, when it can be read, one for each thing about it that was looked
// at. What the server says against the queue is a finding; otherwise throws what Transaction and
// Rows throw. No transaction is open; writes nothing.
void check_queue(const Queue &queue, Rows &rows);

} // namespace job_alerting::server
