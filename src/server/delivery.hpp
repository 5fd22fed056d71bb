// The rest of a round: what the ledger holds, through one channel, to its receivers.

#pragma once

#include "server/round.hpp"

namespace job_alerting::server {

// Composes, sends and settles what this channel has waiting, and tells in `report` what came of
// it. Digests in doubt go first, and as long as one of them is re-sent nothing newer follows.
void deliver(const Settings &settings, bool by_hand, ChannelReport &report);

} // namespace job_alerting::server
