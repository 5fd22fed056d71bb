// run_digest(): runs one round now, in a worker of its own. C regime throughout.

#include "server/base/prelude.hpp"

#include "server/coordination/call.hpp"

extern "C" {
PG_FUNCTION_INFO_V1(job_alerting_run_digest);
}

namespace job_alerting::server {

namespace {

void require_read_write_transaction() {
    if (XactReadOnly)
        ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
                        errmsg("cannot execute run_digest() in a read-only transaction"),
                        errhint("Call the function in a read-write transaction.")));
}

} // namespace

} // namespace job_alerting::server

extern "C" Datum job_alerting_run_digest(PG_FUNCTION_ARGS) {
    using namespace job_alerting::server;

    require_worker("run_digest");
    require_read_write_transaction();
    run_in_worker(fcinfo, Task::round, "the round",
                  "Its committed results are kept; the next round continues from there.");
    return static_cast<Datum>(0);
}
