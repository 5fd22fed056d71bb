// preview(): the next digest of the first configured channel, as it would be if its round came now.

#pragma once

#include "server/coordination/rows.hpp"

namespace job_alerting::server {

// There is no queue, and nothing was recorded of a former one.
struct NothingWatched : std::exception {};

// Returns a row (subject, text, HTML) when there is anything to tell. It looks at the queues as a
// round does, but writes nothing, takes no number and waits for no round. Throws NothingWatched
// and what run_round() throws.
void preview(Rows &rows);

} // namespace job_alerting::server
