// Requests to a worker from a user's session. C regime.

#pragma once

#include "server/coordination/work_order.hpp"

namespace job_alerting::server {

// Raises an error if a worker cannot be used: during recovery, in a parallel worker, in a
// security-restricted operation, or before CREATE EXTENSION is committed. `function` is named in
// the message ("run_digest").
void require_worker(const char *function);

// A request to a worker, and the memory for its answer.
struct Request {
    dsm_segment *segment;
    WorkerReport *report;
    shm_mq *queue;
    WorkOrder order;
};

Request prepare_request(Task task);

// Runs a task in a worker and returns its rows as the result of the calling function. `activity`
// and `committed` as for raise_worker_error().
void run_in_worker(FunctionCallInfo fcinfo, Task task, const char *activity,
                   const char *committed = nullptr);

// Starts a worker; waits, interruptibly, for a free slot. Returns null if none became free.
BackgroundWorkerHandle *try_to_start(const WorkOrder &order);

// Waits until the worker has ended. Cancelling ends this wait, but not a round that has begun.
// Returns whether the worker finished its task.
bool await_end(BackgroundWorkerHandle *handle, WorkerReport *report);

// Raises the error that the worker reported, or an error that the worker did not finish. `activity`
// names the task in the message ("the round"); `committed` is the detail about results that remain
// committed, null for a task that only reads.
void raise_worker_error(const WorkerReport *report, const char *activity,
                        const char *committed = nullptr);

} // namespace job_alerting::server
