// The first part of a round: every queue's failures into the ledger.
//
// Queues that are expected to be quick come first, and those of each owner have a share of the time
// together. What takes longer comes late, after the others have been told: queues that took long
// before, cannot be read, or were cut short by the share. For them there is as much time as one
// failure query may take (job_alerting.scan_timeout), in which the owners take turns: first comes
// the one who has waited longest. A queue for which no time is left is postponed to the next round.

#pragma once

#include "server/base/problems.hpp"
#include "server/ledger/ledger.hpp"

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace job_alerting::server {

// Whether the queue's scans take so long that it comes late.
bool takes_long(const Queue &queue);

// Keeps with the queue that its last scan never ended; two such scans in succession are recorded
// as a failure of its own.
void note_unended(const Queue &queue);

// Records queue after queue. One that cannot be read keeps that with it and, once it is certain, is
// recorded as a failure of its own; the others go on. `before_each` is called before each scan.
class Recording {
public:
    // The queues stay the caller's.
    explicit Recording(const std::vector<Queue> &queues);

    void record_prompt(const std::function<void()> &before_each);

    bool has_late() const { return !late_.empty(); }
    void record_late(const std::function<void()> &before_each);

    // Queues that could not be read.
    Problems unread;

    // Of those, the ones whose rows cannot say so.
    Problems unreported;

    // Errors of the round's own statements.
    Problems own;

    // The queues for which no time was left.
    std::vector<const Queue *> postponed;

private:
    enum class Reading { done, held, cut };

    Reading read(const Queue &queue, bool wait, double limit);
    void fail(const Queue &queue, const ServerError &error);
    bool note(const Queue &queue, const std::function<void()> &write);
    void tell_unread(const Queue &queue, const std::string &why, bool noted);
    double late_limit() const;
    void order_late();
    void postpone(const Queue &queue);

    std::vector<const Queue *> prompt_;
    std::vector<const Queue *> late_;
    std::map<std::string, double> shares_; // ms that the prompt queues of an owner have taken
    double taken_ = 0;                     // ms of all failure queries of this part of the round
    bool locked_out_ = false;              // somebody holds a lock on the ledger
};

} // namespace job_alerting::server
