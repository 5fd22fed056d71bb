// preview(), send_test() and check(): an operator's questions, answered by a worker, so that the
// settings of the server and the database hold, and not those of the session. C regime throughout.

#include "server/base/prelude.hpp"

#include "server/coordination/call.hpp"
#include "server/coordination/rows.hpp"
#include "server/coordination/shared.hpp"

extern "C" {
PG_FUNCTION_INFO_V1(job_alerting_check);
PG_FUNCTION_INFO_V1(job_alerting_preview);
PG_FUNCTION_INFO_V1(job_alerting_send_test);
}

namespace job_alerting::server {

namespace {

ReturnSetInfo *result_of(FunctionCallInfo fcinfo) {
    return reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
}

//
// check()
//

void add(ReturnSetInfo *result, const char *item, bool good, const char *detail, const char *hint) {
    Datum values[] = {CStringGetTextDatum(item), CStringGetTextDatum(good ? "ok" : "error"),
                      CStringGetTextDatum(detail), CStringGetTextDatum(hint)};
    bool nulls[] = {false, false, false, good};
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

void check_preload(ReturnSetInfo *result) {
    const bool good = shared::exists();
    add(result, "preload", good,
        good ? "the library is preloaded"
             : "the library is not preloaded: no round comes by itself",
        "Add job_alerting to shared_preload_libraries in postgresql.conf, and restart the server.");
}

void check_launcher(ReturnSetInfo *result) {
    const pid_t pid = shared::launcher().pid;
    add(result, "launcher", pid != 0,
        pid != 0 ? psprintf("it runs as process %d", static_cast<int>(pid)) : "it is not running",
        shared::exists() ? "Unless it is back in 10 seconds, see the server's log."
                         : "It comes with the preloaded library.");
}

void check_worker_slot(ReturnSetInfo *result, bool good) {
    add(result, "worker slot", good,
        good ? "a worker finds a slot" : "no background worker slot became free within 5 seconds",
        psprintf("ALTER SYSTEM SET max_worker_processes = %d; and restart the server. What else "
                 "needs a worker could not be looked at.",
                 max_worker_processes + 2));
}

// A failure query that cannot be stopped ends the worker, and not what it had found until then.
void read_findings(const Question &question, BackgroundWorkerHandle *handle,
                   ReturnSetInfo *result) {
    receive_rows(shm_mq_attach(question.queue, question.segment, handle), result);
    if (await_end(handle, question.report))
        raise_what_failed(question.report, "check()");
    else
        add(result, "the rest", false,
            "the worker was ended before it had looked at all: what follows the last item here was "
            "not looked at",
            "See the server's log. A failure query that cannot be cancelled ends its worker after "
            "job_alerting.scan_timeout.");
    dsm_detach(question.segment);
}

} // namespace

} // namespace job_alerting::server

extern "C" Datum job_alerting_check(PG_FUNCTION_ARGS) {
    using namespace job_alerting::server;

    refuse_where_no_worker_serves("check");
    InitMaterializedSRF(fcinfo, 0);
    ReturnSetInfo *result = result_of(fcinfo);
    check_preload(result);
    check_launcher(result);
    const Question question = prepare_question(Task::check);
    BackgroundWorkerHandle *handle = try_to_start(question.order);
    check_worker_slot(result, handle != nullptr);
    if (handle)
        read_findings(question, handle, result);
    else
        dsm_detach(question.segment);
    return static_cast<Datum>(0);
}

extern "C" Datum job_alerting_preview(PG_FUNCTION_ARGS) {
    using namespace job_alerting::server;

    refuse_where_no_worker_serves("preview");
    ask_worker(fcinfo, Task::preview, "preview()");
    return static_cast<Datum>(0);
}

extern "C" Datum job_alerting_send_test(PG_FUNCTION_ARGS) {
    using namespace job_alerting::server;

    refuse_where_no_worker_serves("send_test");
    ask_worker(fcinfo, Task::send_test, "send_test()");
    return static_cast<Datum>(0);
}
