#include "server/base/prelude.hpp"

#include "server/process/databases.hpp"

namespace job_alerting::server {

List *list_databases() {
    List *databases = NIL;
    const MemoryContext context = CurrentMemoryContext;
    StartTransactionCommand();
    Relation relation = table_open(DatabaseRelationId, AccessShareLock);
    TableScanDesc scan = table_beginscan_catalog(relation, 0, nullptr);
    while (HeapTuple tuple = heap_getnext(scan, ForwardScanDirection)) {
        const Form_pg_database row = reinterpret_cast<Form_pg_database>(GETSTRUCT(tuple));
        if (row->datistemplate || !row->datallowconn || row->datconnlimit == -2)
            continue;
        const MemoryContext before = MemoryContextSwitchTo(context);
        Database *database = static_cast<Database *>(palloc(sizeof(Database)));
        *database = {.oid = row->oid, .name = row->datname, .due = 0};
        databases = lappend(databases, database);
        MemoryContextSwitchTo(before);
    }
    table_endscan(scan);
    table_close(relation, AccessShareLock);
    CommitTransactionCommand();
    MemoryContextSwitchTo(context);
    return databases;
}

bool refresh(Database *database) {
    List *databases = list_databases();
    bool found = false;
    ListCell *cell;
    foreach (cell, databases) {
        const Database *now = static_cast<const Database *>(lfirst(cell));
        if (now->oid != database->oid)
            continue;
        database->name = now->name;
        found = true;
    }
    list_free_deep(databases);
    return found;
}

} // namespace job_alerting::server
