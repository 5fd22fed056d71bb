// The queues, and what their scans leave in the ledger: the statements of a round before it has
// digests. All functions throw what Transaction throws.

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
    std::string watched_at;      // tells it from one that is later watched under the same name
    bool broken = false;         // its last scan failed
    bool never_ended = false;    // its last scan did not end: nobody else is scanning, so it died
    bool due = true;             // false while such a queue is left alone
    bool beside_endless = false; // it or another queue of its owner has never ended
    double last_scan_ms = 0;     // of its last successful scan; 0 for never
    double last_turn = 0;        // when it last had its turn, or was watched; seconds of the epoch
};

// A failure query could not be read. Any other error in a scan is not the queue's.
struct Unreadable : ServerError {
    explicit Unreadable(const ServerError &error) : ServerError(error) {}
};

namespace ledger {

// All queues: first those that watch() or a superuser declared, and of these and the others those
// that have been watched longest. A role that comes later, or changes a queue, cannot get before
// them.
std::vector<Queue> queues(Transaction &transaction);

// The same as C code takes it; it lives no longer than the queue.
ScannedQueue scanned(const Queue &queue);

enum class ScanBegin {
    begun,
    gone, // the queue is no longer watched so
    held, // somebody holds its own row: an open transaction that called watch(), say
};

// `is_turn`: the scan has all the time that it may take. One that has less, and is cut short, does
// not count as the queue's turn: a slow queue could have such a scan in each round, and no other.
// Waits for somebody who holds the queue's row only when it is told to.
ScanBegin begin_scan(Transaction &transaction, const Queue &queue, bool is_turn, bool wait);

// Runs `work`, which runs a failure query. An error of that is thrown as Unreadable.
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
    mended, // likewise; and that the queue could not be read, which was recorded, is over
    gone,   // the queue is no longer watched so; what was found must be rolled back
};

// Runs and records a scan.
ScanEnd scan(Transaction &transaction, const Queue &queue, int time_limit);

// A scan was ended, and says nothing about the queue.
void end_scan(Transaction &transaction, const std::string &queue);

// No time was left for the queue in this round; nothing while somebody holds its row.
void postpone(Transaction &transaction, const std::string &queue);

// The queue cannot be read, which is recorded as a failure of its own, once for each breakage:
// at once when it is `certain`, and otherwise when the scan before this one failed as well. Returns
// whether it was recorded.
bool break_queue(Transaction &transaction, const std::string &queue, const std::string &error,
                 bool certain);

// The same for a queue whose last scan never ended; not certain. Later, when its row is held.
bool break_unended(Transaction &transaction, const std::string &queue);

} // namespace ledger

} // namespace job_alerting::server
