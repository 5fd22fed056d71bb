// State of the rounds in shared memory, for the launcher and the view status. C regime. The memory
// exists only if the library is preloaded; otherwise the functions below have no effect and report
// an empty state. Nothing depends on the state for correctness: a crash resets it, and then every
// round is due.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server::shared {

// Initial delay, in seconds, before a database without the extension is checked again and before an
// unfinished round is repeated.
inline constexpr int short_pause = 10;

struct DatabaseState {
    Oid database;            // hash key; must be first
    bool absent;             // the extension is not installed
    bool took_long;          // the last round took long
    TimestampTz last_round;  // end of the last round; 0 if none
    TimestampTz due;         // when the next round is due
    int unfinished;          // consecutive rounds that did not finish
    TimestampTz since;       // when the current round was ordered or began; 0 if there is none
    pid_t worker;            // process of the current round; 0 before it has started
    TimestampTz deadline;    // when the worker's current step must be done; 0 for no deadline
    TimestampTz settling;    // when the worker began to settle an answer; 0 if it does not
    TimestampTz terminating; // when the worker was told to terminate; 0 if it was not
    bool stuck;              // that worker did not terminate and is left alone
    bool heartbeat_failed;   // the last heartbeat failed
    char channels[64];       // channels of the last round, comma-separated
    char problem[512];       // why the last round did not finish, or why a digest will not be sent
};

struct LauncherState {
    pid_t pid;                 // 0 if the launcher is not running
    Oid awaited;               // database whose round the launcher waits for; InvalidOid if none
    TimestampTz awaited_since; // when that wait began
};

// Requests the shared memory. Call it while the server starts.
void request();

// Registers this process as the launcher until it exits.
void announce_launcher();

// Whether the shared memory exists, that is, whether the library is preloaded.
bool exists();

LauncherState launcher();

// Sets the database whose round the launcher waits for; InvalidOid for none.
void set_awaited(Oid database);

// Copies the state of a database to `state`; returns false if there is none.
bool find(Oid database, DatabaseState *state);

// Records that a round has finished and that the next one is due in `due_in` seconds; wakes the
// launcher. `problem` is empty if there was none.
void round_ended(Oid database, double due_in, const char *channels, const char *problem);

// Records the error that ended a round. Returns false if the round before ended with the same
// error.
bool round_failed(Oid database, const char *problem);

// Records that the launcher orders a round, whose worker must connect within `connect_limit`
// milliseconds. The round counts as unfinished until round_ended(), and is repeated after
// short_pause; each further unfinished round doubles the pause, up to the interval. Returns false
// if a round is already ordered or running.
bool round_ordered(Oid database, int connect_limit);

// Registers this process as a worker: when it exits, its round no longer counts as running.
void announce_worker();

// Assigns the ordered round to this process. Returns false if a run_digest() round began first.
bool worker_starts(Oid database);

// Records that this process holds the round lock and begins its round. A run_digest() round counts
// as running from here on.
void round_begins(Oid database, bool by_hand);

// Records that the worker started by the launcher has ended, and whether its round took long.
void worker_ended(Oid database, bool took_long);

// Records that the launcher has stopped waiting for the round in this database.
void wait_abandoned(Oid database);

// Takes back an ordered round that found no worker slot; it is due at once.
void round_postponed(Oid database);

// Takes back an ordered round because another round is running.
void round_skipped(Oid database);

// Records that the extension is not installed in the database.
void extension_absent(Oid database);

// Sets the time, in milliseconds, within which the worker must finish its current step; 0 for no
// deadline.
void set_deadline(Oid database, int milliseconds);

// Sets whether the worker is settling an answer, which has no time limit.
void set_settling(Oid database, bool settling);

// Sends SIGTERM to the worker of this database, if `worker` is still its process.
void terminate_worker(Oid database, pid_t worker);

// Marks the terminating worker as stuck: nothing more is done about it.
void mark_stuck(Oid database);

// Resets `terminating` and `stuck` after the worker has exited.
void termination_noticed(Oid database);

// Records whether the heartbeat failed. Returns whether that differs from the last time.
bool heartbeat_ended(Oid database, bool failed);

// Removes the state of all databases that are not in the list.
void keep_only(List *databases);

} // namespace job_alerting::server::shared
