// run_digest(): one round now, for the caller, in a worker of its own. C regime throughout.

#include "server/base/prelude.hpp"

#include "server/coordination/call.hpp"

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

} // namespace

} // namespace job_alerting::server

extern "C" Datum job_alerting_run_digest(PG_FUNCTION_ARGS) {
    using namespace job_alerting::server;

    refuse_where_no_worker_serves("run_digest");
    refuse_to_write();
    ask_worker(fcinfo, Task::round, "the round",
               "What it had committed stays; the next round goes on from there.");
    return static_cast<Datum>(0);
}
