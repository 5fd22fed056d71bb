#include "server/base/prelude.hpp"

#include "server/process/launcher.hpp"

#include "server/base/session.hpp"
#include "server/base/settings.hpp"
#include "server/coordination/shared.hpp"
#include "server/coordination/work_order.hpp"
#include "server/process/databases.hpp"

extern "C" PGDLLEXPORT void job_alerting_launcher_main(Datum);

namespace job_alerting::server {

namespace {

constexpr int restart_seconds = 5;
constexpr long max_sleep = 60 * 1000;  // ms; bounds the effect of a clock that is set back
constexpr long check_pause = 5 * 1000; // ms between two checks of a running worker
constexpr long defer_pause = 250;      // ms before a deferred round is tried again
constexpr int min_grace = 5 * 1000;    // ms
constexpr int max_grace = 30 * 1000;   // ms
constexpr int max_slot_pause = 60;     // seconds between two attempts to find a free slot
constexpr int max_settling = 5000;     // ms that a worker may take to settle an answer
constexpr int long_round = 10 * 1000;  // ms; after such a round, the launcher does not wait for
                                       // the next one of that database
constexpr int max_unawaited = 2;       // workers that run while the launcher does not wait

// A worker that this launcher has started and whose exit it has not noticed yet.
struct Started {
    Database database;
    BackgroundWorkerHandle *handle;
    TimestampTz at;
};

List *workers = NIL; // list of Started, in TopMemoryContext

void forget_dropped(List *databases) {
    List *oids = NIL;
    ListCell *cell;
    foreach (cell, databases)
        oids = lappend_oid(oids, static_cast<const Database *>(lfirst(cell))->oid);
    shared::keep_only(oids);
}

// Sleeps until the latch is set or `milliseconds` have passed, but at most max_sleep; then
// processes interrupts and a reload. Returns false if it stopped because of max_sleep.
bool nap(long milliseconds) {
    const int events = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
                                 Max(1L, Min(milliseconds, max_sleep)), PG_WAIT_EXTENSION);
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
    if (ConfigReloadPending) {
        ConfigReloadPending = false;
        ProcessConfigFile(PGC_SIGHUP);
    }
    return (events & WL_LATCH_SET) || milliseconds <= max_sleep;
}

// Returns when the next round of this database is due; 0 means at once. A time further ahead than
// the interval counts as due: the clock was set back or the interval shortened.
TimestampTz due_at(Oid database) {
    shared::DatabaseState state;
    if (!shared::find(database, &state))
        return 0;
    const int64 longest = Max(interval_setting(), static_cast<int64>(shared::short_pause));
    return state.due > GetCurrentTimestamp() + longest * USECS_PER_SEC ? 0 : state.due;
}

// Sorts by due time, the longest overdue database first. In another order, databases with long
// rounds could be due again before the last database is served, and starve it.
void order_by_due(List *databases) {
    ListCell *cell;
    foreach (cell, databases) {
        Database *database = static_cast<Database *>(lfirst(cell));
        database->due = due_at(database->oid);
    }
    list_sort(databases, [](const ListCell *one, const ListCell *other) {
        const TimestampTz due = static_cast<const Database *>(lfirst(one))->due;
        const TimestampTz others = static_cast<const Database *>(lfirst(other))->due;
        return due < others ? -1 : static_cast<int>(due > others);
    });
}

// Whether storing an answer takes long, most likely because of a lock. The worker retries without
// limit.
bool is_settling_late(const shared::DatabaseState &state) {
    return state.settling != 0 &&
           TimestampDifferenceExceeds(state.settling, GetCurrentTimestamp(), max_settling);
}

void report_late_settling(const Database *database) {
    const char *why = "the answer to a digest cannot be stored: job_alerting.digest may be "
                      "locked (see pg_locks), or the server log has the error";
    if (shared::round_failed(database->oid, why))
        ereport(WARNING, (errmsg("job_alerting round in database \"%s\": %s",
                                 NameStr(database->name), why)));
}

//
// Running workers
//

// Grace period that is added to every limit before a worker is terminated, in milliseconds.
int grace() {
    return Min(max_grace, Max(min_grace, scan_timeout_setting() + lock_timeout_setting()));
}

// How long the launcher waits for one round before it serves other databases, in milliseconds.
int max_wait() {
    return scan_timeout_setting() + grace();
}

bool has_passed(TimestampTz since, int64 milliseconds) {
    return since != 0 && GetCurrentTimestamp() >= since + milliseconds * 1000;
}

bool has_ended(const Started *worker) {
    pid_t pid;
    return GetBackgroundWorkerPid(worker->handle, &pid) == BGWH_STOPPED;
}

// Removes the workers that have exited from the list.
void notice_exits() {
    ListCell *cell;
    foreach (cell, workers) {
        Started *worker = static_cast<Started *>(lfirst(cell));
        if (!has_ended(worker))
            continue;
        shared::worker_ended(worker->database.oid, has_passed(worker->at, long_round));
        workers = foreach_delete_current(workers, cell);
        pfree(worker->handle);
        pfree(worker);
    }
}

bool has_worker(Oid database) {
    ListCell *cell;
    foreach (cell, workers)
        if (static_cast<const Started *>(lfirst(cell))->database.oid == database)
            return true;
    return false;
}

void terminate_worker(const Database *database, pid_t worker) {
    ereport(WARNING, (errmsg("job_alerting worker for database \"%s\" has exceeded its time limit "
                             "and is being terminated",
                             NameStr(database->name)),
                      errdetail("The worker is process %d.", static_cast<int>(worker))));
    shared::terminate_worker(database->oid, worker);
}

void mark_stuck(const Database *database, pid_t worker) {
    ereport(
        WARNING,
        (errmsg("job_alerting worker for database \"%s\" does not terminate",
                NameStr(database->name)),
         errdetail("Process %d does not process interrupts. Its database has no rounds until the "
                   "process exits; other databases are not affected.",
                   static_cast<int>(worker)),
         errhint("See \"A worker that does not end\" in the extension's doc/operations.md.")));
    shared::mark_stuck(database->oid);
}

void report_termination(const Database *database) {
    ereport(LOG, (errmsg("job_alerting worker for database \"%s\", which had exceeded its time "
                         "limit, has exited",
                         NameStr(database->name))));
    shared::termination_noticed(database->oid);
}

// Terminates a worker that has passed its deadline, no matter which process started it.
void supervise(const Database *database) {
    shared::DatabaseState state;
    if (!shared::find(database->oid, &state))
        return;
    if (state.worker == 0 && state.terminating != 0)
        report_termination(database);
    else if (state.worker != 0 && state.terminating == 0 && has_passed(state.deadline, grace()))
        terminate_worker(database, state.worker);
    else if (state.worker != 0 && !state.stuck && has_passed(state.terminating, grace()))
        mark_stuck(database, state.worker);
}

void supervise_all(List *databases) {
    ListCell *cell;
    foreach (cell, databases)
        supervise(static_cast<const Database *>(lfirst(cell)));
}

//
// Rounds
//

void abandon_wait(const Database *database) {
    ereport(LOG, (errmsg("job_alerting continues with other databases because the round in "
                         "database \"%s\" takes long",
                         NameStr(database->name))));
    shared::wait_abandoned(database->oid);
}

// Waits until a worker has exited. Gives up after max_wait(), or if another session blocks the
// worker, so that other databases are served.
void await(const Started *worker, List *databases) {
    const Database *database = &worker->database;
    while (!has_ended(worker)) {
        shared::DatabaseState state = {};
        shared::find(database->oid, &state);
        if (is_settling_late(state))
            return report_late_settling(database);
        if (has_passed(worker->at, max_wait()))
            return abandon_wait(database);
        supervise_all(databases);
        nap(1000);
    }
}

Started *start(const Database *database) {
    const MemoryContext before = MemoryContextSwitchTo(TopMemoryContext);
    const WorkOrder order = {.database = database->oid, .by_hand = false, .report = 0};
    Started *worker = nullptr;
    BackgroundWorkerHandle *handle;
    if (start_worker(order, NameStr(database->name), &handle)) {
        worker = static_cast<Started *>(palloc(sizeof(Started)));
        *worker = {.database = *database, .handle = handle, .at = GetCurrentTimestamp()};
        workers = lappend(workers, worker);
    }
    MemoryContextSwitchTo(before);
    return worker;
}

// Whether the last round of a database took long or did not finish. The launcher does not wait for
// the next round of such a database.
bool is_slow(Oid database) {
    shared::DatabaseState state;
    return shared::find(database, &state) && (state.took_long || state.unfinished > 0);
}

// Counts the running workers that the launcher does not wait for. One that has run longer than
// max_wait() does not count, or two such workers would block all slow databases.
int count_unawaited() {
    int count = 0;
    ListCell *cell;
    foreach (cell, workers)
        if (!has_passed(static_cast<const Started *>(lfirst(cell))->at, max_wait()))
            count++;
    return count;
}

// Starts the round of one database and, unless the database is slow, waits until it has ended.
// Returns false if there is no free worker slot.
bool run_worker(const Database *database, List *databases) {
    const bool slow = is_slow(database->oid);
    if ((slow && count_unawaited() >= max_unawaited) ||
        !shared::round_ordered(database->oid, lock_timeout_setting()))
        return true;
    const Started *worker = start(database);
    if (!worker) {
        shared::round_postponed(database->oid);
        return false;
    }
    if (!slow) {
        shared::set_awaited(database->oid);
        await(worker, databases);
        shared::set_awaited(InvalidOid);
    }
    notice_exits();
    return true;
}

// Whether a round is running or ordered, so that no other can begin.
bool has_round(Oid database) {
    shared::DatabaseState state;
    return has_worker(database) || (shared::find(database, &state) && state.since != 0);
}

// Runs the rounds that are due, one after the other. Returns false if one found no worker slot.
bool run_due(List *databases) {
    ListCell *cell;
    foreach (cell, databases) {
        Database *database = static_cast<Database *>(lfirst(cell));
        if (due_at(database->oid) <= GetCurrentTimestamp() && !has_round(database->oid) &&
            refresh(database) && !run_worker(database, databases))
            return false;
    }
    return true;
}

// When to check a running worker next. A stuck worker needs no checks: its exit sets the latch.
TimestampTz next_check(Oid database) {
    shared::DatabaseState state;
    const bool stuck = shared::find(database, &state) && state.stuck;
    return GetCurrentTimestamp() + (stuck ? max_sleep : check_pause) * 1000;
}

// Milliseconds until the launcher must act. It does not wake up for a database without the
// extension, but checks such a database whenever it is awake.
long time_left(List *databases) {
    const TimestampTz now = GetCurrentTimestamp();
    TimestampTz next = now + interval_setting() * USECS_PER_SEC;
    ListCell *cell;
    foreach (cell, databases) {
        const Oid oid = static_cast<const Database *>(lfirst(cell))->oid;
        shared::DatabaseState state;
        if (has_round(oid))
            next = Min(next, next_check(oid));
        else if (shared::find(oid, &state) && !state.absent)
            next = Min(next, Max(due_at(oid), now + defer_pause * 1000));
    }
    return TimestampDifferenceMilliseconds(now, next);
}

void sleep_until_due(List *databases) {
    do {
        notice_exits();
        supervise_all(databases);
    } while (!nap(time_left(databases))); // recompute: the clock may have been set
}

// Milliseconds to wait for a free slot; doubles with each attempt. Warns once.
long slot_pause(int attempts) {
    if (attempts == 1)
        ereport(WARNING, (errmsg("job_alerting found no free background worker slot"),
                          errhint("Increase max_worker_processes.")));
    return 1000L * Min(max_slot_pause, 1 << Min(attempts, 10));
}

void run() {
    MemoryContext cycle =
        AllocSetContextCreate(TopMemoryContext, "job_alerting launcher", ALLOCSET_DEFAULT_SIZES);
    int failed_starts = 0;
    for (;;) {
        MemoryContextReset(cycle);
        MemoryContextSwitchTo(cycle);
        List *databases = list_databases();
        forget_dropped(databases);
        notice_exits();
        order_by_due(databases);
        failed_starts = run_due(databases) ? 0 : failed_starts + 1;
        if (failed_starts > 0)
            nap(slot_pause(failed_starts));
        else
            sleep_until_due(databases);
    }
}

} // namespace

void register_launcher() {
    BackgroundWorker launcher = {};
    launcher.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    // The launcher does not run on a standby, and starts at promotion without a restart.
    launcher.bgw_start_time = BgWorkerStart_RecoveryFinished;
    launcher.bgw_restart_time = restart_seconds;
    strlcpy(launcher.bgw_library_name, "job_alerting", BGW_MAXLEN);
    strlcpy(launcher.bgw_function_name, "job_alerting_launcher_main", BGW_MAXLEN);
    strlcpy(launcher.bgw_type, "job_alerting launcher", BGW_MAXLEN);
    strlcpy(launcher.bgw_name, "job_alerting launcher", BGW_MAXLEN);
    RegisterBackgroundWorker(&launcher);
}

} // namespace job_alerting::server

// C regime throughout.
extern "C" void job_alerting_launcher_main(Datum) {
    using namespace job_alerting::server;

    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    ignore_transaction_timeout();
    BackgroundWorkerInitializeConnection(nullptr, nullptr, 0);
    pgstat_report_appname(MyBgworkerEntry->bgw_name);
    shared::announce_launcher();
    run();
}
