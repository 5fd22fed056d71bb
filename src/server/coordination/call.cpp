#include "server/base/prelude.hpp"

#include "server/coordination/call.hpp"

#include "server/base/extension.hpp"
#include "server/coordination/rows.hpp"

#include <csignal>

namespace job_alerting::server {

namespace {

constexpr int max_shortage = 5000; // ms to wait for a free worker slot
constexpr int shortage_pause = 50;

// Called when this process leaves the segment, whatever the reason.
void abandon(dsm_segment *, Datum argument) {
    WorkerReport *report = reinterpret_cast<WorkerReport *>(DatumGetPointer(argument));
    if (move_to(report, stage_abandoned) && report->worker != 0)
        kill(report->worker, SIGTERM);
}

// When this process leaves the segment before the worker has fixed what it does, the worker is
// ended: nobody waits for it any more.
WorkerReport *prepare_report(dsm_segment *segment) {
    WorkerReport *report = static_cast<WorkerReport *>(dsm_segment_address(segment));
    memset(report, 0, sizeof(*report));
    pg_atomic_init_u32(&report->stage, stage_asked);
    on_dsm_detach(segment, abandon, PointerGetDatum(report));
    return report;
}

BackgroundWorkerHandle *start_for_caller(const WorkOrder &order) {
    BackgroundWorkerHandle *handle = try_to_start(order);
    if (!handle)
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
                        errmsg("no background worker slot became free within 5 seconds"),
                        errhint("Increase max_worker_processes, or try again.")));
    return handle;
}

} // namespace

void refuse_where_no_worker_serves(const char *function) {
    if (RecoveryInProgress())
        ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
                        errmsg("%s() cannot be called during recovery", function),
                        errhint("Call it on the primary server.")));
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
                 errdetail("It runs in a process of its own, which sees what is committed."),
                 errhint("Commit first. Statements that are sent together, as by one \"psql -c\", "
                         "are one transaction.")));
}

Question prepare_question(Task task) {
    Question question = {};
    question.segment = dsm_create(rows_offset + rows_size, 0);
    question.report = prepare_report(question.segment);
    char *memory = static_cast<char *>(dsm_segment_address(question.segment));
    question.queue = shm_mq_create(memory + rows_offset, rows_size);
    shm_mq_set_receiver(question.queue, MyProc);
    question.order = {.database = MyDatabaseId,
                      .by_hand = true,
                      .report = dsm_segment_handle(question.segment),
                      .task = task};
    return question;
}

void ask_worker(FunctionCallInfo fcinfo, Task task, const char *what, const char *committed) {
    InitMaterializedSRF(fcinfo, 0);
    const Question question = prepare_question(task);
    BackgroundWorkerHandle *handle = start_for_caller(question.order);
    receive_rows(shm_mq_attach(question.queue, question.segment, handle),
                 reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo));
    await_end(handle, question.report);
    raise_what_failed(question.report, what, committed);
    dsm_detach(question.segment);
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

void raise_what_failed(const WorkerReport *report, const char *what, const char *committed) {
    if (!report->finished)
        ereport(ERROR,
                (errcode(ERRCODE_OPERATOR_INTERVENTION),
                 errmsg("%s was ended before it was over", what),
                 committed ? errdetail("%s", committed) : 0, errhint("See the server's log.")));
    if (report->sqlstate != 0)
        ereport(ERROR, (errcode(report->sqlstate), errmsg("%s", report->message),
                        report->detail[0] ? errdetail("%s", report->detail) : 0,
                        report->hint[0] ? errhint("%s", report->hint) : 0));
}

bool await_end(BackgroundWorkerHandle *handle, WorkerReport *report) {
    if (WaitForBackgroundWorkerShutdown(handle) == BGWH_POSTMASTER_DIED)
        proc_exit(1);
    move_to(report, stage_fixed); // nobody is left to be ended
    pg_read_barrier();
    return report->finished;
}

} // namespace job_alerting::server
