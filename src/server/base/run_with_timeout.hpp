// Optional work of a transaction, under a time limit.

#pragma once

#include "server/base/guard.hpp"

namespace job_alerting::server {

// Runs `work`, which reads in the open transaction, in a subtransaction. Returns false if it was
// cancelled because it took longer than `milliseconds`; it may then have been done in part.
// Exceptions of `work` propagate; the transaction is then unusable.
bool run_with_timeout(int milliseconds, const std::function<void()> &work);

} // namespace job_alerting::server
