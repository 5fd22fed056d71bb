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
constexpr long max_sleep = 60 * 1000; // ms: a clock set back must not make it sleep for long
constexpr long look_pause = 5 * 1000; // ms between two looks at a worker that lives
constexpr long defer_pause = 250;     // ms until a round that had to wait is looked at again
constexpr int min_grace = 5 * 1000;
constexpr int max_grace = 30 * 1000;
constexpr int max_shortage = 60;      // seconds
constexpr int max_settling = 5000;    // ms that it may take to note an answer
constexpr int long_round = 10 * 1000; // ms; others wait for such a round once, and not again
constexpr int max_unawaited = 2;      // workers that nobody waits for

// A worker that this launcher has started, and whose end it has not noticed yet.
struct Started {
    Database database;
    BackgroundWorkerHandle *handle;
    TimestampTz at;
};

List *workers = NIL; // of Started; all of it lives as long as the process

void forget_dropped(List *databases) {
    List *oids = NIL;
    ListCell *cell;
    foreach (cell, databases)
        oids = lappend_oid(oids, static_cast<const Database *>(lfirst(cell))->oid);
    shared::keep_only(oids);
}

// Sleeps until the latch is set, but no longer than `milliseconds`, and serves what woke it.
// Returns false when neither has come and it only was long enough for one nap.
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

// When this database's round is due. What lies further ahead than any round sets it was set by a
// clock since put back, or under a longer interval.
TimestampTz due_at(Oid database) {
    shared::DatabaseState state;
    if (!shared::find(database, &state))
        return 0;
    const int64 longest = Max(interval_setting(), static_cast<int64>(shared::short_pause));
    return state.due > GetCurrentTimestamp() + longest * USECS_PER_SEC ? 0 : state.due;
}

// The database that has waited longest comes first. In any other order, databases with long rounds
// could be due again before the last of the list has had its turn, and take every worker from it.
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

// Whether a worker waits for a lock to settle an answer, which may take for ever.
bool is_held_up(const shared::DatabaseState &state) {
    return state.settling != 0 &&
           TimestampDifferenceExceeds(state.settling, GetCurrentTimestamp(), max_settling);
}

void tell_held_up(const Database *database) {
    const char *why = "the answer to a digest waits to be noted: another session has locked "
                      "job_alerting.digest (see pg_locks)";
    if (shared::round_failed(database->oid, why))
        ereport(WARNING, (errmsg("job_alerting round in database \"%s\": %s",
                                 NameStr(database->name), why)));
}

//
// Workers that live
//

// The grace added to every limit before a worker is taken to outlive it, in milliseconds.
int grace() {
    return Min(max_grace, Max(min_grace, scan_timeout_setting() + lock_timeout_setting()));
}

// How long the rounds of others wait for one, in milliseconds.
int patience() {
    return scan_timeout_setting() + grace();
}

bool has_passed(TimestampTz since, int64 milliseconds) {
    return since != 0 && GetCurrentTimestamp() >= since + milliseconds * 1000;
}

bool has_ended(const Started *worker) {
    pid_t pid;
    return GetBackgroundWorkerPid(worker->handle, &pid) == BGWH_STOPPED;
}

// Forgets the workers that have ended.
void notice_ends() {
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

bool lives(Oid database) {
    ListCell *cell;
    foreach (cell, workers)
        if (static_cast<const Started *>(lfirst(cell))->database.oid == database)
            return true;
    return false;
}

void ask_to_end(const Database *database, pid_t worker) {
    ereport(WARNING, (errmsg("job_alerting worker for database \"%s\" outlives its limits and is "
                             "asked to end",
                             NameStr(database->name)),
                      errdetail("It is process %d.", static_cast<int>(worker))));
    shared::ask_to_end(database->oid, worker);
}

void give_up(const Database *database, pid_t worker) {
    ereport(
        WARNING,
        (errmsg("job_alerting worker for database \"%s\" does not end", NameStr(database->name)),
         errdetail("Process %d serves no signal where it is. This database has no round until "
                   "the process has ended; other databases have theirs.",
                   static_cast<int>(worker)),
         errhint("See \"A worker that does not end\" in the extension's doc/operations.md.")));
    shared::give_up(database->oid);
}

void notice_asked_end(const Database *database) {
    ereport(LOG, (errmsg("job_alerting worker for database \"%s\", which outlived its limits, has "
                         "ended",
                         NameStr(database->name))));
    shared::end_noticed(database->oid);
}

// Sees to it that a worker which outlives what it announced ends, whoever started it.
void supervise(const Database *database) {
    shared::DatabaseState state;
    if (!shared::find(database->oid, &state))
        return;
    if (state.worker == 0 && state.asked != 0)
        notice_asked_end(database);
    else if (state.worker != 0 && state.asked == 0 && has_passed(state.deadline, grace()))
        ask_to_end(database, state.worker);
    else if (state.worker != 0 && !state.stays && has_passed(state.asked, grace()))
        give_up(database, state.worker);
}

void supervise_all(List *databases) {
    ListCell *cell;
    foreach (cell, databases)
        supervise(static_cast<const Database *>(lfirst(cell)));
}

//
// Rounds
//

void leave(const Database *database) {
    ereport(LOG, (errmsg("job_alerting goes on with the rounds of other databases, since that of "
                         "\"%s\" takes long",
                         NameStr(database->name))));
    shared::worker_left(database->oid);
}

// Waits for a worker's end; not for ever, and not for that of one which somebody holds up, since
// other databases have a right to their rounds.
void await(const Started *worker, List *databases) {
    const Database *database = &worker->database;
    while (!has_ended(worker)) {
        shared::DatabaseState state = {};
        shared::find(database->oid, &state);
        if (is_held_up(state))
            return tell_held_up(database);
        if (has_passed(worker->at, patience()))
            return leave(database);
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

// Whether the last round of a database took long or did not come to its end. Others have waited for
// it once; they do not wait again.
bool is_suspect(Oid database) {
    shared::DatabaseState state;
    return shared::find(database, &state) && (state.took_long || state.unended > 0);
}

// Those of suspects, without the ones that live for too long to be reckoned with.
int unawaited() {
    int count = 0;
    ListCell *cell;
    foreach (cell, workers)
        if (!has_passed(static_cast<const Started *>(lfirst(cell))->at, patience()))
            count++;
    return count;
}

// Runs one database's round, to its end as a rule. Returns false when there is no slot for its
// worker.
bool run_worker(const Database *database, List *databases) {
    const bool suspect = is_suspect(database->oid);
    if ((suspect && unawaited() >= max_unawaited) ||
        !shared::round_ordered(database->oid, lock_timeout_setting()))
        return true;
    const Started *worker = start(database);
    if (!worker) {
        shared::round_postponed(database->oid);
        return false;
    }
    if (!suspect) {
        shared::launcher_awaits(database->oid);
        await(worker, databases);
        shared::launcher_awaits(InvalidOid);
    }
    notice_ends();
    return true;
}

// Whether a round, or what is left of one, keeps another from beginning.
bool is_under_way(Oid database) {
    shared::DatabaseState state;
    return lives(database) || (shared::find(database, &state) && state.since != 0);
}

// Runs the rounds that are due, one after the other. Returns false when one found no slot.
bool run_due(List *databases) {
    ListCell *cell;
    foreach (cell, databases) {
        Database *database = static_cast<Database *>(lfirst(cell));
        if (due_at(database->oid) <= GetCurrentTimestamp() && !is_under_way(database->oid) &&
            refresh(database) && !run_worker(database, databases))
            return false;
    }
    return true;
}

// Until the next look at a worker that lives; one that stays is looked at when it ends.
TimestampTz next_look(Oid database) {
    shared::DatabaseState state;
    const bool stays = shared::find(database, &state) && state.stays;
    return GetCurrentTimestamp() + (stays ? max_sleep : look_pause) * 1000;
}

// Milliseconds until something is to be done anywhere. A database without the extension wakes
// nobody; it is asked when the launcher is awake anyway.
long time_left(List *databases) {
    const TimestampTz now = GetCurrentTimestamp();
    TimestampTz next = now + interval_setting() * USECS_PER_SEC;
    ListCell *cell;
    foreach (cell, databases) {
        const Oid oid = static_cast<const Database *>(lfirst(cell))->oid;
        shared::DatabaseState state;
        if (is_under_way(oid))
            next = Min(next, next_look(oid));
        else if (shared::find(oid, &state) && !state.absent)
            next = Min(next, Max(due_at(oid), now + defer_pause * 1000));
    }
    return TimestampDifferenceMilliseconds(now, next);
}

void sleep_until_due(List *databases) {
    do {
        notice_ends();
        supervise_all(databases);
    } while (!nap(time_left(databases))); // anew: the clock may have been set
}

// How long to wait for a free slot: longer each time. The shortage is told once.
long shortage_pause(int shortages) {
    if (shortages == 1)
        ereport(WARNING, (errmsg("job_alerting finds no free background worker slot"),
                          errhint("Increase max_worker_processes.")));
    return 1000L * Min(max_shortage, 1 << Min(shortages, 10));
}

void run() {
    MemoryContext cycle =
        AllocSetContextCreate(TopMemoryContext, "job_alerting launcher", ALLOCSET_DEFAULT_SIZES);
    int shortages = 0;
    for (;;) {
        MemoryContextReset(cycle);
        MemoryContextSwitchTo(cycle);
        List *databases = list_databases();
        forget_dropped(databases);
        notice_ends();
        order_by_due(databases);
        shortages = run_due(databases) ? 0 : shortages + 1;
        if (shortages > 0)
            nap(shortage_pause(shortages));
        else
            sleep_until_due(databases);
    }
}

} // namespace

void register_launcher() {
    BackgroundWorker launcher = {};
    launcher.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    // Not on a standby; after promotion, without a restart.
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
