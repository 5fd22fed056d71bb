// The queues, and what their scans leave in the ledger: the statements of a round before it has
// digests. All functions throw what Transaction throws.

#pragma once

#include "server/scan.hpp"
#include "server/transaction.hpp"

namespace job_alerting::server {

struct Queue {
    std::string name;
    std::string failure_query;
    std::string owner;
    std::string since;
    std::string watched_at;   // tells it from one that is later watched under the same name
    bool broken = false;      // its last scan failed
    bool never_ended = false; // its last scan did not end: nobody else is scanning, so it died
    bool due = true;          // false while such a queue is left alone
};

namespace ledger {

// All queues, those first that have been watched longest: whoever comes later, or changes what he
// has, cannot get before them.
std::vector<Queue> queues(Transaction &transaction);

// Whether any queue is known not to be readable.
bool has_broken(Transaction &transaction);

// The same as C code takes it; it lives no longer than the queue.
ScannedQueue scanned(const Queue &queue);

enum class ScanBegin {
    begun,
    gone, // the queue is no longer watched so
    held, // somebody holds its own row: an open transaction that called watch(), say
};

// Waits for somebody who holds the queue's row only when it is told to.
ScanBegin begin_scan(Transaction &transaction, const Queue &queue, bool wait);

enum class ScanEnd {
    recorded,
    mended, // likewise; and that the queue could not be read, which was recorded, is over
    gone,   // the queue is no longer watched so; what was found must be rolled back
};

// Runs and records a scan.
ScanEnd scan(Transaction &transaction, const Queue &queue, int time_limit);

// The queue cannot be read, which is recorded as a failure of its own, once for each breakage:
// at once when it is `certain`, and otherwise when the scan before this one failed as well. Returns
// whether it was recorded.
bool break_queue(Transaction &transaction, const std::string &queue, const std::string &error,
                 bool certain);

// The same for a queue whose last scan never ended; not certain. Later, when its row is held.
bool break_unended(Transaction &transaction, const std::string &queue);

} // namespace ledger

} // namespace job_alerting::server
