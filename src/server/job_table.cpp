#include "server/prelude.hpp"

#include "server/job_table.hpp"

namespace job_alerting::server {

namespace {

struct JobColumn {
    const char *name;
    bool required;
    const char *kind; // for people
    bool (*fits)(Oid type);
    const char *expression; // what the failure query returns for it; %s: the column
    const char *result;     // as which of its columns; null when it is only compared
};

bool is_any(Oid) {
    return true;
}
bool is_timestamptz(Oid type) {
    return type == TIMESTAMPTZOID;
}
bool is_integer(Oid type) {
    return type == INT2OID || type == INT4OID || type == INT8OID;
}
bool is_json(Oid type) {
    return type == JSONBOID || type == JSONOID;
}
bool is_word(Oid type) {
    return type == TEXTOID || type == VARCHAROID || type == BPCHAROID || type_is_enum(type);
}
bool is_text(Oid type) {
    return type == TEXTOID || type == VARCHAROID;
}

const JobColumn job_columns[] = {
    {"status", true, "text", is_word, "%s::text", "status"},
    {"finished_at", true, "timestamp with time zone", is_timestamptz, "%s", "failed_at"},
    {"attempts", true, "integer", is_integer, "%s::integer", "attempts"},
    {"max_attempts", true, "integer", is_integer, "%s::integer", "max_attempts"},
    {"source", false, "", is_any, "%s::text", "source"},
    {"job_type", false, "", is_any, "%s::text", "job_type"},
    {"target_type", false, "", is_any, "%s::text", "target_type"},
    {"target_id", false, "", is_any, "%s::text", "target_id"},
    {"last_error", false, "", is_any, "%s::text", "error"},
    {"payload", false, "", is_json, "%s->>'chain_started_at'", "chain"},
};

// The type of a column, behind any domains; none when there is no such column.
Oid type_of(Relation relation, const char *name) {
    const AttrNumber number = get_attnum(RelationGetRelid(relation), name);
    return number > 0 ? getBaseType(get_atttype(RelationGetRelid(relation), number)) : InvalidOid;
}

bool is_domain(Relation relation, const char *name) {
    const AttrNumber number = get_attnum(RelationGetRelid(relation), name);
    return number > 0 && type_of(relation, name) != get_atttype(RelationGetRelid(relation), number);
}

bool has_column(Relation relation, const JobColumn &column) {
    const Oid type = type_of(relation, column.name);
    return OidIsValid(type) && column.fits(type);
}

// The only column of the primary key.
const char *key_column(Relation relation) {
    Bitmapset *key = RelationGetIndexAttrBitmap(relation, INDEX_ATTR_BITMAP_PRIMARY_KEY);
    const int columns = bms_num_members(key);
    if (columns != 1)
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_TABLE_DEFINITION),
                 errmsg("table \"%s\" has no primary key of one column",
                        RelationGetRelationName(relation)),
                 columns == 0 ? errdetail("It has no primary key, so its jobs have no identity.")
                              : errdetail("Its primary key has %d columns.", columns),
                 errhint("Describe its failures with job_alerting.watch_query(), whose job_id "
                         "tells one job from another.")));
    const AttrNumber number =
        static_cast<AttrNumber>(bms_singleton_member(key) + FirstLowInvalidHeapAttributeNumber);
    return get_attname(RelationGetRelid(relation), number, false);
}

const char *table_name(Relation relation) {
    return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(relation)),
                                      RelationGetRelationName(relation));
}

const JobColumn *find_job_column(Relation relation, const char *name) {
    for (const JobColumn &column : job_columns)
        if (strcmp(column.name, name) == 0 && has_column(relation, column))
            return &column;
    return nullptr;
}

bool has_label(Oid enumeration, const char *label) {
    return SearchSysCacheExists2(ENUMTYPOIDNAME, ObjectIdGetDatum(enumeration),
                                 CStringGetDatum(label));
}

// As it is, so that an index on it serves; but an enumeration that has no such labels by its text,
// and a domain over one, which has no operators.
const char *status_of(Relation relation) {
    const Oid type = type_of(relation, "status");
    const bool is_comparable =
        !type_is_enum(type) ||
        (!is_domain(relation, "status") && has_label(type, "failed") && has_label(type, "dead"));
    return is_comparable ? "status" : "status::text";
}

// The same for the error, which may be of any type.
const char *error_of(Relation relation) {
    return is_text(type_of(relation, "last_error")) ? "last_error" : "last_error::text";
}

void append_condition(StringInfo query, Relation relation) {
    const char *error = find_job_column(relation, "last_error") ? error_of(relation) : nullptr;
    appendStringInfo(query, "\n WHERE %s", final_failure_condition(status_of(relation), error));
}

// What a job is in its chain: as digests name it, "source/job_type target_type".
const char *step_of(Relation relation) {
    const char *part[3];
    const char *names[] = {"source", "job_type", "target_type"};
    for (int i = 0; i < 3; i++)
        part[i] = find_job_column(relation, names[i]) ? psprintf("%s::text", names[i]) : "NULL";
    return psprintf("concat_ws(' ', nullif(concat_ws('/', %s, %s), ''), %s)", part[0], part[1],
                    part[2]);
}

// The steps of each chain with a final failure that did not run: those that did in other chains
// with the same first step, in the order in which they mostly do, as far as the last 10,000 jobs of
// chains tell. Rounds that find nothing new do not ask for them, and grouped by the chain as this
// is, the planner then leaves it out. It reads the table twice for all chains together.
void append_never_ran(StringInfo query, Relation relation) {
    const char *chain = "payload->>'chain_started_at'";
    const char *step = step_of(relation);
    const char *table = table_name(relation);
    appendStringInfo(query,
                     "\n  LEFT JOIN ("
                     "\n    WITH recent AS ("
                     "\n        SELECT %s AS chain, %s AS step, finished_at AS ended"
                     "\n          FROM %s"
                     "\n         WHERE attempts > 0 AND %s IS NOT NULL"
                     "\n         ORDER BY finished_at DESC NULLS LAST LIMIT 10000"
                     "\n    ), placed AS ("
                     "\n        SELECT step, row_number() OVER steps AS place,"
                     "\n               first_value(step) OVER steps AS first"
                     "\n          FROM (SELECT chain, step, min(ended) AS ended FROM recent"
                     " GROUP BY chain, step) one"
                     "\n        WINDOW steps AS (PARTITION BY chain ORDER BY ended, step)"
                     "\n    ), usual AS ("
                     "\n        SELECT first, step, avg(place) AS place, row_number() OVER"
                     " (PARTITION BY first ORDER BY count(*) DESC, step) AS rank"
                     "\n          FROM placed GROUP BY first, step"
                     "\n    ), ran AS ("
                     "\n        SELECT %s AS chain, %s AS step, min(finished_at) AS ended"
                     "\n          FROM %s"
                     "\n         WHERE attempts > 0 AND %s IN ("
                     "\n SELECT %s FROM %s",
                     chain, step, table, chain, chain, step, table, chain, chain, table);
    append_condition(query, relation);
    appendStringInfo(
        query,
        ")"
        "\n         GROUP BY 1, 2"
        "\n    ), begun AS ("
        "\n        SELECT DISTINCT ON (chain) chain, step AS first"
        "\n          FROM ran ORDER BY chain, ended, step"
        "\n    )"
        "\n    SELECT begun.chain, array_agg(usual.step ORDER BY usual.place,"
        " usual.step)"
        "\n      FROM begun JOIN usual ON usual.first = begun.first AND usual.rank <= 50"
        "\n     WHERE NOT EXISTS (SELECT FROM ran WHERE ran.chain = begun.chain"
        " AND ran.step = usual.step)"
        "\n     GROUP BY begun.chain"
        "\n  ) other (chain_of_steps, steps_never_ran)"
        "\n    ON chain_of_steps = %s",
        chain);
}

} // namespace

Relation open_jobs(Oid table) {
    Relation relation = try_relation_open(table, AccessShareLock);
    if (!relation)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
                        errmsg("table with OID %u does not exist", table)));
    if (relation->rd_rel->relkind != RELKIND_RELATION &&
        relation->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                        errmsg("\"%s\" is not a table", RelationGetRelationName(relation)),
                        errdetail("Only a table has the primary key that tells its jobs apart."),
                        errhint("Describe its failures with job_alerting.watch_query().")));
    if (relation->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                        errmsg("\"%s\" is a temporary table", RelationGetRelationName(relation)),
                        errdetail("Rounds run in other sessions, which cannot see it."),
                        errhint("Keep the jobs in a permanent table.")));
    if (!has_privs_of_role(GetUserId(), relation->rd_rel->relowner))
        aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, RelationGetRelationName(relation));
    return relation;
}

void check_columns(Relation relation) {
    StringInfoData missing;
    initStringInfo(&missing);
    for (const JobColumn &column : job_columns)
        if (column.required && !has_column(relation, column)) {
            const Oid other = type_of(relation, column.name);
            appendStringInfo(&missing, "%s%s %s", missing.len ? ", " : "", column.name,
                             column.kind);
            if (OidIsValid(other))
                appendStringInfo(&missing, " (it is %s)", format_type_be(other));
        }
    if (missing.len > 0)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
                        errmsg("table \"%s\" is not shaped like a job table",
                               RelationGetRelationName(relation)),
                        errdetail("It lacks: %s.", missing.data),
                        errhint("Describe its failures with job_alerting.watch_query().")));
}

char *write_failure_query(Relation relation) {
    const bool has_steps =
        find_job_column(relation, "payload") &&
        (find_job_column(relation, "source") || find_job_column(relation, "job_type"));

    StringInfoData query;
    initStringInfo(&query);
    appendStringInfo(&query, "SELECT %s::text AS job_id", quote_identifier(key_column(relation)));
    for (const JobColumn &column : job_columns)
        if (has_column(relation, column)) {
            appendStringInfoString(&query, ",\n       ");
            appendStringInfo(&query, column.expression, column.name);
            // Only a domain: a column that becomes text, or loses its time zone, must not be read
            // on.
            if (column.fits == is_timestamptz && is_domain(relation, column.name))
                appendStringInfo(&query, "::%s", column.kind);
            appendStringInfo(&query, " AS %s", column.result);
        }
    if (has_steps)
        appendStringInfoString(&query, ",\n       steps_never_ran AS never_ran");
    appendStringInfo(&query, "\n  FROM %s", table_name(relation));
    if (has_steps)
        append_never_ran(&query, relation);
    append_condition(&query, relation);
    return query.data;
}

char *final_failure_condition(const char *status, const char *error) {
    const char *cancelled =
        error ? psprintf("\n   AND (%s <> 'dead' OR %s IS DISTINCT FROM 'cancelled by admin')",
                         status, error)
              : "";
    return psprintf("%s IN ('failed', 'dead')"
                    "\n   AND (%s = 'dead' OR (attempts >= max_attempts) IS NOT FALSE)%s",
                    status, status, cancelled);
}

} // namespace job_alerting::server
