// Reads failures with as much as can be read of what is told of them. The failures matter more than
// any detail: where one cannot be read, or what never ran not in time, they are asked for again
// without it. C regime.

#pragma once

#include "server/queue/failure_query.hpp"

namespace job_alerting::server {

// How far a try came.
struct Progress {
    FailureColumns columns; // that the failure query returns
    bool in_details;        // it reads them now: an error is theirs
};

// One try, in a sandbox of its own: asks the failure query for those of its columns that are
// wanted.
using Attempt = void (*)(void *argument, const FailureColumns &wanted, int time_limit,
                         Progress &progress);

// The columns left out, for people; null when none was.
struct Omission {
    char *columns;
    char *error;
};

// Tries until what can be read was read; the last try that did not fail is that which counts. An
// error when the failures cannot be read without any detail. The first try may take as long as is
// `left` of the time limit (ms; 0 for none); more tries have it once more, all together, and
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

} // namespace job_alerting::server
