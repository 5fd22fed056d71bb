// What a worker is asked for, and how it ended: plain bytes in a shared memory segment, so that
// neither has to wait for the other to read or to write. The rows that it returns lie in a queue
// behind it (rows.hpp).

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

struct WorkerReport {
    // Whether somebody waits for it: a Stage. And who works on it; 0 before that process has come
    // to where it can be told that nobody does.
    pg_atomic_uint32 stage;
    pid_t worker;

    // Written last. False after the worker ended: it was ended before its round was over.
    bool finished;

    // What ended the round; 0 when it came to its end.
    int sqlstate;
    bool only_callers; // that is nobody's concern but the caller's
    char message[1024];
    char detail[1024];
    char hint[512];

    bool did_all; // a round, and nothing in it went wrong
};

// What is asked for goes on without its caller once it is a round that has begun. Before that, and
// where it is no round, it is given up with the caller.
enum Stage : uint32 { stage_asked, stage_fixed, stage_abandoned };

// Moves a report on from stage_asked. Returns false when it is in another stage.
inline bool move_to(WorkerReport *report, Stage stage) {
    uint32 expected = stage_asked;
    return pg_atomic_compare_exchange_u32(&report->stage, &expected, stage);
}

enum class Task { round, preview, send_test, check };

// What the launcher, or a session, asks a worker for; travels in bgw_extra.
struct WorkOrder {
    Oid database;
    bool by_hand;      // by run_digest(): wait for a round in progress
    dsm_handle report; // where to report to; 0 for nowhere
    Task task = Task::round;
};

// Where in the segment the queue of the rows lies, behind the report.
inline constexpr Size rows_offset = MAXALIGN(sizeof(WorkerReport));
inline constexpr Size rows_size = 64 * 1024;

// Registers a worker. Returns false when there is no free slot. It notifies this process when it
// starts and ends.
bool start_worker(const WorkOrder &order, const char *database_name,
                  BackgroundWorkerHandle **handle);

} // namespace job_alerting::server
