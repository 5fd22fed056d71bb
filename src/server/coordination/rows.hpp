// Rows that a worker returns to a session, as text, through a queue in shared memory, so that they
// may be of any size and number.

#pragma once

#include "server/base/transaction.hpp"
#include "server/coordination/work_order.hpp"

namespace job_alerting::server {

// The worker's end.
class Rows {
public:
    // `segment`: that of the WorkOrder. Throws ServerError.
    explicit Rows(dsm_segment *segment);

    // Waits for the reader. Throws ServerError, also when the reader has gone. All text is in the
    // database's encoding.
    void add(const Row &row);

    // Waits a few seconds at most for the reader, and for all rows together. Returns false when he
    // has not read by then, or has gone; no more is to be offered then.
    bool offer(const Row &row);

private:
    TimestampTz wait_until_ = 0; // 0 before anything was offered
    shm_mq_handle *queue_ = nullptr;
};

// The session's end. C regime. Reads rows into the result, of whatever types its columns are,
// until the worker ends.
void receive_rows(shm_mq_handle *queue, ReturnSetInfo *result);

} // namespace job_alerting::server
