// One round at a time in a database. C regime.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

// Takes the lock of this database's rounds, for the life of the process. Waits for it,
// interruptibly, or returns false. To be called outside a transaction.
//
// It is an advisory lock of a kind that SQL has no words for, so no role can hold it against the
// rounds.
bool take_round_lock(bool wait);

void share_round_lock_with_transaction();
void return_round_lock_to_session();

// Runs `work`, which may call pg_advisory_unlock_all(), in a transaction. That call releases what
// the session holds. So the transaction holds the lock as well meanwhile, and the session takes it
// again afterwards: it is free at no time.
template <typename Work> void keeping_round_lock(Work &&work) {
    share_round_lock_with_transaction();
    PG_TRY();
    { work(); }
    PG_FINALLY();
    { return_round_lock_to_session(); }
    PG_END_TRY();
}

} // namespace job_alerting::server
