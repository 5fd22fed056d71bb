// preview() and send_test(): an operator's questions, answered by a worker, so that the
// settings of the server and the database hold, and not those of the session. C regime throughout.

#include "server/prelude.hpp"

#include "server/call.hpp"
#include "server/rows.hpp"

extern "C" {
PG_FUNCTION_INFO_V1(job_alerting_preview);
PG_FUNCTION_INFO_V1(job_alerting_send_test);
}

namespace job_alerting::server {

namespace {

// What a worker is asked for, and where it answers.
struct Question {
    dsm_segment *segment;
    Report *report;
    shm_mq *queue;
    WorkOrder order;
};

Question prepare(Task task) {
    Question question = {};
    question.segment = dsm_create(rows_offset + rows_size, 0);
    char *memory = static_cast<char *>(dsm_segment_address(question.segment));
    question.report = reinterpret_cast<Report *>(memory);
    memset(question.report, 0, sizeof(Report));
    question.queue = shm_mq_create(memory + rows_offset, rows_size);
    shm_mq_set_receiver(question.queue, MyProc);
    question.order = {.database = MyDatabaseId,
                      .by_hand = true,
                      .report = dsm_segment_handle(question.segment),
                      .task = task};
    return question;
}

// Returns the rows as they come.
void read_answer(const Question &question, BackgroundWorkerHandle *handle, const char *function,
                 ReturnSetInfo *result) {
    receive_rows(shm_mq_attach(question.queue, question.segment, handle), result);
    await_report(handle, question.report, psprintf("%s()", function));
    dsm_detach(question.segment);
}

ReturnSetInfo *result_of(FunctionCallInfo fcinfo) {
    return reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
}

void ask(FunctionCallInfo fcinfo, Task task, const char *function) {
    refuse_where_no_worker_serves(function);
    InitMaterializedSRF(fcinfo, 0);
    const Question question = prepare(task);
    read_answer(question, start_for_caller(question.order), function, result_of(fcinfo));
}

} // namespace

} // namespace job_alerting::server

extern "C" Datum job_alerting_preview(PG_FUNCTION_ARGS) {
    using namespace job_alerting::server;

    ask(fcinfo, Task::preview, "preview");
    return static_cast<Datum>(0);
}

extern "C" Datum job_alerting_send_test(PG_FUNCTION_ARGS) {
    using namespace job_alerting::server;

    ask(fcinfo, Task::send_test, "send_test");
    return static_cast<Datum>(0);
}
