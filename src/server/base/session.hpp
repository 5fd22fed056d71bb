// The database session of a worker. C regime.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

// Connects this worker to a database as the bootstrap superuser. Settings of the server and of the
// database apply; those that ALTER ROLE set for the superuser do not. Settings that change the
// meaning or the run time of a round's statements are overridden. Waits for a lock on the database
// no longer than job_alerting.lock_timeout.
void connect_session(Oid database);

// No transaction of this process has a limit of its time (the server has one from 17 on), and no
// failure query can set one: the server ends the process where it is met. Called before this
// process connects.
void ignore_transaction_timeout();

} // namespace job_alerting::server
