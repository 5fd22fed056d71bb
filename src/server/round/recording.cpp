#include "server/base/prelude.hpp"

#include "server/round/recording.hpp"

#include "server/base/settings.hpp"
#include "server/coordination/shared.hpp"
#include "server/queue/sandbox.hpp"

#include <cmath>
#include <tuple>

namespace job_alerting::server {

namespace {

// The prompt queues of one owner share this part of scan_timeout; all prompt queues share half of
// it.
constexpr double owners_part = 0.1;
constexpr double prompt_part = 0.5;

double owners_share() {
    return owners_part * scan_timeout_setting();
}

// Commits the start of a scan, so that a scan that never ends leaves a trace.
ledger::ScanBegin announce(const Queue &queue, bool is_turn, bool wait) {
    try {
        Transaction transaction(lock_timeout_setting());
        const ledger::ScanBegin begin = ledger::begin_scan(transaction, queue, is_turn, wait);
        transaction.commit();
        return begin;
    } catch (const ServerError &error) {
        if (error.sqlstate != ERRCODE_LOCK_NOT_AVAILABLE)
            throw;
        return ledger::ScanBegin::held;
    }
}

// Records nothing if the queue was unwatched or redefined during the scan.
void scan(const Queue &queue, int limit) {
    Transaction transaction(lock_timeout_setting());
    const ledger::ScanEnd end = ledger::scan(transaction, queue, limit);
    if (end == ledger::ScanEnd::gone)
        return;
    transaction.commit();
    if (end == ledger::ScanEnd::recovered)
        guarded([&] {
            ereport(LOG, (errmsg("job_alerting can read queue \"%s\" again", queue.name.c_str())));
        });
}

// Withdraws the deadline: the next step sets its own.
void end_promise() {
    guarded([] { shared::set_deadline(MyDatabaseId, 0); });
}

void end_scan(const Queue &queue) {
    Transaction transaction(lock_timeout_setting());
    ledger::end_scan(transaction, queue.name);
    transaction.commit();
}

void mark_broken(const Queue &queue, const Unreadable &error) {
    Transaction transaction(lock_timeout_setting());
    if (ledger::break_queue(transaction, queue.name, error.words(), !is_limit(error.sqlstate)))
        warn("job_alerting cannot read queue \"" + queue.name + "\": " + error.words());
    transaction.commit();
}

bool comes_late(const Queue &queue) {
    return queue.broken || queue.beside_endless || takes_long(queue);
}

// Milliseconds that a scan will probably take. With less time left, the scan is not begun.
double expected(const Queue &queue) {
    return queue.broken ? 0 : std::min<double>(queue.last_scan_ms, scan_timeout_setting());
}

// Whether the query was ended by a limit shorter than scan_timeout, and by nothing else.
bool was_cut(double limit) {
    return last_sandbox_met_limit() && limit < scan_timeout_setting();
}

} // namespace

bool takes_long(const Queue &queue) {
    return queue.last_scan_ms > owners_share();
}

void note_unended(const Queue &queue) {
    try {
        Transaction transaction(lock_timeout_setting());
        ledger::break_unended(transaction, queue.name);
        transaction.commit();
    } catch (const ServerError &error) {
        warn("job_alerting cannot note that a scan of queue \"" + queue.name +
             "\" never ended: " + error.words());
    }
}

Recording::Recording(const std::vector<Queue> &queues) {
    for (const Queue &queue : queues)
        (comes_late(queue) ? late_ : prompt_).push_back(&queue);
}

void Recording::record_prompt(const std::function<void()> &before_each) {
    for (const Queue *queue : prompt_) {
        double &share = shares_[queue->owner];
        const double before = taken_;
        const double limit =
            std::min(owners_share() - share, prompt_part * scan_timeout_setting() - taken_);
        if (locked_out_ || limit <= 0) {
            late_.push_back(queue);
            continue;
        }
        before_each();
        if (read(*queue, false, limit) != Reading::done)
            late_.push_back(queue);
        share += taken_ - before;
    }
}

// Wait for a locked queue row at most once per round.
void Recording::record_late(const std::function<void()> &before_each) {
    bool wait = true;
    taken_ = 0;
    order_late();
    for (const Queue *queue : late_) {
        const double limit = late_limit();
        if (!queue->due) {
            unread.add("queue " + queue->name + " is skipped, because its scans do not end");
            continue;
        }
        if (locked_out_ || limit <= 0 || expected(*queue) > limit) {
            postpone(*queue);
            continue;
        }
        before_each();
        switch (read(*queue, wait, limit)) {
        case Reading::done:
            break;
        case Reading::held:
            wait = false;
            report_unread(*queue, "another session holds its row", false);
            break;
        case Reading::cut:
            postpone(*queue);
        }
    }
}

// The quick queues must not shorten the time of a query that needs nearly all of scan_timeout.
double Recording::late_limit() const {
    return taken_ < owners_share() ? scan_timeout_setting() : scan_timeout_setting() - taken_;
}

// Owners take turns. The first queue of an owner is the one that has waited longest. Queues that
// may end this process come last.
void Recording::order_late() {
    std::stable_sort(late_.begin(), late_.end(), [](const Queue *one, const Queue *other) {
        return one->last_turn < other->last_turn;
    });
    std::map<std::string, int> queues;
    std::map<std::string, double> owners_turn;
    for (const Queue *queue : late_)
        owners_turn[queue->owner] = queue->last_turn;
    std::vector<std::tuple<int, int, double, const Queue *>> order;
    for (const Queue *queue : late_)
        order.emplace_back(queue->beside_endless + queue->never_ended, queues[queue->owner]++,
                           owners_turn[queue->owner], queue);
    std::stable_sort(order.begin(), order.end(), [](const auto &one, const auto &other) {
        return std::tie(std::get<0>(one), std::get<1>(one), std::get<2>(one)) <
               std::tie(std::get<0>(other), std::get<1>(other), std::get<2>(other));
    });
    std::transform(order.begin(), order.end(), late_.begin(),
                   [](const auto &place) { return std::get<3>(place); });
}

Recording::Reading Recording::read(const Queue &queue, bool wait, double limit) {
    const double before = time_in_sandboxes();
    Reading reading = Reading::done;
    try {
        const ledger::ScanBegin begin = announce(queue, limit >= scan_timeout_setting(), wait);
        if (begin == ledger::ScanBegin::held)
            reading = Reading::held;
        else if (begin == ledger::ScanBegin::begun)
            scan(queue, static_cast<int>(std::ceil(limit)));
    } catch (const Unreadable &error) {
        end_promise();
        if (was_cut(limit)) {
            reading = Reading::cut;
            note(queue, [&] { end_scan(queue); });
        } else {
            const bool noted = note(queue, [&] { mark_broken(queue, error); });
            report_unread(queue, error.words(), noted);
        }
    } catch (const ServerError &error) {
        end_promise();
        fail(queue, error);
    }
    taken_ += time_in_sandboxes() - before;
    return reading;
}

// A lock on the row of the queue, held for example by an open transaction that called watch(),
// prevents the note but not the rest of the round.
bool Recording::note(const Queue &queue, const std::function<void()> &write) {
    try {
        write();
        return true;
    } catch (const ServerError &error) {
        warn("job_alerting cannot note what is wrong with queue \"" + queue.name +
             "\": " + error.words());
        if (error.sqlstate != ERRCODE_LOCK_NOT_AVAILABLE)
            own.add(std::string("the state of queues cannot be kept: ") + error.words());
        return false;
    }
}

void Recording::report_unread(const Queue &queue, const std::string &why, bool noted) {
    const std::string what = "queue " + queue.name + " cannot be read: " + why;
    unread.add(what);
    if (!noted)
        unreported.add(what);
}

void Recording::fail(const Queue &queue, const ServerError &error) {
    locked_out_ = error.sqlstate == ERRCODE_LOCK_NOT_AVAILABLE;
    own.add(std::string("failures cannot be recorded: ") + error.words());
    warn("job_alerting cannot record the failures of queue \"" + queue.name +
         "\": " + error.words());
    note(queue, [&] { end_scan(queue); });
}

void Recording::postpone(const Queue &queue) {
    postponed.push_back(&queue);
    note(queue, [&] {
        Transaction transaction(lock_timeout_setting());
        ledger::postpone(transaction, queue.name);
        transaction.commit();
    });
}

} // namespace job_alerting::server
