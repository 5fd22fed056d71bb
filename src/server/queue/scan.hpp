// A scan: one queue's failure query, run in its sandbox and compared with the ledger. C regime.
//
// Completeness does not depend on clocks: every failure that the query returns and the ledger does
// not contain is new, whenever it was committed. There is no high-water mark.

#pragma once

#include "server/queue/details.hpp"
#include "server/queue/sandbox.hpp"

namespace job_alerting::server {

struct ScannedQueue {
    const char *name;
    const char *failure_query;
    const char *never_ran_query; // for steps_query(); null for none
    const char *owner;
    const char *since; // timestamptz as text
};

// The result of trying a queue.
struct Trial {
    Omission omission;           // details that could not be read
    TimestampTz identities_read; // when the identities, which every round reads, had been read
};

// The sandbox parameters of the queue's queries.
Confinement confinement_of(const ScannedQueue &queue, int time_limit);

// Runs the queries of a queue once and discards their rows. Raises an error if the queue cannot be
// watched. Only a worker may set a time limit. SPI need not be connected.
Trial try_queue(const ScannedQueue &queue, int time_limit);

// Records the queue's new failures, and marks those that it no longer returns as cleared. Runs in a
// worker's transaction, with SPI connected, as the extension's owner. After an error nothing is
// recorded; last_sandbox_failed() distinguishes an error of the failure query, including an
// exceeded time_limit (ms), from an error of the extension's own statements.
void record_failures(const ScannedQueue &queue, int time_limit);

// The difference between a scan and the ledger.
struct Change {
    Tuplestorestate *found;    // new failures, and other failures of the same jobs
    Tuplestorestate *steps;    // steps that never ran, for the chains of these failures
    Tuplestorestate *standing; // identities of all standing failures
    bool some_cleared;         // some failures cleared, or stand again
};

// Scans a queue without recording anything. The following statements of this SPI connection can use
// the stores as the tables `found`, `steps` and `standing`. Call forget() before the transaction
// commits.
Change find_failures(const ScannedQueue &queue, int time_limit);
void forget(const Change &change);

// Adds the identities of all standing failures to a store.
void read_identities(const ScannedQueue &queue, int time_limit, Tuplestorestate *store);

// Counts the identities in `now` whose job, but not whose occurrence, is in `before`. Jobs that are
// only in `now` are not counted, since they may have failed for the first time. Counts all
// identities if none is in both. Call it once per transaction.
int64 count_unknown(Tuplestorestate *before, Tuplestorestate *now);

} // namespace job_alerting::server
