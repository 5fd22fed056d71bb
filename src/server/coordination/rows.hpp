// Rows that a worker returns to a session. They are sent as text through a shared memory queue, so
// their size and number are not limited.

#pragma once

#include "server/base/transaction.hpp"
#include "server/coordination/work_order.hpp"

namespace job_alerting::server {

// The worker's end of the queue.
class Rows {
public:
    // `segment` is the one named by the WorkOrder. Throws ServerError.
    explicit Rows(dsm_segment *segment);

    // Sends a row and waits for the reader to make room. Text is in the database's encoding. Throws
    // ServerError, also if the reader has detached.
    void add(const Row &row);

    // Sends a row, but waits for the reader at most a few seconds over all rows. Returns false if
    // the reader made no room in that time or has detached; the caller must then stop.
    bool offer(const Row &row);

private:
    TimestampTz wait_until_ = 0; // 0 before the first offer
    shm_mq_handle *queue_ = nullptr;
};

// The session's end of the queue. C regime. Reads rows until the worker detaches, converts them to
// the types of the result's columns, and adds them to the result.
void receive_rows(shm_mq_handle *queue, ReturnSetInfo *result);

} // namespace job_alerting::server
