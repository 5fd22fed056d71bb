// The launcher: one process for the whole cluster, connected to no database. It wakes up when a
// round is due in any database and starts one worker at a time.

#pragma once

namespace job_alerting::server {

// Registers the launcher. Call it while the server starts.
void register_launcher();

} // namespace job_alerting::server
