// Limits of a worker's time that nothing it runs can escape. C regime.
//
// A foreign server that accepts a connection and never answers keeps a worker where it serves no
// interrupt: libpq waits for it in one blocking call. Such a call returns when the connection is
// cut. So the connections that this process has made are cut when it is asked to end, and when its
// time is over; not while it sends a digest, which has its own limit.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

// Makes the limits work in this process; called once by each worker, when it has connected.
void prepare_time_limits();

// Past `milliseconds` (0: never) the statement is cancelled; a second later connections are cut; a
// second after that the process ends.
void start_time_limit(int milliseconds);

// From here on the statement is no longer cancelled.
void stop_cancelling();

// The limit is over.
void stop_time_limit();

// Whether the last limit has cut connections.
bool has_cut_connections();

// Past `milliseconds` connections are cut, and no more than that happens. For a transaction that
// ends, and whose foreign servers are to end theirs.
void start_connection_limit(int milliseconds);

// Connections are not cut while it is in scope. C++ regime.
class SparedConnections {
public:
    SparedConnections();
    SparedConnections(const SparedConnections &) = delete;
    SparedConnections &operator=(const SparedConnections &) = delete;
    ~SparedConnections();
};

} // namespace job_alerting::server
