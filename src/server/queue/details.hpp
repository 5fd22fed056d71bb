// Reads failures with as many of their details as can be read. A failure matters more than any
// detail: if a detail cannot be read, the failures are recorded without it. C regime.

#pragma once

#include "server/queue/failure_query.hpp"

namespace job_alerting::server {

// How far an attempt came.
struct Progress {
    FailureColumns columns; // that the failure query returns
    bool in_details;        // it was reading them: an error comes from them
};

// Reads the wanted columns of the failure query once, in a sandbox of its own.
using Attempt = void (*)(void *argument, const FailureColumns &wanted, int time_limit,
                         Progress &progress);

// The columns left out, and the first error that one met; both null when none was.
struct Omission {
    char *columns;
    char *error;
};

// Reads all columns; if a detail raises an error, adds one detail after the other to those that can
// be read. The last attempt that succeeded counts. Raises an error when the failures cannot be read
// even without details, or not in time. The first attempt may take as long as is `left` of the time
// limit (ms; 0 for none). All further attempts together may take the whole limit once more;
// `before_again` is called before them.
Omission read_details(Attempt attempt, void *argument, int left, int time_limit,
                      void (*before_again)(int time_limit));

template <typename Work>
Omission read_details(Work &work, int left, int time_limit, void (*before_again)(int time_limit)) {
    return read_details(
        [](void *argument, const FailureColumns &wanted, int limit, Progress &progress) {
            (*static_cast<Work *>(argument))(wanted, limit, progress);
        },
        &work, left, time_limit, before_again);
}

// Runs `work`, which reads the detail `name` in a sandbox of its own, within the time limit. If it
// fails or takes longer, adds the detail to `omission` and returns false. Raises an error when
// somebody cancels it.
bool read_detail(const char *name, void (*work)(void *), void *argument, int time_limit,
                 Omission &omission);

template <typename Work>
bool read_detail(const char *name, Work &work, int time_limit, Omission &omission) {
    return read_detail(
        name, [](void *argument) { (*static_cast<Work *>(argument))(); }, &work, time_limit,
        omission);
}

} // namespace job_alerting::server
