#include "server/prelude.hpp"

#include "server/launcher.hpp"

#include "server/report.hpp"
#include "server/settings.hpp"
#include "server/shared.hpp"

extern "C" PGDLLEXPORT void job_alerting_launcher_main(Datum);

namespace job_alerting::server {

namespace {

constexpr int restart_seconds = 5;
constexpr long longest_nap = 60 * 1000; // ms: a clock set back must not make it sleep for long
constexpr int deadline_grace = 30 * 1000;
constexpr int longest_shortage = 60;   // seconds
constexpr int longest_settling = 5000; // ms that it may take to note an answer

struct Database {
    Oid oid;
    NameData name;
};

// Databases to look into: no templates, none that takes no connections, none that was dropped
// halfway (its connection limit is -2).
List *list_databases() {
    List *databases = NIL;
    const MemoryContext context = CurrentMemoryContext;
    StartTransactionCommand();
    Relation relation = table_open(DatabaseRelationId, AccessShareLock);
    TableScanDesc scan = table_beginscan_catalog(relation, 0, nullptr);
    while (HeapTuple tuple = heap_getnext(scan, ForwardScanDirection)) {
        const Form_pg_database row = reinterpret_cast<Form_pg_database>(GETSTRUCT(tuple));
        if (row->datistemplate || !row->datallowconn || row->datconnlimit == -2)
            continue;
        const MemoryContext before = MemoryContextSwitchTo(context);
        Database *database = static_cast<Database *>(palloc(sizeof(Database)));
        *database = {.oid = row->oid, .name = row->datname};
        databases = lappend(databases, database);
        MemoryContextSwitchTo(before);
    }
    table_endscan(scan);
    table_close(relation, AccessShareLock);
    CommitTransactionCommand();
    MemoryContextSwitchTo(context);
    return databases;
}

// Brings up to date what is known of a database: the rounds of others may have taken long. Returns
// false when it is not to be looked into any more.
bool look_again(Database *database) {
    List *databases = list_databases();
    bool found = false;
    ListCell *cell;
    foreach (cell, databases) {
        const Database *now = static_cast<const Database *>(lfirst(cell));
        if (now->oid == database->oid) {
            *database = *now;
            found = true;
            break;
        }
    }
    list_free_deep(databases);
    return found;
}

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
                                 Max(1L, Min(milliseconds, longest_nap)), PG_WAIT_EXTENSION);
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
    if (ConfigReloadPending) {
        ConfigReloadPending = false;
        ProcessConfigFile(PGC_SIGHUP);
    }
    return (events & WL_LATCH_SET) || milliseconds <= longest_nap;
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

// Whether a worker waits for a lock to settle an answer, which may take for ever.
bool is_held_up(const shared::DatabaseState &state) {
    return state.settling != 0 &&
           TimestampDifferenceExceeds(state.settling, GetCurrentTimestamp(), longest_settling);
}

void tell_held_up(const Database *database) {
    const char *why = "the answer to a digest waits to be noted: another session has locked "
                      "job_alerting.digest (see pg_locks)";
    if (shared::round_failed(database->oid, why))
        ereport(WARNING, (errmsg("job_alerting round in database \"%s\": %s",
                                 NameStr(database->name), why)));
}

// Waits for a worker's end; not for that of one which somebody holds up, since other databases have
// a right to their rounds. One that outlives what it announced, by 30 s, is ended.
void await(const Database *database, BackgroundWorkerHandle *handle) {
    bool ended = false;
    for (;;) {
        pid_t pid;
        const BgwHandleStatus status = GetBackgroundWorkerPid(handle, &pid);
        if (status == BGWH_STOPPED)
            return;
        shared::DatabaseState state = {};
        shared::find(database->oid, &state);
        if (is_held_up(state)) {
            tell_held_up(database);
            return;
        }
        if (!ended && state.deadline != 0 &&
            TimestampDifferenceExceeds(state.deadline, GetCurrentTimestamp(), deadline_grace)) {
            ereport(WARNING, (errmsg("job_alerting worker for database \"%s\" outlives its limits "
                                     "and is ended",
                                     NameStr(database->name))));
            TerminateBackgroundWorker(handle);
            ended = true;
        }
        nap(1000);
    }
}

// Runs one database's round to its end. Returns false when there is no slot for its worker.
bool run_worker(const Database *database) {
    shared::round_begins(database->oid);
    const WorkOrder order = {.database = database->oid, .by_hand = false, .report = 0};
    BackgroundWorkerHandle *handle;
    if (!start_worker(order, NameStr(database->name), &handle)) {
        shared::round_postponed(database->oid);
        return false;
    }
    await(database, handle);
    pfree(handle);
    return true;
}

// Runs the rounds that are due, one after the other. Returns false when one found no slot.
bool run_due(List *databases) {
    ListCell *cell;
    foreach (cell, databases) {
        Database *database = static_cast<Database *>(lfirst(cell));
        if (due_at(database->oid) <= GetCurrentTimestamp() && look_again(database) &&
            !run_worker(database))
            return false;
    }
    return true;
}

// Milliseconds until the next round is due anywhere. A database without the extension wakes
// nobody; it is asked when the launcher is awake anyway.
long time_left(List *databases) {
    const TimestampTz now = GetCurrentTimestamp();
    TimestampTz next = now + interval_setting() * USECS_PER_SEC;
    ListCell *cell;
    foreach (cell, databases) {
        const Oid oid = static_cast<const Database *>(lfirst(cell))->oid;
        shared::DatabaseState state;
        if (shared::find(oid, &state) && !state.absent)
            next = Min(next, Max(due_at(oid), now));
    }
    return TimestampDifferenceMilliseconds(now, next);
}

void sleep_until_due(List *databases) {
    while (!nap(time_left(databases)))
        ; // anew: the clock may have been set
}

// How long to wait for a free slot: longer each time. The shortage is told once.
long shortage_pause(int shortages) {
    if (shortages == 1)
        ereport(WARNING, (errmsg("job_alerting finds no free background worker slot"),
                          errhint("Increase max_worker_processes.")));
    return 1000L * Min(longest_shortage, 1 << Min(shortages, 10));
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
    BackgroundWorkerInitializeConnection(nullptr, nullptr, 0);
    pgstat_report_appname(MyBgworkerEntry->bgw_name);
    shared::announce_launcher();
    run();
}
