// check(): the doctor. What it can say of the server itself it says in the session; the rest, here,
// in a worker, so that the settings of the server and the database hold.

#pragma once

#include "server/coordination/rows.hpp"

namespace job_alerting::server {

// Returns a row for each item that it looked at: its name, ok, warning or error, what was found,
// and the statement or setting that mends it. Writes nothing.
void check(Rows &rows);

} // namespace job_alerting::server
