// The heartbeat: after a complete round, the worker requests a URL, so that an external watchdog
// notices when rounds stop.

#pragma once

#include "server/round/round.hpp"

#include <string>

namespace job_alerting::server {

// Whether a round was complete: it read every queue, and no channel has anything waiting.
bool did_all(const RoundReport &round);

// Returns the setting or file that prevents the heartbeat; empty when none does or no heartbeat is
// configured. Never contains the URL.
std::string heartbeat_fault(const Settings &settings);

// Requests the URL, if one is configured. Logs a failure once, until a request succeeds again. A
// failure has no other effect. No transaction may be open.
void send_heartbeat();

} // namespace job_alerting::server
