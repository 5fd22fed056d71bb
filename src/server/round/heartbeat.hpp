// The heartbeat: after a round that did all it should, an address is asked for, so that a watchdog
// outside notices when no round comes any more.

#pragma once

#include "server/round/round.hpp"

#include <string>

namespace job_alerting::server {

// Whether a round did all it should: every queue was read, and no channel has anything waiting.
bool did_all(const RoundReport &round);

// What would keep the heartbeat from going out, as far as settings and files tell; empty when
// nothing would, or none is wanted. Never holds the address.
std::string heartbeat_fault(const Settings &settings);

// Asks for the address, if there is one. A failure is logged once, until it has worked again, and
// is nobody else's. No transaction is open.
void send_heartbeat();

} // namespace job_alerting::server
