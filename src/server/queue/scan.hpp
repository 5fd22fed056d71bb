// A scan: one queue's failure query, run in its sandbox and compared with the ledger. C regime.
//
// Completeness rests on state. Whatever the query returns and the ledger does not hold is new,
// whenever it was committed and whatever its clock said; no mark of how far a scan came exists.

#pragma once

#include "server/queue/details.hpp"
#include "server/queue/sandbox.hpp"

namespace job_alerting::server {

struct ScannedQueue {
    const char *name;
    const char *failure_query;
    const char *never_ran_query; // for steps_query(); null for none
    const char *owner;
    const char *since; // a timestamptz, as text
};

// The facts known of a queue that was tried.
struct Trial {
    Omission omission;           // details that cannot be read
    TimestampTz identities_read; // when the part that each round reads had been read
};

// How the queue's queries are confined.
Confinement confinement_of(const ScannedQueue &queue, int time_limit);

// Runs the queries of a queue once and discards their rows. Raises an error when the queue is not
// fit to be watched. Only a worker may set a time limit; needs no SPI.
Trial try_queue(const ScannedQueue &queue, int time_limit);

// Records the queue's new failures, and marks those that it no longer returns as cleared. Runs
// in a worker's transaction, with SPI connected, as the extension's owner. An error means that
// nothing is recorded: last_sandbox_failed() tells whether the queue could not be read, or
// time_limit (ms) was met, or a statement of our own failed.
void record_failures(const ScannedQueue &queue, int time_limit);

// The difference between a scan and the ledger.
struct Change {
    Tuplestorestate *found;    // new failures, and others of their jobs
    Tuplestorestate *steps;    // of their chains, the steps that never ran
    Tuplestorestate *standing; // the identities of all that stand
    bool some_cleared;         // or stand again
};

// Only reads. The next statements of this SPI connection can name the stores as the tables `found`,
// `steps` and `standing`. Call forget() before the transaction commits.
Change find_failures(const ScannedQueue &queue, int time_limit);
void forget(const Change &change);

// Adds to a store the identities of all failures that stand.
void read_identities(const ScannedQueue &queue, int time_limit, Tuplestorestate *store);

// How many identities of `now` are not in `before`, although that has their job: a job that fails
// for the first time is no matter. All, when none is in both. Once in a transaction.
int64 count_unknown(Tuplestorestate *before, Tuplestorestate *now);

} // namespace job_alerting::server
