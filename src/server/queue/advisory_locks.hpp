// The advisory locks of this process. One that is taken for the session outlasts a rollback, so a
// failure query can leave any number of them. C regime.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

// Those that are held now, as a list for release_advisory_locks().
List *held_advisory_locks();

// Releases all that are not in the list. Returns how many these were.
int release_advisory_locks(const List *kept);

} // namespace job_alerting::server
