#include "server/base/prelude.hpp"

#include "server/base/extension.hpp"

namespace job_alerting::server {

namespace {

// Blocks DROP EXTENSION until the transaction ends. Any owner of a function can lock the extension
// itself indefinitely (ALTER FUNCTION ... DEPENDS ON EXTENSION); in that case lock a table of the
// extension instead, which only the extension's owner can lock.
void hold(Oid extension) {
    LOCKTAG tag;
    SET_LOCKTAG_OBJECT(tag, MyDatabaseId, ExtensionRelationId, extension, 0);
    if (LockAcquire(&tag, AccessShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL) {
        const Oid queue = get_relname_relid("queue", get_namespace_oid("job_alerting", true));
        if (OidIsValid(queue))
            LockRelationOid(queue, AccessShareLock);
    }
    AcceptInvalidationMessages();
}

} // namespace

Extension find_extension() {
    Extension found = {};
    Relation relation = table_open(ExtensionRelationId, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
                CStringGetDatum(extension_name));
    SysScanDesc scan = systable_beginscan(relation, ExtensionNameIndexId, true, nullptr, 1, &key);
    HeapTuple tuple = systable_getnext(scan);
    if (HeapTupleIsValid(tuple)) {
        const Form_pg_extension row = reinterpret_cast<Form_pg_extension>(GETSTRUCT(tuple));
        found.oid = row->oid;
        found.owner = row->extowner;
        found.created_here =
            TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
        bool absent;
        const Datum version =
            heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(relation), &absent);
        found.version = absent ? "" : TextDatumGetCString(version);
    }
    systable_endscan(scan);
    table_close(relation, AccessShareLock);
    return found;
}

Extension hold_extension() {
    const Extension before = find_extension();
    if (!OidIsValid(before.oid))
        return before;
    // The extension may have been dropped or recreated while we waited for the lock.
    hold(before.oid);
    const Extension now = find_extension();
    return now.oid == before.oid ? now : Extension{};
}

const char *newest_version() {
    const char *newest = nullptr;
    for (const char *const *version = job_alerting_versions; *version; version++)
        newest = *version;
    return newest;
}

const char *version_fault(const Extension &extension) {
    for (const char *const *version = job_alerting_versions; *version; version++)
        if (strcmp(extension.version, *version) == 0)
            return nullptr;
    const char *oldest = job_alerting_versions[0];
    const char *newest = newest_version();
    const char *served = strcmp(oldest, newest) == 0
                             ? psprintf("version %s", newest)
                             : psprintf("versions %s to %s", oldest, newest);
    return psprintf("the library of extension \"job_alerting\" supports %s of its SQL objects, but "
                    "this database has version \"%s\"",
                    served, extension.version);
}

} // namespace job_alerting::server
