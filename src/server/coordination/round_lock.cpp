#include "server/base/prelude.hpp"

#include "server/coordination/round_lock.hpp"

namespace job_alerting::server {

namespace {

LOCKTAG round_tag() {
    // The SQL functions set the last field to 1 or 2.
    LOCKTAG tag;
    SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0x6a6f6261, 0x6c657274, 3);
    return tag;
}

} // namespace

bool take_round_lock(bool wait) {
    const LOCKTAG tag = round_tag();
    StartTransactionCommand();
    SetConfigOption("lock_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
    const LockAcquireResult result = LockAcquire(&tag, ExclusiveLock, true, !wait);
    CommitTransactionCommand();
    return result != LOCKACQUIRE_NOT_AVAIL;
}

void share_round_lock_with_transaction() {
    const LOCKTAG tag = round_tag();
    LockAcquire(&tag, ExclusiveLock, false, true);
}

void return_round_lock_to_session() {
    const LOCKTAG tag = round_tag();
    LockAcquire(&tag, ExclusiveLock, true, true);
}

} // namespace job_alerting::server
