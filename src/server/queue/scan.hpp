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
    const char *owner;
    const char *since; // a timestamptz, as text
};

// The facts known of a failure query that was tried.
struct Trial {
    Omission omission;           // details that cannot be read
    TimestampTz identities_read; // when it had returned what each round reads of it
};

// How its failure query is confined.
Confinement confinement_of(const ScannedQueue &queue, int time_limit);

// Runs a failure query once, as its owner, and throws the result away. An error when it is not
// fit to be watched. A time limit only in a worker; needs no SPI.
Trial try_failure_query(const char *query, Oid owner, const char *since, int time_limit);

// Records the queue's new failures, and marks those that it no longer returns as cleared. Runs
// in a worker's transaction, with SPI connected, as the extension's owner. An error means that
// nothing is recorded: last_sandbox_failed() tells whether the queue could not be read, or
// time_limit (ms) was met, or a statement of our own failed.
void record_failures(const ScannedQueue &queue, int time_limit);

// What a scan found that the ledger does not know yet.
struct Change {
    Tuplestorestate *found;    // new failures, and others of their jobs
    Tuplestorestate *standing; // the identities of all that stand
    bool some_cleared;         // or stand again
};

// Only looks: the next statements of this SPI connection can name as the tables `found` and
// `standing` what it returns, until that is forgotten, which is to be done before the transaction
// is committed.
Change find_failures(const ScannedQueue &queue, int time_limit);
void forget(const Change &change);

// Adds to a store the identities of all failures that stand.
void read_identities(const ScannedQueue &queue, int time_limit, Tuplestorestate *store);

// How many identities of `now` are not in `before`, although that has their job: a job that fails
// for the first time is no matter. All, when none is in both. Once in a transaction.
int64 count_unknown(Tuplestorestate *before, Tuplestorestate *now);

} // namespace job_alerting::server
