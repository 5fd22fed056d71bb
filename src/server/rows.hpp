// Rows of text that a worker returns to a session, through a queue in shared memory, so that they
// may be of any size.

#pragma once

#include "server/report.hpp"
#include "server/transaction.hpp"

namespace job_alerting::server {

// The worker's end.
class Rows {
public:
    // `segment`: that of the WorkOrder. Throws ServerError.
    explicit Rows(dsm_segment *segment);

    // Waits for the reader. Throws ServerError, also when the reader has gone. All text is in the
    // database's encoding.
    void add(const Row &row);

private:
    shm_mq_handle *queue_ = nullptr;
};

// The session's end. C regime. Reads rows into the result until the worker ends.
void receive_rows(shm_mq_handle *queue, ReturnSetInfo *result);

} // namespace job_alerting::server
