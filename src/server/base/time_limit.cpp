#include "server/base/prelude.hpp"

#include "server/base/time_limit.hpp"

#include <sys/socket.h>

#include <csignal>

namespace job_alerting::server {

namespace {

constexpr int grace = 1000;      // ms for what was cancelled, or cut, to come back
constexpr int look_pause = 1000; // ms between two looks whether this process is asked to end
constexpr int spare_files = 64;  // descriptors that the server does not count

TimeoutId limit;
TimeoutId look;
int descriptors;   // all sockets are below it
bool *is_anothers; // sockets that this process has inherited: others use them

volatile sig_atomic_t ends_process; // the limit, when connections have been cut
volatile sig_atomic_t has_cut;
volatile sig_atomic_t spared;

bool is_socket(int descriptor) {
    int type;
    socklen_t size = sizeof(type);
    return getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &type, &size) == 0;
}

// Signal handlers: only what POSIX allows in them. A connection that is being made is cut, too.
void cut_connections() {
    const int before = errno;
    for (int descriptor = 0; descriptor < descriptors; descriptor++)
        if (!is_anothers[descriptor] && is_socket(descriptor))
            shutdown(descriptor, SHUT_RDWR);
    errno = before;
}

void end_process() {
    ProcDiePending = true;
    InterruptPending = true;
    SetLatch(MyLatch);
}

// Each second past the limit. The first time what waits for a foreign server fails, and may say so;
// what goes on after that ends with the process, at its next check for interrupts.
void pass_limit() {
    if (has_cut && ends_process)
        end_process();
    if (spared)
        return;
    has_cut = true;
    cut_connections();
}

// Whoever is asked to end cuts more than once: there may be more than one address to connect to,
// and foreign servers are told when the last transaction is rolled back, on the way out.
void look_around() {
    if (proc_exit_inprogress || (ProcDiePending && !spared))
        cut_connections();
}

TimestampTz from_now(int milliseconds) {
    return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), milliseconds);
}

void start_limit(int milliseconds, bool ends) {
    ends_process = ends;
    has_cut = false;
    enable_timeout_every(limit, from_now(milliseconds), grace);
}

} // namespace

void prepare_time_limits() {
    descriptors = max_files_per_process + spare_files;
    is_anothers = static_cast<bool *>(MemoryContextAllocZero(TopMemoryContext, descriptors));
    for (int descriptor = 0; descriptor < descriptors; descriptor++)
        is_anothers[descriptor] = is_socket(descriptor);
    limit = RegisterTimeout(USER_TIMEOUT, pass_limit);
    look = RegisterTimeout(USER_TIMEOUT, look_around);
    enable_timeout_every(look, from_now(look_pause), look_pause);
}

void start_time_limit(int milliseconds) {
    if (milliseconds == 0)
        return;
    enable_timeout_after(STATEMENT_TIMEOUT, milliseconds);
    start_limit(milliseconds + grace, true);
}

void stop_cancelling() {
    disable_timeout(STATEMENT_TIMEOUT, false);
}

void stop_time_limit() {
    disable_timeout(STATEMENT_TIMEOUT, false);
    disable_timeout(limit, false);
}

bool has_cut_connections() {
    return has_cut;
}

void start_connection_limit(int milliseconds) {
    start_limit(milliseconds, false);
}

SparedConnections::SparedConnections() {
    spared = true;
}

SparedConnections::~SparedConnections() {
    spared = false;
}

} // namespace job_alerting::server
