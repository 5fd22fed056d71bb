// Where a failure query runs: as its owner, with no power but to read. C regime.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

// How a failure query is confined.
struct Confinement {
    const char *owner;           // the role that it runs as; an error of the query when it is gone
    int time_limit = 0;          // ms; 0 for none. Only a worker may set one.
    const char *queue = nullptr; // for warnings; none in the trial of a query without a queue
};

// Runs `work` in a subtransaction that is rolled back afterwards, so that nothing of it stays but
// what `work` copied out of it: read-only, in a security-restricted operation (no SET ROLE, no
// temporary objects), with search_path = pg_catalog, pg_temp and lock_timeout as
// job_alerting.lock_timeout says. Advisory locks that it leaves to the session are released. In a
// worker, of its messages below an error only the first reaches the server's log.
//
// Past the time limit the work is cancelled; where that does not end it,
// connections are cut, and then the process ends (time_limit.hpp).
//
// An error of the work passes, after the subtransaction is rolled back.
void sandboxed(const Confinement &confinement, void (*work)(void *), void *argument);

// The same for a lambda.
template <typename Work> void sandboxed(const Confinement &confinement, Work &work) {
    sandboxed(
        confinement, [](void *argument) { (*static_cast<Work *>(argument))(); }, &work);
}

// Whether the last sandbox of this process ended in an error: it is that of a failure query, then.
// False again once that error is forgotten, since it was dealt with or is of another scan.
bool last_sandbox_failed();
void forget_sandbox_error();

// Whether that was the end of its time, and nothing else: its limit may be shorter than what a
// failure query may take.
bool last_sandbox_met_limit();

// Milliseconds that this process has spent in sandboxes.
double time_in_sandboxes();

// To be called once by each worker, before its first sandbox.
void prepare_sandboxes();

// Whether an error says that a lock or a time limit ended the work, rather than that it is wrong.
bool is_limit(int sqlstate);

} // namespace job_alerting::server
