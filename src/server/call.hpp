// Asking a worker for something, from a user's session. C regime.

#pragma once

#include "server/report.hpp"

namespace job_alerting::server {

// Raises an error where no worker could do what `function` ("run_digest") promises.
void refuse_where_no_worker_serves(const char *function);

// Starts a worker; waits, interruptibly, for a free slot. An error, or null, when none became free.
BackgroundWorkerHandle *start_for_caller(const WorkOrder &order);
BackgroundWorkerHandle *try_to_start(const WorkOrder &order);

// Waits for the worker's end. Cancelling ends this wait, not the worker. Returns whether it came to
// the end of what was asked for.
bool await_end(BackgroundWorkerHandle *handle, const Report *report);

// Raises as an error what the worker reported, or that it reported nothing. `what` was asked for:
// "the round"; `committed`: what stays of it, none for what only looks.
void raise_what_failed(const Report *report, const char *what, const char *committed = nullptr);

// Both.
void await_report(BackgroundWorkerHandle *handle, const Report *report, const char *what,
                  const char *committed = nullptr);

} // namespace job_alerting::server
