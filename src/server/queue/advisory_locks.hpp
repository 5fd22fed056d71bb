// The advisory locks of this process. A session-level lock survives a rollback, so a failure query
// can leave any number of them behind. C regime.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

// Returns the advisory locks held now, for release_advisory_locks().
List *held_advisory_locks();

// Releases all advisory locks that are not in the list. Returns their number.
int release_advisory_locks(const List *kept);

} // namespace job_alerting::server
