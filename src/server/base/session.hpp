// The session that a worker runs its round in. C regime.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

// Connects this worker to a database, as the bootstrap superuser, under the settings of the server
// and the database; never those that ALTER ROLE gave that superuser. What decides the meaning of a
// round's statements, or their time, is fixed. Waits for the lock on a database no longer than
// job_alerting.lock_timeout.
void connect_session(Oid database);

} // namespace job_alerting::server
