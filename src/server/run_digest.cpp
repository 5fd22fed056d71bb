// run_digest(): one round now, for the caller, in a worker of its own. C regime throughout.

#include "server/prelude.hpp"

#include "server/call.hpp"

extern "C" {
PG_FUNCTION_INFO_V1(job_alerting_run_digest);
}

namespace job_alerting::server {

namespace {

void refuse_to_write() {
    if (XactReadOnly)
        ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
                        errmsg("cannot execute run_digest() in a read-only transaction"),
                        errhint("Call it in a transaction that may write.")));
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

    refuse_where_no_worker_serves("run_digest");
    refuse_to_write();
    InitMaterializedSRF(fcinfo, 0);

    dsm_segment *segment = dsm_create(sizeof(Report), 0);
    Report *report = static_cast<Report *>(dsm_segment_address(segment));
    memset(report, 0, sizeof(*report));
    const WorkOrder order = {
        .database = MyDatabaseId, .by_hand = true, .report = dsm_segment_handle(segment)};
    await_report(start_for_caller(order), report, "the round",
                 "What it had committed stays; the next round goes on from there.");
    for (int i = 0; i < report->rows; i++)
        return_row(report->lines[i], reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo));
    dsm_detach(segment);
    return static_cast<Datum>(0);
}
