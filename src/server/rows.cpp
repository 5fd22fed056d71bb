#include "server/prelude.hpp"

#include "server/rows.hpp"

namespace job_alerting::server {

namespace {

// A message for each value: whether there is one, and its bytes.
constexpr char absent = '0';
constexpr char present = '1';

void send(shm_mq_handle *queue, const char *message, Size size) {
    if (shm_mq_send(queue, size, message, false, true) != SHM_MQ_SUCCESS)
        ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE),
                        errmsg("the session that asked for it has gone")));
}

// Returns false when the worker has ended.
bool receive(shm_mq_handle *queue, Datum *value, bool *null) {
    Size size;
    void *data;
    if (shm_mq_receive(queue, &size, &data, false) != SHM_MQ_SUCCESS)
        return false;
    const char *message = static_cast<const char *>(data);
    *null = message[0] == absent;
    *value =
        *null ? static_cast<Datum>(0)
              : PointerGetDatum(cstring_to_text_with_len(message + 1, static_cast<int>(size) - 1));
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
        const std::string message = value ? present + *value : std::string(1, absent);
        guarded([&] { send(queue_, message.data(), message.size()); });
    }
}

void receive_rows(shm_mq_handle *queue, ReturnSetInfo *result) {
    constexpr int most_columns = 8;
    const int columns = result->setDesc->natts;
    Assert(columns <= most_columns);
    Datum values[most_columns];
    bool nulls[most_columns];
    for (;;) {
        for (int i = 0; i < columns; i++)
            if (!receive(queue, &values[i], &nulls[i]))
                return;
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
}

} // namespace job_alerting::server
