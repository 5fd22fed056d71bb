#include "server/base/prelude.hpp"

#include "server/queue/examine.hpp"

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

// Adds to a list of functions. Returns false, so that check_functions_in_node() goes on.
bool collect_function(Oid function, void *functions) {
    List **list = static_cast<List **>(functions);
    *list = list_append_unique_oid(*list, function);
    return false;
}

// Collects the functions that a query calls directly, including those of casts, operators and
// views.
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

// The owner of the object of a system cache; `owner` is its column.
template <typename Form> Oid owner_of(int cache, Oid object, Oid Form::*owner) {
    HeapTuple tuple = SearchSysCache1(cache, ObjectIdGetDatum(object));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for object %u", object);
    const Oid role = reinterpret_cast<Form *>(GETSTRUCT(tuple))->*owner;
    ReleaseSysCache(tuple);
    return role;
}

void append(StringInfo list, const char *name) {
    appendStringInfo(list, "%s%s", list->len ? ", " : "", name);
}

char *copy_of(StringInfo list, MemoryContext context) {
    return list->len ? MemoryContextStrdup(context, list->data) : nullptr;
}

// Whether the relation or one of its partitions is a foreign table.
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

// The lists of a query's objects while they grow.
struct Lists {
    StringInfoData hidden;
    StringInfoData others;
    StringInfoData remotes;
    StringInfoData views;
};

void add_relation(Oid relation, Oid owner, Lists &lists) {
    if (check_enable_rls(relation, owner, true) == RLS_ENABLED)
        append(&lists.hidden, qualified_name(relation));
    if (is_remote(relation))
        append(&lists.remotes, qualified_name(relation));
    if (get_rel_relkind(relation) == RELKIND_VIEW)
        append(&lists.views, qualified_name(relation));
    if (superuser_arg(owner) &&
        !superuser_arg(owner_of(RELOID, relation, &FormData_pg_class::relowner)))
        append(&lists.others, qualified_name(relation));
}

void add_function(Oid function, Oid owner, Lists &lists) {
    if (superuser_arg(owner) &&
        !superuser_arg(owner_of(PROCOID, function, &FormData_pg_proc::proowner)))
        append(&lists.others, format_procedure(function));
}

// Runs with SPI connected; the result lies in `context`.
QueryFacts facts_of(const char *query, Oid owner, MemoryContext context) {
    const CachedPlanSource *source = analyse(query);
    List *relations = NIL; // each once
    List *functions = NIL;
    ListCell *cell;
    foreach (cell, source->relationOids)
        relations = list_append_unique_oid(relations, lfirst_oid(cell));
    foreach (cell, source->query_list)
        collect_functions(static_cast<Node *>(lfirst(cell)), &functions);

    Lists lists;
    for (StringInfo list : {&lists.hidden, &lists.others, &lists.remotes, &lists.views})
        initStringInfo(list);
    foreach (cell, relations)
        add_relation(lfirst_oid(cell), owner, lists);
    foreach (cell, functions)
        add_function(lfirst_oid(cell), owner, lists);
    return {.row_security = copy_of(&lists.hidden, context),
            .others = copy_of(&lists.others, context),
            .remotes = copy_of(&lists.remotes, context),
            .views = copy_of(&lists.views, context),
            .assumes_time_zone = list_member_oid(functions, F_TIMESTAMPTZ_TIMESTAMP) ||
                                 list_member_oid(functions, F_TIMESTAMPTZ_DATE)};
}

} // namespace

QueryFacts examine_query(const ScannedQueue &queue, int time_limit) {
    const MemoryContext context = CurrentMemoryContext;
    QueryFacts facts = {};
    auto work = [&] {
        SPI_connect();
        facts = facts_of(queue.failure_query, get_role_oid(queue.owner, false), context);
        SPI_finish();
    };
    sandboxed(confinement_of(queue, time_limit), work);
    return facts;
}

} // namespace job_alerting::server
