// send_test(): a small message through every configured channel.

#pragma once

#include "server/coordination/rows.hpp"

namespace job_alerting::server {

// Returns a row for each channel: its name, what became of the message, in the words of a digest,
// and why. It is no digest: it is not recorded, and not tried again. Throws what run_round()
// throws.
void send_test(Rows &rows);

} // namespace job_alerting::server
