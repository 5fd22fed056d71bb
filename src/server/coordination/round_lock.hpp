// The lock that allows one round at a time in a database. C regime.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

// Takes the round lock of this database and keeps it until the process ends. If the lock is taken,
// waits for it, interruptibly, or returns false. Call it outside a transaction.
//
// The lock is an advisory lock with a tag that SQL functions cannot produce, so no role can take it
// to block rounds.
bool take_round_lock(bool wait);

void share_round_lock_with_transaction();
void return_round_lock_to_session();

// Runs `work`, which may call pg_advisory_unlock_all(), in a transaction. That function releases
// all locks held by the session. Therefore the transaction holds the lock as well during `work`,
// and the session takes it again afterwards, so that it is never free.
template <typename Work> void with_round_lock(Work &&work) {
    share_round_lock_with_transaction();
    PG_TRY();
    { work(); }
    PG_FINALLY();
    { return_round_lock_to_session(); }
    PG_END_TRY();
}

} // namespace job_alerting::server
