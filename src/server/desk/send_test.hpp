// send_test(): sends a test message through every configured channel.

#pragma once

#include "server/coordination/rows.hpp"

namespace job_alerting::server {

// Returns a row for each channel: its name, the outcome as for a digest, and the reason. A test
// message is not a digest: it is neither recorded nor retried. Throws what run_round() throws.
void send_test(Rows &rows);

} // namespace job_alerting::server
