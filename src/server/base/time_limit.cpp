#include "server/base/prelude.hpp"

#include "server/base/time_limit.hpp"

extern "C" {
#include "storage/fd.h"
}

#include <sys/socket.h>

#include <csignal>

namespace job_alerting::server {

namespace {

constexpr int grace = 1000;       // ms between cancelling, cutting connections and ending
constexpr int check_pause = 1000; // ms between checks for a termination request
constexpr int spare_files = 64;   // descriptors that the server does not count

TimeoutId limit;
TimeoutId termination_check;
int descriptors;    // upper bound of all descriptors
bool *is_inherited; // sockets that this process shares with others

volatile sig_atomic_t ends_process; // the limit ends the process after cutting connections
volatile sig_atomic_t has_cut;
volatile sig_atomic_t spared;

bool is_socket(int descriptor) {
    int type;
    socklen_t size = sizeof(type);
    return getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &type, &size) == 0;
}

// The functions below run in signal handlers and call only what POSIX allows there.

// Shuts down all sockets that this process has opened, including those still connecting.
void cut_connections() {
    const int before = errno;
    for (int descriptor = 0; descriptor < descriptors; descriptor++)
        if (!is_inherited[descriptor] && is_socket(descriptor))
            shutdown(descriptor, SHUT_RDWR);
    errno = before;
}

void end_process() {
    ProcDiePending = true;
    InterruptPending = true;
    SetLatch(MyLatch);
}

// Called every second after the limit has expired. The first call makes a wait for a foreign server
// fail, so that the error is reported. The second ends the process at its next check for
// interrupts.
void handle_expired_limit() {
    if (has_cut && ends_process)
        end_process();
    if (spared)
        return;
    has_cut = true;
    cut_connections();
}

// A terminating process cuts connections repeatedly: libpq may try several addresses, and the final
// rollback connects to foreign servers again.
void handle_termination_check() {
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
    is_inherited = static_cast<bool *>(MemoryContextAllocZero(TopMemoryContext, descriptors));
    for (int descriptor = 0; descriptor < descriptors; descriptor++)
        is_inherited[descriptor] = is_socket(descriptor);
    limit = RegisterTimeout(USER_TIMEOUT, handle_expired_limit);
    termination_check = RegisterTimeout(USER_TIMEOUT, handle_termination_check);
    enable_timeout_every(termination_check, from_now(check_pause), check_pause);
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
