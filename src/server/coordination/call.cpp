#include "server/base/prelude.hpp"

#include "server/coordination/call.hpp"

#include "server/base/extension.hpp"
#include "server/coordination/rows.hpp"

#include <csignal>

namespace job_alerting::server {

namespace {

constexpr int max_shortage = 5000; // ms to wait for a free worker slot
constexpr int shortage_pause = 50;

// Detach callback: runs when this process detaches from the segment for any reason. Ends a worker
// whose task still depends on the caller.
void abandon(dsm_segment *, Datum argument) {
    WorkerReport *report = reinterpret_cast<WorkerReport *>(DatumGetPointer(argument));
    if (move_to(report, stage_abandoned) && report->worker != 0)
        kill(report->worker, SIGTERM);
}

WorkerReport *prepare_report(dsm_segment *segment) {
    WorkerReport *report = static_cast<WorkerReport *>(dsm_segment_address(segment));
    memset(report, 0, sizeof(*report));
    pg_atomic_init_u32(&report->stage, stage_requested);
    on_dsm_detach(segment, abandon, PointerGetDatum(report));
    return report;
}

BackgroundWorkerHandle *start_for_caller(const WorkOrder &order) {
    BackgroundWorkerHandle *handle = try_to_start(order);
    if (!handle)
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
                        errmsg("no background worker slot became free within 5 seconds"),
                        errhint("Try again, or increase max_worker_processes.")));
    return handle;
}

} // namespace

void require_worker(const char *function) {
    if (RecoveryInProgress())
        ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
                        errmsg("%s() cannot be called during recovery", function),
                        errhint("Call the function on the primary server.")));
    PreventCommandIfParallelMode(psprintf("%s()", function));
    if (InSecurityRestrictedOperation())
        ereport(ERROR,
                (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                 errmsg("%s() cannot be called in a security-restricted operation", function)));
    if (find_extension().created_here)
        ereport(ERROR,
                (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                 errmsg("%s() cannot be called in the transaction that created the extension",
                        function),
                 errdetail("The function runs in a background worker, which sees only committed "
                           "data."),
                 errhint("Commit first. Statements sent in one query string, as by \"psql -c\", "
                         "form one transaction.")));
}

Request prepare_request(Task task) {
    Request request = {};
    request.segment = dsm_create(rows_offset + rows_size, 0);
    request.report = prepare_report(request.segment);
    char *memory = static_cast<char *>(dsm_segment_address(request.segment));
    request.queue = shm_mq_create(memory + rows_offset, rows_size);
    shm_mq_set_receiver(request.queue, MyProc);
    request.order = {.database = MyDatabaseId,
                     .by_hand = true,
                     .report = dsm_segment_handle(request.segment),
                     .task = task};
    return request;
}

void run_in_worker(FunctionCallInfo fcinfo, Task task, const char *activity,
                   const char *committed) {
    InitMaterializedSRF(fcinfo, 0);
    const Request request = prepare_request(task);
    BackgroundWorkerHandle *handle = start_for_caller(request.order);
    receive_rows(shm_mq_attach(request.queue, request.segment, handle),
                 reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo));
    await_end(handle, request.report);
    raise_worker_error(request.report, activity, committed);
    dsm_detach(request.segment);
}

BackgroundWorkerHandle *try_to_start(const WorkOrder &order) {
    const char *database = get_database_name(MyDatabaseId);
    const TimestampTz begin = GetCurrentTimestamp();
    BackgroundWorkerHandle *handle;
    while (!start_worker(order, database, &handle)) {
        if (TimestampDifferenceExceeds(begin, GetCurrentTimestamp(), max_shortage))
            return nullptr;
        WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, shortage_pause,
                  PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    }
    return handle;
}

void raise_worker_error(const WorkerReport *report, const char *activity, const char *committed) {
    if (!report->finished)
        ereport(ERROR,
                (errcode(ERRCODE_OPERATOR_INTERVENTION),
                 errmsg("%s was terminated before it finished", activity),
                 committed ? errdetail("%s", committed) : 0, errhint("See the server's log.")));
    if (report->sqlstate != 0)
        ereport(ERROR, (errcode(report->sqlstate), errmsg("%s", report->message),
                        report->detail[0] ? errdetail("%s", report->detail) : 0,
                        report->hint[0] ? errhint("%s", report->hint) : 0));
}

bool await_end(BackgroundWorkerHandle *handle, WorkerReport *report) {
    if (WaitForBackgroundWorkerShutdown(handle) == BGWH_POSTMASTER_DIED)
        proc_exit(1);
    move_to(report, stage_independent); // so that the detach callback signals no other process
    pg_read_barrier();
    return report->finished;
}

} // namespace job_alerting::server
