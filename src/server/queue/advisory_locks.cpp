#include "server/base/prelude.hpp"

#include "server/queue/advisory_locks.hpp"

namespace job_alerting::server {

namespace {

struct HeldLock {
    LOCKTAG tag;
    LOCKMASK modes;
};

LOCKMASK modes_in(const List *locks, const LOCKTAG &tag) {
    const ListCell *cell;
    foreach (cell, locks) {
        const HeldLock *lock = static_cast<const HeldLock *>(lfirst(cell));
        if (memcmp(&lock->tag, &tag, sizeof(tag)) == 0)
            return lock->modes;
    }
    return 0;
}

// Releases a lock as often as it was taken.
void release(const LOCKTAG &tag, LOCKMODE mode) {
    while (holds_lock(tag, mode) && LockRelease(&tag, mode, true))
        ;
}

} // namespace

List *held_advisory_locks() {
    List *locks = NIL;
    for (int partition = 0; partition < NUM_LOCK_PARTITIONS; partition++) {
        LWLock *lock = LockHashPartitionLockByIndex(partition);
        LWLockAcquire(lock, LW_SHARED);
        each_own_lock(partition, [&](const PROCLOCK *own) {
            if (LOCK_LOCKMETHOD(*own->tag.myLock) != USER_LOCKMETHOD || own->holdMask == 0)
                return;
            HeldLock *held = static_cast<HeldLock *>(palloc(sizeof(HeldLock)));
            *held = {.tag = own->tag.myLock->tag, .modes = own->holdMask};
            locks = lappend(locks, held);
        });
        LWLockRelease(lock);
    }
    return locks;
}

int release_advisory_locks(const List *kept) {
    int released = 0;
    List *held = held_advisory_locks();
    ListCell *cell;
    foreach (cell, held) {
        const HeldLock *lock = static_cast<const HeldLock *>(lfirst(cell));
        const LOCKMASK others = lock->modes & ~modes_in(kept, lock->tag);
        for (LOCKMODE mode = 1; mode <= MaxLockMode; mode++)
            if (others & LOCKBIT_ON(mode))
                release(lock->tag, mode);
        released += others != 0;
    }
    list_free_deep(held);
    return released;
}

} // namespace job_alerting::server
