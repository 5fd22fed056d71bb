#include "server/base/prelude.hpp"

#include "server/queue/examine.hpp"

#include "server/base/statement.hpp"
#include "server/queue/failure_query.hpp"
#include "server/queue/sandbox.hpp"

extern "C" {
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "utils/regproc.h"
#include "utils/rls.h"
}

namespace job_alerting::server {

namespace {

char *explain(const ScannedQueue &queue, const FailureColumns &columns) {
    return text_of(execute(psprintf("EXPLAIN (VERBOSE, COSTS OFF, FORMAT JSON) %s",
                                    identities_query(queue.failure_query, columns, queue.since))),
                   1);
}

// The type of a column, as a cast wants it.
const char *type_of(const char *column, const char *table) {
    SPIPlanPtr plan = SPI_prepare(psprintf("SELECT %s FROM %s", column, table), 0, nullptr);
    if (!plan)
        elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
    const CachedPlanSource *source =
        static_cast<CachedPlanSource *>(linitial(SPI_plan_get_plan_sources(plan)));
    return format_type_extended(TupleDescAttr(source->resultDesc, 0)->atttypid, -1,
                                FORMAT_TYPE_TYPEMOD_GIVEN);
}

// Adds to a list of functions, which check_functions_in_node() is not to end at any of.
bool collect_function(Oid function, void *functions) {
    List **list = static_cast<List **>(functions);
    *list = list_append_unique_oid(*list, function);
    return false;
}

// The functions that a query calls itself: also as a cast or an operator, and in a view.
bool collect_functions(Node *node, void *functions) {
    if (!node)
        return false;
    check_functions_in_node(node, collect_function, functions);
    if (IsA(node, Query))
        return walk_query(reinterpret_cast<Query *>(node), collect_functions, functions);
    return walk_expression(node, collect_functions, functions);
}

const char *qualified_name(Oid relation) {
    return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)),
                                      get_rel_name(relation));
}

Oid owner_of_relation(Oid relation) {
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for relation %u", relation);
    const Oid owner = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relowner;
    ReleaseSysCache(tuple);
    return owner;
}

Oid owner_of_function(Oid function) {
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for function %u", function);
    const Oid owner = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple))->proowner;
    ReleaseSysCache(tuple);
    return owner;
}

void append(StringInfo list, const char *name) {
    appendStringInfo(list, "%s%s", list->len ? ", " : "", name);
}

char *copy_of(StringInfo list, MemoryContext context) {
    return list->len ? MemoryContextStrdup(context, list->data) : nullptr;
}

// Whether it is a foreign table, or some of its partitions are.
bool is_remote(Oid relation) {
    if (get_rel_relkind(relation) == RELKIND_FOREIGN_TABLE)
        return true;
    if (get_rel_relkind(relation) != RELKIND_PARTITIONED_TABLE)
        return false;
    ListCell *cell;
    foreach (cell, find_all_inheritors(relation, NoLock, nullptr))
        if (get_rel_relkind(lfirst_oid(cell)) == RELKIND_FOREIGN_TABLE)
            return true;
    return false;
}

void look_at_tree(const char *query, Oid owner, MemoryContext context, QueryFacts &facts) {
    StringInfoData hidden;
    StringInfoData others;
    StringInfoData remotes;
    StringInfoData views;
    initStringInfo(&remotes);
    initStringInfo(&views);
    initStringInfo(&hidden);
    initStringInfo(&others);
    SPIPlanPtr plan = SPI_prepare(query, 0, nullptr);
    if (!plan)
        elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
    const CachedPlanSource *source =
        static_cast<CachedPlanSource *>(linitial(SPI_plan_get_plan_sources(plan)));
    List *relations = NIL; // each once
    List *functions = NIL;
    ListCell *cell;
    foreach (cell, source->relationOids)
        relations = list_append_unique_oid(relations, lfirst_oid(cell));
    foreach (cell, source->query_list)
        collect_functions(static_cast<Node *>(lfirst(cell)), &functions);
    foreach (cell, relations) {
        const Oid relation = lfirst_oid(cell);
        if (check_enable_rls(relation, owner, true) == RLS_ENABLED)
            append(&hidden, qualified_name(relation));
        if (is_remote(relation))
            append(&remotes, qualified_name(relation));
        if (get_rel_relkind(relation) == RELKIND_VIEW)
            append(&views, qualified_name(relation));
        if (superuser_arg(owner) && !superuser_arg(owner_of_relation(relation)))
            append(&others, qualified_name(relation));
    }
    foreach (cell, functions)
        if (superuser_arg(owner) && !superuser_arg(owner_of_function(lfirst_oid(cell))))
            append(&others, format_procedure(lfirst_oid(cell)));
    facts.assumes_time_zone = list_member_oid(functions, F_TIMESTAMPTZ_TIMESTAMP) ||
                              list_member_oid(functions, F_TIMESTAMPTZ_DATE);
    facts.row_security = copy_of(&hidden, context);
    facts.others = copy_of(&others, context);
    facts.remotes = copy_of(&remotes, context);
    facts.views = copy_of(&views, context);
}

} // namespace

QueryFacts examine_tree(const char *query, Oid owner) {
    const MemoryContext context = CurrentMemoryContext;
    QueryFacts facts = {};
    auto work = [&] {
        SPI_connect();
        look_at_tree(query, owner, context, facts);
        SPI_finish();
    };
    sandboxed({.owner = GetUserNameFromId(owner, false), .time_limit = 0}, work);
    return facts;
}

QueryFacts examine_query(const ScannedQueue &queue, int time_limit) {
    const Oid owner = get_role_oid(queue.owner, false);
    const MemoryContext context = CurrentMemoryContext;
    QueryFacts facts = {};
    auto work = [&] {
        SPI_connect();
        const FailureColumns columns = describe_failure_query(queue.failure_query);
        look_at_tree(queue.failure_query, owner, context, facts);
        facts.plan = MemoryContextStrdup(context, explain(queue, columns));
        SPI_finish();
    };
    sandboxed(confinement_of(queue, time_limit), work);
    return facts;
}

// Compared as what it is, not as text: then the primary key's index serves.
int64 count_rows(const ScannedQueue &queue, int time_limit, const char *table, const char *key,
                 Datum keys) {
    int64 rows = 0;
    auto work = [&] {
        SPI_connect();
        rows = DatumGetInt64(
            datum_of(execute(psprintf("SELECT count(*) FROM %s WHERE %s = ANY ($1::%s[])", table,
                                      key, type_of(key, table)),
                             parameter(TEXTARRAYOID, keys)),
                     1));
        SPI_finish();
    };
    sandboxed(confinement_of(queue, time_limit), work);
    return rows;
}

} // namespace job_alerting::server
