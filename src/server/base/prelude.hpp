// The server's headers, after the standard library: they redefine parts of it (snprintf and its
// kin are the server's from here on). Every file of src/server begins with this one.

#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

extern "C" {
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "executor/tstoreReceiver.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "storage/pmsignal.h"
#include "storage/proc.h"
#include "storage/shm_mq.h"
#include "storage/shmem.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/ps_status.h"
#include "utils/queryenvironment.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/varlena.h"
}

namespace job_alerting::server {

// The differences between versions of the server, 15 to 19. No other file checks the version.

// Tells the server what it has loaded, 18 and later by its name as well.
#ifdef PG_MODULE_MAGIC_EXT
#define JOB_ALERTING_MODULE_MAGIC                                                                  \
    PG_MODULE_MAGIC_EXT(.name = "job_alerting", .version = JOB_ALERTING_VERSION)
#else
#define JOB_ALERTING_MODULE_MAGIC PG_MODULE_MAGIC
#endif

// Calls `visit` with each lock of this process in one partition of the lock table, which the caller
// has locked.
template <typename Visit> void each_own_lock(int partition, Visit &&visit) {
#if PG_VERSION_NUM >= 160000
    // By hand: the server's macros for such a list are C only.
    dlist_head *locks = &MyProc->myProcLocks[partition];
    for (dlist_node *at = locks->head.next; at && at != &locks->head; at = at->next)
        visit(reinterpret_cast<PROCLOCK *>(reinterpret_cast<char *>(at) -
                                           offsetof(PROCLOCK, procLink)));
#else
    SHM_QUEUE *locks = &MyProc->myProcLocks[partition];
    const auto next = [&](SHM_QUEUE *at) {
        return reinterpret_cast<PROCLOCK *>(SHMQueueNext(locks, at, offsetof(PROCLOCK, procLink)));
    };
    for (PROCLOCK *lock = next(locks); lock; lock = next(&lock->procLink))
        visit(lock);
#endif
}

inline bool holds_lock(const LOCKTAG &tag, LOCKMODE mode) {
#if PG_VERSION_NUM >= 170000
    return LockHeldByMe(&tag, mode, false);
#else
    return LockHeldByMe(&tag, mode);
#endif
}

// Calls `visit` with each setting that the server knows.
template <typename Visit> void each_setting(Visit &&visit) {
#if PG_VERSION_NUM >= 160000
    int count;
    config_generic **settings = get_guc_variables(&count);
#else
    const int count = GetNumConfigOptions();
    config_generic **settings = get_guc_variables();
#endif
    for (int i = 0; i < count; i++)
        visit(settings[i]);
}

// The least level of a message that a background worker writes to the server's log.
inline int log_level() {
#if PG_VERSION_NUM >= 190000
    return log_min_messages[B_BG_WORKER];
#else
    return log_min_messages;
#endif
}

// The type of the bytes that the server encodes as base64.
#if PG_VERSION_NUM >= 180000
using Base64Byte = uint8;
#else
using Base64Byte = char;
#endif

// Ends the making of a description: the server uses none that is not finished.
inline TupleDesc finished(TupleDesc description) {
#if PG_VERSION_NUM >= 190000
    TupleDescFinalize(description);
#endif
    return description;
}

inline HTAB *shared_table(const char *name, int size, HASHCTL &control, int flags) {
#if PG_VERSION_NUM >= 190000
    return ShmemInitHash(name, size, &control, flags);
#else
    return ShmemInitHash(name, size, size, &control, flags);
#endif
}

// Calls `visit` with each node right below one of an expression, and with each of a query. Returns
// whether `visit` returned true, at which the walk ends.
using NodeVisitor = bool (*)(Node *, void *);

#if PG_VERSION_NUM >= 160000
inline bool walk_expression(Node *node, NodeVisitor visit, void *argument) {
    return expression_tree_walker(node, visit, argument);
}

inline bool walk_query(Query *query, NodeVisitor visit, void *argument) {
    return query_tree_walker(query, visit, argument, 0);
}
#else
// The walkers are declared as C does, without the types of what they call.
inline auto untyped(NodeVisitor visit) {
    return reinterpret_cast<bool (*)()>(reinterpret_cast<void *>(visit));
}

inline bool walk_expression(Node *node, NodeVisitor visit, void *argument) {
    return expression_tree_walker(node, untyped(visit), argument);
}

inline bool walk_query(Query *query, NodeVisitor visit, void *argument) {
    return query_tree_walker(query, untyped(visit), argument, 0);
}
#endif

} // namespace job_alerting::server
