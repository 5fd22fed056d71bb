// Asking a worker for something, from a user's session. C regime.

#pragma once

#include "server/coordination/work_order.hpp"

namespace job_alerting::server {

// Raises an error where no worker could do what `function` ("run_digest") promises.
void refuse_where_no_worker_serves(const char *function);

// The task of a worker, and where it answers.
struct Question {
    dsm_segment *segment;
    WorkerReport *report;
    shm_mq *queue;
    WorkOrder order;
};

Question prepare_question(Task task);

// Asks a worker, and makes its rows the result of the function that was called. `what` and
// `committed` as for raise_what_failed().
void ask_worker(FunctionCallInfo fcinfo, Task task, const char *what,
                const char *committed = nullptr);

// Starts a worker; waits, interruptibly, for a free slot. Null when none became free.
BackgroundWorkerHandle *try_to_start(const WorkOrder &order);

// Waits for the worker's end. Cancelling ends this wait, and not a round that has begun. Returns
// whether it came to the end of what was asked for.
bool await_end(BackgroundWorkerHandle *handle, WorkerReport *report);

// Raises as an error what the worker reported, or that it reported nothing. `what` was asked for:
// "the round"; `committed`: what stays of it, none for what only looks.
void raise_what_failed(const WorkerReport *report, const char *what,
                       const char *committed = nullptr);

} // namespace job_alerting::server
