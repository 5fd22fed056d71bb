// Time limits that no code run by a worker can escape. C regime.
//
// A foreign server that accepts a connection and never answers blocks a worker in libpq, which
// does not process interrupts while it waits. The call returns once the socket is shut down.
// Therefore the sockets that this process has opened are shut down when its time limit expires or
// when it is told to terminate. They are left alone while it sends a digest, which has its own
// limit.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

// Sets up the limits in this process. Called once by each worker, after it has connected.
void prepare_time_limits();

// After `milliseconds` (0: no limit), cancels the statement; a second later, shuts down sockets;
// another second later, ends the process.
void start_time_limit(int milliseconds);

// Disables only the cancellation of the statement.
void stop_cancelling();

// Disables the limit.
void stop_time_limit();

// Whether the last limit has shut down sockets.
bool has_cut_connections();

// After `milliseconds`, shuts down sockets and does nothing else. For the end of a transaction,
// when foreign servers have to end theirs.
void start_connection_limit(int milliseconds);

// While it is in scope, sockets are not shut down. C++ regime.
class SparedConnections {
public:
    SparedConnections();
    SparedConnections(const SparedConnections &) = delete;
    SparedConnections &operator=(const SparedConnections &) = delete;
    ~SparedConnections();
};

} // namespace job_alerting::server
