// The order to a worker and the worker's report. The report lies in a shared memory segment,
// followed by the queue of the rows that the worker returns (rows.hpp).

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

struct WorkerReport {
    pg_atomic_uint32 stage; // a Stage
    pid_t worker;           // 0 until the worker has attached

    // Set last. If it is false when the worker has exited, the worker was terminated.
    bool finished;

    // The error that ended the task; sqlstate is 0 if there was none.
    int sqlstate;
    bool only_callers; // the error concerns only the caller: neither log it nor show it in status
    char message[1024];
    char detail[1024];
    char hint[512];

    bool complete; // a round in which nothing went wrong
};

// A task is abandoned when its caller goes away. A round that has begun is independent of its
// caller and always finishes.
enum Stage : uint32 { stage_requested, stage_independent, stage_abandoned };

// Moves a report from stage_requested to `stage`. Returns false if it was in another stage.
inline bool move_to(WorkerReport *report, Stage stage) {
    uint32 expected = stage_requested;
    return pg_atomic_compare_exchange_u32(&report->stage, &expected, stage);
}

enum class Task { round, preview, send_test, check };

// An order of the launcher or of a session; passed in bgw_extra.
struct WorkOrder {
    Oid database;
    bool by_hand;      // from run_digest(): wait for a round in progress
    dsm_handle report; // segment of the report; 0 for none
    Task task = Task::round;
};

// Offset of the row queue in the segment.
inline constexpr Size rows_offset = MAXALIGN(sizeof(WorkerReport));
inline constexpr Size rows_size = 64 * 1024;

// Registers a worker. Returns false if there is no free slot. The server notifies this process when
// the worker starts and ends.
bool start_worker(const WorkOrder &order, const char *database_name,
                  BackgroundWorkerHandle **handle);

} // namespace job_alerting::server
