// The first part of a round: record the failures of every queue in the ledger.
//
// Prompt queues, which are expected to be quick, come first; those of one owner share a part of the
// time. Late queues follow after the failures of the prompt ones have been sent: queues that took
// long before, cannot be read, or exceeded the share. All late queues together get the time of one
// failure query (job_alerting.scan_timeout), in which the owners take turns, beginning with the one
// that has waited longest. A queue for which no time is left is postponed to the next round.

#pragma once

#include "server/base/problems.hpp"
#include "server/ledger/ledger.hpp"

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace job_alerting::server {

// Whether the scans of the queue take so long that it is a late queue.
bool takes_long(const Queue &queue);

// Marks the queue as one whose last scan never ended. Two such scans in succession are recorded as
// a failure of the queue itself.
void note_unended(const Queue &queue);

// Records queue after queue. A queue that cannot be read is marked as broken and, once that is
// certain, recorded as a failure of its own; the other queues continue. Calls `before_each` before
// each scan.
class Recording {
public:
    // The queues must outlive this object.
    explicit Recording(const std::vector<Queue> &queues);

    void record_prompt(const std::function<void()> &before_each);

    bool has_late() const { return !late_.empty(); }
    void record_late(const std::function<void()> &before_each);

    // Queues that could not be read.
    Problems unread;

    // Those of them that could not be marked in their rows.
    Problems unreported;

    // Errors of the round's own statements.
    Problems own;

    // Queues for which no time was left.
    std::vector<const Queue *> postponed;

private:
    enum class Reading { done, held, cut };

    Reading read(const Queue &queue, bool wait, double limit);
    void fail(const Queue &queue, const ServerError &error);
    bool note(const Queue &queue, const std::function<void()> &write);
    void report_unread(const Queue &queue, const std::string &why, bool noted);
    double late_limit() const;
    void order_late();
    void postpone(const Queue &queue);

    std::vector<const Queue *> prompt_;
    std::vector<const Queue *> late_;
    std::map<std::string, double> shares_; // ms that the prompt queues of an owner have taken
    double taken_ = 0;                     // ms of all failure queries of this part of the round
    bool locked_out_ = false;              // another session holds a lock on the ledger
};

} // namespace job_alerting::server
