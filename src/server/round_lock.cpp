#include "server/prelude.hpp"

#include "server/round_lock.hpp"

namespace job_alerting::server {

namespace {

LOCKTAG round_tag() {
    // SQL's advisory locks have 1 or 2 as the last field.
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

bool holds_round_lock() {
    const LOCKTAG tag = round_tag();
    return LockHeldByMe(&tag, ExclusiveLock);
}

} // namespace job_alerting::server
