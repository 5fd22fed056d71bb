#include "server/base/prelude.hpp"

#include "server/coordination/rows.hpp"

namespace job_alerting::server {

namespace {

// Each value is a message: a byte that says whether the value is NULL, and the text.
constexpr char absent = '0';
constexpr char present = '1';

std::string message_of(const Value &value) {
    return value ? present + *value : std::string(1, absent);
}

void send(shm_mq_handle *queue, const char *message, Size size) {
    if (shm_mq_send(queue, size, message, false, true) != SHM_MQ_SUCCESS)
        ereport(ERROR,
                (errcode(ERRCODE_CONNECTION_FAILURE), errmsg("the requesting session has ended")));
}

// Returns false if the reader makes no room before the deadline, or has detached. The message may
// have been sent in part; the reader waits for the rest until the worker ends.
bool send_until(shm_mq_handle *queue, const char *message, Size size, TimestampTz deadline) {
    for (;;) {
        const shm_mq_result result = shm_mq_send(queue, size, message, true, true);
        const long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
        if (result != SHM_MQ_WOULD_BLOCK || left == 0)
            return result == SHM_MQ_SUCCESS;
        WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, left,
                  PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    }
}

// Returns false if the worker has detached.
bool receive(shm_mq_handle *queue, Oid type, Datum *value, bool *null) {
    Size size;
    void *data;
    if (shm_mq_receive(queue, &size, &data, false) != SHM_MQ_SUCCESS)
        return false;
    const char *message = static_cast<const char *>(data);
    *null = message[0] == absent;
    if (*null)
        return true;
    Oid input;
    Oid parameter;
    getTypeInputInfo(type, &input, &parameter);
    *value = OidInputFunctionCall(input, pnstrdup(message + 1, size - 1), parameter, -1);
    return true;
}

} // namespace

Rows::Rows(dsm_segment *segment) {
    guarded([&] {
        MemoryContextSwitchTo(TopMemoryContext);
        shm_mq *queue = reinterpret_cast<shm_mq *>(
            static_cast<char *>(dsm_segment_address(segment)) + rows_offset);
        shm_mq_set_sender(queue, MyProc);
        queue_ = shm_mq_attach(queue, segment, nullptr);
    });
}

void Rows::add(const Row &row) {
    for (const Value &value : row) {
        const std::string message = message_of(value);
        guarded([&] { send(queue_, message.data(), message.size()); });
    }
}

bool Rows::offer(const Row &row) {
    constexpr int64 max_wait = 5 * USECS_PER_SEC;
    bool sent = true;
    if (wait_until_ == 0)
        wait_until_ = GetCurrentTimestamp() + max_wait;
    for (const Value &value : row) {
        const std::string message = message_of(value);
        guarded([&] {
            sent = sent && send_until(queue_, message.data(), message.size(), wait_until_);
        });
    }
    return sent;
}

void receive_rows(shm_mq_handle *queue, ReturnSetInfo *result) {
    constexpr int max_columns = 8;
    const int columns = result->setDesc->natts;
    Assert(columns <= max_columns);
    Datum values[max_columns];
    bool nulls[max_columns];
    for (;;) {
        for (int i = 0; i < columns; i++)
            if (!receive(queue, TupleDescAttr(result->setDesc, i)->atttypid, &values[i], &nulls[i]))
                return;
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
}

} // namespace job_alerting::server
