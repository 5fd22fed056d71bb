#include "server/base/prelude.hpp"

#include "server/coordination/shared.hpp"

#include "server/base/encoding.hpp"
#include "server/base/settings.hpp"

#include <csignal>

namespace job_alerting::server::shared {

namespace {

// Capacity of the hash table. A database without an entry is due whenever the launcher is awake.
constexpr int max_databases = 1024;
constexpr const char *tranche = "job_alerting";

struct Header {
    LauncherState launcher;
    Latch *latch;
};

Header *header = nullptr;
HTAB *databases = nullptr;
LWLock *lock = nullptr;
shmem_request_hook_type next_request_hook = nullptr;
shmem_startup_hook_type next_startup_hook = nullptr;

void request_memory() {
    if (next_request_hook)
        next_request_hook();
    RequestAddinShmemSpace(add_size(MAXALIGN(sizeof(Header)),
                                    hash_estimate_size(max_databases, sizeof(DatabaseState))));
    RequestNamedLWLockTranche(tranche, 1);
}

void start_memory() {
    if (next_startup_hook)
        next_startup_hook();
    HASHCTL control = {};
    control.keysize = sizeof(Oid);
    control.entrysize = sizeof(DatabaseState);
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    bool found;
    header =
        static_cast<Header *>(ShmemInitStruct("job_alerting launcher", sizeof(Header), &found));
    if (!found)
        *header = {};
    databases =
        shared_table("job_alerting databases", max_databases, control, HASH_ELEM | HASH_BLOBS);
    lock = &GetNamedLWLockTranche(tranche)->lock;
    LWLockRelease(AddinShmemInitLock);
}

// Finds or creates the entry of a database; null if the table is full.
DatabaseState *enter(Oid database) {
    bool found;
    DatabaseState *state =
        static_cast<DatabaseState *>(hash_search(databases, &database, HASH_ENTER_NULL, &found));
    if (state && !found) {
        *state = {};
        state->database = database;
    }
    return state;
}

// Applies a change to the entry of a database. No effect without shared memory or with a full
// table.
template <typename Change> void change(Oid database, Change &&apply) {
    if (!databases)
        return;
    LWLockAcquire(lock, LW_EXCLUSIVE);
    if (DatabaseState *state = enter(database))
        apply(*state);
    LWLockRelease(lock);
}

void wake_launcher() {
    if (!databases)
        return;
    LWLockAcquire(lock, LW_SHARED);
    if (header->launcher.pid != 0)
        SetLatch(header->latch);
    LWLockRelease(lock);
}

TimestampTz from_now(double seconds) {
    return GetCurrentTimestamp() + static_cast<TimestampTz>(seconds * USECS_PER_SEC);
}

// Calls `each` for every entry. `each` must not add or remove entries.
template <typename Each> void for_each(Each &&each) {
    HASH_SEQ_STATUS sequence;
    hash_seq_init(&sequence, databases);
    while (void *entry = hash_seq_search(&sequence))
        each(*static_cast<DatabaseState *>(entry));
}

void count_round(DatabaseState &state) {
    constexpr int max_doublings = 16;
    const int64 pause = short_pause * (INT64CONST(1) << Min(state.unfinished, max_doublings));
    state.absent = false;
    state.unfinished++;
    state.due = from_now(static_cast<double>(Min(pause, interval_setting())));
}

void forget_round(DatabaseState &state) {
    state.since = 0;
    state.worker = 0;
    state.deadline = 0;
    state.settling = 0;
}

void withdraw_worker(int, Datum) {
    LWLockAcquire(lock, LW_EXCLUSIVE);
    for_each([](DatabaseState &state) {
        if (state.worker == MyProcPid)
            forget_round(state);
    });
    LWLockRelease(lock);
    wake_launcher();
}

void withdraw_launcher(int, Datum) {
    LWLockAcquire(lock, LW_EXCLUSIVE);
    *header = {};
    LWLockRelease(lock);
}

} // namespace

void request() {
    next_request_hook = shmem_request_hook;
    shmem_request_hook = request_memory;
    next_startup_hook = shmem_startup_hook;
    shmem_startup_hook = start_memory;
}

void announce_launcher() {
    before_shmem_exit(withdraw_launcher, 0);
    LWLockAcquire(lock, LW_EXCLUSIVE);
    *header = {.launcher = {.pid = MyProcPid, .awaited = InvalidOid, .awaited_since = 0},
               .latch = MyLatch};
    // The previous launcher may have ordered rounds whose workers never started.
    for_each([](DatabaseState &state) {
        if (state.worker == 0)
            forget_round(state);
    });
    LWLockRelease(lock);
}

bool exists() {
    return databases != nullptr;
}

LauncherState launcher() {
    if (!databases)
        return {};
    LWLockAcquire(lock, LW_SHARED);
    const LauncherState state = header->launcher;
    LWLockRelease(lock);
    return state;
}

void set_awaited(Oid database) {
    LWLockAcquire(lock, LW_EXCLUSIVE);
    header->launcher.awaited = database;
    header->launcher.awaited_since = OidIsValid(database) ? GetCurrentTimestamp() : 0;
    LWLockRelease(lock);
}

bool find(Oid database, DatabaseState *state) {
    if (!databases)
        return false;
    LWLockAcquire(lock, LW_SHARED);
    const void *found = hash_search(databases, &database, HASH_FIND, nullptr);
    if (found)
        *state = *static_cast<const DatabaseState *>(found);
    LWLockRelease(lock);
    return found != nullptr;
}

void round_ended(Oid database, double due_in, const char *channels, const char *problem) {
    change(database, [&](DatabaseState &state) {
        state.absent = false;
        state.last_round = GetCurrentTimestamp();
        state.unfinished = 0;
        state.due = from_now(due_in);
        state.deadline = 0;
        state.settling = 0;
        copy_text(state.channels, sizeof(state.channels), channels);
        copy_text(state.problem, sizeof(state.problem), problem);
    });
    wake_launcher();
}

bool round_failed(Oid database, const char *problem) {
    bool news = true;
    change(database, [&](DatabaseState &state) {
        char text[sizeof(state.problem)];
        copy_text(text, sizeof(text), problem);
        news = strcmp(text, state.problem) != 0;
        memcpy(state.problem, text, sizeof(text));
    });
    return news;
}

bool round_ordered(Oid database, int connect_limit) {
    bool ordered = true;
    change(database, [&](DatabaseState &state) {
        ordered = state.since == 0;
        if (!ordered)
            return;
        count_round(state);
        state.since = GetCurrentTimestamp();
        state.deadline = from_now(connect_limit / 1000.0);
    });
    return ordered;
}

void announce_worker() {
    if (databases)
        before_shmem_exit(withdraw_worker, 0);
}

bool worker_starts(Oid database) {
    bool starts = true;
    change(database, [&](DatabaseState &state) {
        starts = state.worker == 0;
        if (starts)
            state.worker = MyProcPid;
    });
    return starts;
}

void round_begins(Oid database, bool by_hand) {
    change(database, [&](DatabaseState &state) {
        // round_ordered() has counted the launcher's round, unless another round ended since then.
        if (by_hand || state.since == 0)
            count_round(state);
        forget_round(state);
        state.since = GetCurrentTimestamp();
        state.worker = MyProcPid;
        state.terminating = 0;
        state.stuck = false;
    });
}

void worker_ended(Oid database, bool took_long) {
    change(database, [&](DatabaseState &state) {
        if (state.worker == 0)
            forget_round(state);
        state.took_long = took_long;
    });
}

void wait_abandoned(Oid database) {
    change(database, [](DatabaseState &state) { state.took_long = true; });
}

void round_postponed(Oid database) {
    change(database, [](DatabaseState &state) {
        state.unfinished = Max(state.unfinished - 1, 0);
        if (state.worker != 0)
            return; // a run_digest() round has begun since
        forget_round(state);
        state.due = GetCurrentTimestamp();
        strlcpy(state.problem,
                "no background worker slot is free for a round (max_worker_processes)",
                sizeof(state.problem));
    });
}

void round_skipped(Oid database) {
    change(database, [](DatabaseState &state) { state.unfinished = Max(state.unfinished - 1, 0); });
}

void extension_absent(Oid database) {
    change(database, [&](DatabaseState &state) {
        state.absent = true;
        state.last_round = 0;
        state.unfinished = 0;
        state.problem[0] = '\0';
        state.due = from_now(short_pause);
    });
}

void set_deadline(Oid database, int milliseconds) {
    change(database, [&](DatabaseState &state) {
        state.deadline = milliseconds > 0 ? from_now(milliseconds / 1000.0) : 0;
    });
}

void set_settling(Oid database, bool settling) {
    change(database,
           [&](DatabaseState &state) { state.settling = settling ? GetCurrentTimestamp() : 0; });
}

void terminate_worker(Oid database, pid_t worker) {
    // An exiting worker removes its pid under the same lock, so the pid has not been reused.
    change(database, [&](DatabaseState &state) {
        if (state.worker != worker)
            return;
        state.terminating = GetCurrentTimestamp();
        kill(worker, SIGTERM);
    });
}

void mark_stuck(Oid database) {
    change(database, [](DatabaseState &state) { state.stuck = true; });
}

void termination_noticed(Oid database) {
    change(database, [](DatabaseState &state) {
        state.terminating = 0;
        state.stuck = false;
    });
}

bool heartbeat_ended(Oid database, bool failed) {
    bool news = failed;
    change(database, [&](DatabaseState &state) {
        news = failed != state.heartbeat_failed;
        state.heartbeat_failed = failed;
    });
    return news;
}

void keep_only(List *kept) {
    LWLockAcquire(lock, LW_EXCLUSIVE);
    HASH_SEQ_STATUS sequence;
    hash_seq_init(&sequence, databases);
    while (void *entry = hash_seq_search(&sequence)) {
        const Oid database = static_cast<const DatabaseState *>(entry)->database;
        if (!list_member_oid(kept, database))
            hash_search(databases, &database, HASH_REMOVE, nullptr);
    }
    LWLockRelease(lock);
}

} // namespace job_alerting::server::shared
