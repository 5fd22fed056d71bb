#include "server/prelude.hpp"

#include "server/recording.hpp"

#include "server/round_lock.hpp"
#include "server/sandbox.hpp"
#include "server/settings.hpp"
#include "server/shared.hpp"

namespace job_alerting::server {

namespace {

// A scan that never ends is known by what was committed before it.
ledger::ScanBegin announce(const Queue &queue, bool wait) {
    try {
        Transaction transaction(lock_timeout_setting());
        const ledger::ScanBegin begin = ledger::begin_scan(transaction, queue, wait);
        transaction.commit();
        return begin;
    } catch (const ServerError &error) {
        if (error.sqlstate != ERRCODE_LOCK_NOT_AVAILABLE)
            throw;
        return ledger::ScanBegin::held;
    }
}

// What was found in a queue that was unwatched, or watched otherwise, meanwhile is not recorded.
void scan(const Queue &queue) {
    Transaction transaction(lock_timeout_setting());
    const ledger::ScanEnd end = ledger::scan(transaction, queue, scan_timeout_setting());
    if (end == ledger::ScanEnd::gone)
        return;
    transaction.commit();
    if (end == ledger::ScanEnd::mended)
        guarded([&] {
            ereport(LOG, (errmsg("job_alerting can read queue \"%s\" again", queue.name.c_str())));
        });
}

void keep_broken(const Queue &queue, const ServerError &error) {
    Transaction transaction(lock_timeout_setting());
    if (ledger::break_queue(transaction, queue.name, error.words(), !is_limit(error.sqlstate)))
        warn("job_alerting cannot read queue \"" + queue.name + "\": " + error.words());
    transaction.commit();
}

// Somebody who holds the queue's own row (an open transaction that called watch(), say) keeps us
// from noting what is wrong with it, but not from going on.
template <typename Note> void note(const Queue &queue, Note &&write) {
    try {
        write();
    } catch (const ServerError &error) {
        warn("job_alerting cannot note what is wrong with queue \"" + queue.name +
             "\": " + error.words());
    }
}

// A failure query can release the lock of the round. When another round has it, this one is over.
void hold_round_lock() {
    bool held = false;
    guarded([&] { held = holds_round_lock() || take_round_lock(false); });
    if (!held)
        throw std::runtime_error("another round took over");
}

} // namespace

std::optional<std::string> record_queue(const Queue &queue, bool wait) {
    try {
        const ledger::ScanBegin begin = announce(queue, wait);
        if (begin == ledger::ScanBegin::held)
            return std::nullopt;
        if (begin == ledger::ScanBegin::begun)
            scan(queue);
        return "";
    } catch (const ServerError &error) {
        guarded([] { shared::set_deadline(MyDatabaseId, 0); });
        hold_round_lock();
        note(queue, [&] { keep_broken(queue, error); });
        return "queue " + queue.name + " cannot be read: " + error.words();
    }
}

void note_unended(const Queue &queue) {
    note(queue, [&] {
        Transaction transaction(lock_timeout_setting());
        ledger::break_unended(transaction, queue.name);
        transaction.commit();
    });
}

} // namespace job_alerting::server
