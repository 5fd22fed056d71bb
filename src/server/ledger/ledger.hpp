// The queues and the ledger: the statements by which a round scans queues and records failures. All
// functions throw what Transaction throws.

#pragma once

#include "server/base/transaction.hpp"
#include "server/queue/scan.hpp"

namespace job_alerting::server {

struct Queue {
    std::string name;
    std::string failure_query;
    Value never_ran_query; // of the steps that never ran; none when the queue has none
    Value jobs;            // the table that watch() wrote the queries for, as SQL names it
    Value key;             // and the column of its primary key
    std::string owner;
    std::string since;
    std::string watched_at;   // distinguishes it from a later queue of the same name
    bool broken = false;      // its last scan failed
    bool never_ended = false; // its last scan did not end, and no other worker is scanning
    bool due = true;          // false while such a queue is skipped
    bool beside_endless =
        false;               // its last scan, or that of another queue of its owner, never ended
    double last_scan_ms = 0; // duration of its last successful scan; 0 for none
    double last_turn = 0;    // time of its last turn, or when it was watched; seconds since 1970
};

// A failure query could not be read. Any other error in a scan is not the fault of the queue.
struct Unreadable : ServerError {
    explicit Unreadable(const ServerError &error) : ServerError(error) {}
};

namespace ledger {

// Returns all queues: first those that watch() or a superuser declared, then the others, the
// longest watched first in both. So no role can move a queue ahead of existing ones.
std::vector<Queue> queues(Transaction &transaction);

// Returns the queue for C code; valid as long as the queue.
ScannedQueue scanned(const Queue &queue);

enum class ScanBegin {
    begun,
    gone, // the queue was unwatched or redefined
    held, // another session holds its row, for example an open transaction that called watch()
};

// `is_turn`: the scan has the full scan_timeout. A scan with less time does not count as the turn
// of the queue; otherwise a slow queue could get only short scans in every round. `wait`: wait for
// a lock on the row of the queue.
ScanBegin begin_scan(Transaction &transaction, const Queue &queue, bool is_turn, bool wait);

// Runs `work`, which runs a failure query. Throws an error of the query as Unreadable.
template <typename Work> void read_queue(Transaction &transaction, Work &&work) {
    forget_sandbox_error();
    try {
        transaction.run(work);
    } catch (const ServerError &error) {
        if (last_sandbox_failed())
            throw Unreadable(error);
        throw;
    }
}

enum class ScanEnd {
    recorded,
    recovered, // the same, and the queue was recorded as unreadable before
    gone,      // the queue was unwatched or redefined; roll back
};

// Runs and records a scan.
ScanEnd scan(Transaction &transaction, const Queue &queue, int time_limit);

// Marks a scan as ended without a result for the queue.
void end_scan(Transaction &transaction, const std::string &queue);

// Marks the queue as postponed, unless another session holds its row.
void postpone(Transaction &transaction, const std::string &queue);

// Marks the queue as unreadable and records that as a failure of the queue itself, once for each
// breakage: at once when it is `certain`, otherwise when the previous scan failed as well. Returns
// whether the failure was recorded.
bool break_queue(Transaction &transaction, const std::string &queue, const std::string &error,
                 bool certain);

// The same for a queue whose last scan never ended, which is not certain. Does nothing while
// another session holds its row.
bool break_unended(Transaction &transaction, const std::string &queue);

} // namespace ledger

} // namespace job_alerting::server
