// The launcher: one process for the whole cluster, connected to no database. It wakes when a
// round is due somewhere, and starts one worker at a time.

#pragma once

namespace job_alerting::server {

// Registers the launcher; to be called while the server starts.
void register_launcher();

} // namespace job_alerting::server
