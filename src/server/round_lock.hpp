// One round at a time in a database. C regime.

#pragma once

#include "server/prelude.hpp"

namespace job_alerting::server {

// Takes the lock of this database's rounds, for the life of the process. Waits for it,
// interruptibly, or returns false. To be called outside a transaction.
//
// It is an advisory lock of a kind that SQL has no words for, so no role can hold it against the
// rounds.
bool take_round_lock(bool wait);

// Whether this process holds it still: a failure query can call pg_advisory_unlock_all().
bool holds_round_lock();

} // namespace job_alerting::server
