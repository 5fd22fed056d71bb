// What workers leave for the launcher in shared memory. C regime. It exists only when the library
// is preloaded; without it the functions below do nothing and find nothing. It is a help, never
// the truth: after a crash it is empty, and everything is due.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server::shared {

// Seconds until a database is asked again that does not have the extension, or whose round did
// not come to its end for the first time.
inline constexpr int short_pause = 10;

struct DatabaseState {
    Oid database;           // the key; must come first
    bool absent;            // it does not have the extension
    bool took_long;         // its last round took long
    TimestampTz last_round; // when its last round ended; 0 for never
    TimestampTz due;        // when its next round is due
    int unended;            // rounds in succession that did not come to their end
    TimestampTz since;      // since when a round has been ordered or under way; 0 when none is
    pid_t worker;           // its process; 0 before it has started
    TimestampTz deadline;   // by when its worker will have come further; 0 for no promise
    TimestampTz settling;   // since when its worker has been settling an answer; 0 when it is not
    TimestampTz asked;     // when its worker was asked to end, since it outlives its limits; 0: not
    bool stays;            // that worker was given up: it does not end
    bool heartbeat_failed; // the last heartbeat after one of its rounds was not answered
    char channels[64];     // of its last round, as a comma list
    char problem[512];     // what kept its last round, or will keep a digest, from its end
};

// The launcher, and the database whose round it waits for.
struct LauncherState {
    pid_t pid; // 0 when none runs
    Oid awaited;
    TimestampTz awaited_since;
};

// To be called while the server starts.
void request();

// This process is the launcher, until it ends.
void announce_launcher();

// Whether there is any shared memory, for which the library must be preloaded.
bool exists();

LauncherState launcher();

// The launcher waits for a round in this database; InvalidOid: for none.
void launcher_awaits(Oid database);

// What is known of a database; false when nothing is.
bool find(Oid database, DatabaseState *state);

// A round has come to its end; the next is due in so many seconds. Wakes the launcher. `problem`
// is empty when there is none.
void round_ended(Oid database, double due_in, const char *channels, const char *problem);

// An error has ended a round. Returns whether it is another than that of the round before.
bool round_failed(Oid database, const char *problem);

// The launcher orders a round, whose worker will have got into the database within so many
// milliseconds. Until round_ended() tells otherwise the round did not come to its end, and is due
// again after short_pause, longer each time, at most after an interval. Returns false when a round
// is under way.
bool round_ordered(Oid database, int connect_limit);

// This process is a worker; when it ends, its round is no longer under way.
void announce_worker();

// This process is to run the round that was ordered. Returns false when one by hand was faster.
bool worker_starts(Oid database);

// This process has the lock of the rounds and begins one. One by hand counts from here.
void round_begins(Oid database, bool by_hand);

// The worker that the launcher had started has ended, soon or after a long time.
void worker_ended(Oid database, bool took_long);

// The launcher waits no longer for the round in this database.
void worker_left(Oid database);

// The round could not begin after all, for want of a worker slot, and is due as before.
void round_postponed(Oid database);

// It is left out, since a round by hand is under way.
void round_skipped(Oid database);

// The database does not have the extension.
void extension_absent(Oid database);

// The worker of this database will have come further within so many milliseconds; 0 ends that
// promise.
void set_deadline(Oid database, int milliseconds);

// The worker of this database settles an answer, which may take for ever, or no longer does.
void set_settling(Oid database, bool settling);

// Asks the worker of this database to end, if this is its process still.
void ask_to_end(Oid database, pid_t worker);

// Nothing more is done about the worker that was asked to end: it stays.
void give_up(Oid database);

// The worker that was asked to end has ended, and that was noticed.
void end_noticed(Oid database);

// Whether the heartbeat of this database failed. Returns whether that is another than before.
bool heartbeat_ended(Oid database, bool failed);

// Forgets all databases but these.
void keep_only(List *databases);

} // namespace job_alerting::server::shared
