// The first part of a round: every queue's failures into the ledger.

#pragma once

#include "server/ledger.hpp"

#include <optional>

namespace job_alerting::server {

// Scans a queue. When it cannot be read, that is kept with the queue and, once it is certain,
// recorded as a failure of its own, and the round goes on. Returns what is wrong, empty when
// nothing is; or nothing when somebody holds the queue's own row and, if it was worth a `wait`,
// did not let it go.
std::optional<std::string> record_queue(const Queue &queue, bool wait);

// Keeps with the queue that its last scan never ended; two such scans in succession are recorded
// as a failure of its own.
void note_unended(const Queue &queue);

} // namespace job_alerting::server
