// The sandbox of a failure query: it runs as the queue's owner and read-only. C regime.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

// Parameters of a sandbox.
struct Confinement {
    const char *owner;           // role to run as; if it does not exist, that is the query's error
    int time_limit = 0;          // ms; 0 for none. Only a worker may set a limit.
    const char *queue = nullptr; // name for warnings; null while a query without a queue is tried
};

// Runs `work` in a subtransaction that is then rolled back, so that only data that `work` has
// copied out remains. The subtransaction is read-only and a security-restricted operation (no SET
// ROLE, no temporary objects), with search_path = pg_catalog, pg_temp and with lock_timeout set to
// job_alerting.lock_timeout. Session-level advisory locks that `work` leaves behind are released.
// In a worker, only the first of its messages below level ERROR is written to the server log.
//
// When the time limit expires, the work is cancelled; if it continues, connections are shut down,
// and finally the process ends (time_limit.hpp).
//
// An error of the work is rethrown after the subtransaction is rolled back.
void sandboxed(const Confinement &confinement, void (*work)(void *), void *argument);

// Overload for a lambda.
template <typename Work> void sandboxed(const Confinement &confinement, Work &work) {
    sandboxed(
        confinement, [](void *argument) { (*static_cast<Work *>(argument))(); }, &work);
}

// Whether the last sandbox of this process ended with an error, which is then an error of a failure
// query. forget_sandbox_error() resets it.
bool last_sandbox_failed();
void forget_sandbox_error();

// Whether the time limit of the sandbox caused that error. The limit may be shorter than
// job_alerting.scan_timeout.
bool last_sandbox_met_limit();

// Milliseconds that this process has spent in sandboxes.
double time_in_sandboxes();

// Called once by each worker, before its first sandbox.
void prepare_sandboxes();

// Whether the SQLSTATE reports a lock or time limit, as opposed to an invalid query.
bool is_limit(int sqlstate);

} // namespace job_alerting::server
