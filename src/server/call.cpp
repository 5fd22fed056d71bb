#include "server/prelude.hpp"

#include "server/call.hpp"

#include "server/extension.hpp"

namespace job_alerting::server {

namespace {

constexpr int longest_shortage = 5000; // ms to wait for a free worker slot
constexpr int shortage_pause = 50;

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

BackgroundWorkerHandle *try_to_start(const WorkOrder &order) {
    const char *database = get_database_name(MyDatabaseId);
    const TimestampTz begin = GetCurrentTimestamp();
    BackgroundWorkerHandle *handle;
    while (!start_worker(order, database, &handle)) {
        if (TimestampDifferenceExceeds(begin, GetCurrentTimestamp(), longest_shortage))
            return nullptr;
        WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, shortage_pause,
                  PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    }
    return handle;
}

BackgroundWorkerHandle *start_for_caller(const WorkOrder &order) {
    BackgroundWorkerHandle *handle = try_to_start(order);
    if (!handle)
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
                        errmsg("no background worker slot became free within 5 seconds"),
                        errhint("Increase max_worker_processes, or try again.")));
    return handle;
}

void raise_what_failed(const Report *report, const char *what, const char *committed) {
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

bool await_end(BackgroundWorkerHandle *handle, const Report *report) {
    if (WaitForBackgroundWorkerShutdown(handle) == BGWH_POSTMASTER_DIED)
        proc_exit(1);
    pg_read_barrier();
    return report->finished;
}

void await_report(BackgroundWorkerHandle *handle, const Report *report, const char *what,
                  const char *committed) {
    await_end(handle, report);
    raise_what_failed(report, what, committed);
}

} // namespace job_alerting::server
