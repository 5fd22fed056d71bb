// Where a failure query runs: as its owner, with no power but to read. C regime.

#pragma once

#include "server/prelude.hpp"

namespace job_alerting::server {

// Runs `work` as role `owner` in a subtransaction that is rolled back afterwards, so that nothing
// of it stays but what `work` copied out of it: read-only, in a security-restricted operation (no
// SET ROLE, no temporary objects), with search_path = pg_catalog, pg_temp and lock_timeout as
// job_alerting.lock_timeout says.
//
// `time_limit` milliseconds (0: none): past it the work is cancelled; where that does not end it,
// connections are cut, and then the process ends (time_limit.hpp). Only a worker may set one.
//
// An error of the work passes, after the subtransaction is rolled back.
void sandboxed(Oid owner, int time_limit, void (*work)(void *), void *argument);

// The same for a lambda.
template <typename Work> void sandboxed(Oid owner, int time_limit, Work &work) {
    sandboxed(
        owner, time_limit, [](void *argument) { (*static_cast<Work *>(argument))(); }, &work);
}

// Whether an error says that a lock or a time limit ended the work, rather than that it is wrong.
bool is_limit(int sqlstate);

} // namespace job_alerting::server
