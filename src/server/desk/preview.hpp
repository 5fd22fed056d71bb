// preview(): the digest that a round would now send through the first configured channel.

#pragma once

#include "server/coordination/rows.hpp"

namespace job_alerting::server {

// There is no queue, and no failure of a former queue waits to be sent.
struct NothingWatched : std::exception {};

// Returns a row (subject, text, HTML) if there is anything to send. Scans the queues as a round
// does, but writes nothing, does not use up a digest number and does not take the round lock.
// Throws NothingWatched and what run_round() throws.
void preview(Rows &rows);

} // namespace job_alerting::server
