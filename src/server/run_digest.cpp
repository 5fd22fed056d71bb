// run_digest(): one round now, for the caller, in a worker of its own. C regime throughout.

#include "server/prelude.hpp"

#include "server/extension.hpp"
#include "server/report.hpp"

extern "C" {
PG_FUNCTION_INFO_V1(job_alerting_run_digest);
}

namespace job_alerting::server {

namespace {

constexpr int longest_shortage = 5000; // ms to wait for a free worker slot
constexpr int shortage_pause = 50;

void refuse_where_it_cannot_work() {
    if (RecoveryInProgress())
        ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
                        errmsg("run_digest() cannot be called during recovery"),
                        errhint("Call it on the primary server.")));
    if (XactReadOnly)
        ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
                        errmsg("cannot execute run_digest() in a read-only transaction"),
                        errhint("Call it in a transaction that may write.")));
    PreventCommandIfParallelMode("run_digest()");
    if (InSecurityRestrictedOperation())
        ereport(ERROR,
                (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                 errmsg("run_digest() cannot be called in a security-restricted operation")));
    if (find_extension().created_here)
        ereport(ERROR,
                (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                 errmsg("run_digest() cannot be called in the transaction that created the "
                        "extension"),
                 errdetail("Its round runs in a process of its own, which sees what is committed."),
                 errhint("Commit first.")));
}

// Waits, interruptibly, for a free slot.
BackgroundWorkerHandle *start(const WorkOrder &order) {
    const char *database = get_database_name(MyDatabaseId);
    const TimestampTz begin = GetCurrentTimestamp();
    BackgroundWorkerHandle *handle;
    while (!start_worker(order, database, &handle)) {
        if (TimestampDifferenceExceeds(begin, GetCurrentTimestamp(), longest_shortage))
            ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
                            errmsg("no background worker slot became free within 5 seconds"),
                            errhint("Increase max_worker_processes, or try again.")));
        WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, shortage_pause,
                  PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    }
    return handle;
}

void raise_what_failed(const Report *report) {
    if (!report->finished)
        ereport(ERROR,
                (errcode(ERRCODE_OPERATOR_INTERVENTION),
                 errmsg("the round was ended before it was over"),
                 errdetail("What it had committed stays; the next round goes on from there."),
                 errhint("See the server's log.")));
    if (report->sqlstate != 0)
        ereport(ERROR, (errcode(report->sqlstate), errmsg("%s", report->message),
                        report->detail[0] ? errdetail("%s", report->detail) : 0,
                        report->hint[0] ? errhint("%s", report->hint) : 0));
}

void return_row(const Report::Line &line, ReturnSetInfo *result) {
    Datum values[5] = {CStringGetTextDatum(line.channel), Int64GetDatum(line.digest_id),
                       Int64GetDatum(line.failures), CStringGetTextDatum(line.outcome),
                       CStringGetTextDatum(line.detail)};
    bool nulls[5] = {false, !line.has_digest, false, false, line.detail[0] == '\0'};
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

} // namespace

} // namespace job_alerting::server

extern "C" Datum job_alerting_run_digest(PG_FUNCTION_ARGS) {
    using namespace job_alerting::server;

    refuse_where_it_cannot_work();
    InitMaterializedSRF(fcinfo, 0);

    dsm_segment *segment = dsm_create(sizeof(Report), 0);
    Report *report = static_cast<Report *>(dsm_segment_address(segment));
    memset(report, 0, sizeof(*report));
    const WorkOrder order = {
        .database = MyDatabaseId, .by_hand = true, .report = dsm_segment_handle(segment)};
    BackgroundWorkerHandle *handle = start(order);
    // Cancelling ends this wait, not the round.
    if (WaitForBackgroundWorkerShutdown(handle) == BGWH_POSTMASTER_DIED)
        proc_exit(1);
    pg_read_barrier();

    raise_what_failed(report);
    for (int i = 0; i < report->rows; i++)
        return_row(report->lines[i], reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo));
    dsm_detach(segment);
    return static_cast<Datum>(0);
}
