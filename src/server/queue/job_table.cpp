#include "server/base/prelude.hpp"

#include "server/queue/job_table.hpp"

extern "C" {
#include "catalog/pg_enum.h"
#include "parser/parse_coerce.h"
#include "utils/catcache.h"
}

namespace job_alerting::server {

namespace {

struct JobColumn {
    const char *name;
    bool required;
    const char *kind; // for people
    bool (*fits)(Oid type);
    const char *result; // as which column the failure query returns it
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
    return type_is_enum(type) || type == BPCHAROID || type == NAMEOID ||
           IsBinaryCoercible(type, TEXTOID);
}

const JobColumn job_columns[] = {
    {"status", true, "text", is_word, "status"},
    {"finished_at", true, "timestamp with time zone", is_timestamptz, "failed_at"},
    {"attempts", true, "integer", is_integer, "attempts"},
    {"max_attempts", true, "integer", is_integer, "max_attempts"},
    {"source", false, "", is_any, "source"},
    {"job_type", false, "", is_any, "job_type"},
    {"target_type", false, "", is_any, "target_type"},
    {"target_id", false, "", is_any, "target_id"},
    {"last_error", false, "", is_any, "error"},
    {"payload", false, "", is_json, "chain"},
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

const char *const blanks = " \t\r\n";

const JobColumn *find_job_column(Relation relation, const char *name) {
    for (const JobColumn &column : job_columns)
        if (strcmp(column.name, name) == 0 && has_column(relation, column))
            return &column;
    return nullptr;
}

// A column in a query. Every column is qualified with the table's alias j: so a name of the table
// or its columns never conflicts with one of the query's own.
const char *from_j(const char *column) {
    return psprintf("j.%s", quote_identifier(column));
}

// The escapes of a json value that no text can hold: NUL, and half of a surrogate pair. ->> raises
// an error for them.
const char *const bad_escape = "'\\\\u(0000|[dD][89abAB]..(?!\\\\u[dD][c-fC-F]))"
                               "|(?<!\\\\u[dD][89abAB]..)\\\\u[dD][c-fC-F]'";

const char *chain_of(Relation relation) {
    const char *chain = "j.payload->>'chain_started_at'";
    if (type_of(relation, "payload") == JSONBOID || GetDatabaseEncoding() != PG_UTF8)
        return chain;
    return psprintf("CASE WHEN j.payload::text !~ %s THEN %s END", bad_escape, chain);
}

// A number out of range becomes the nearest integer.
const char *integer_of(Relation relation, const char *column) {
    const char *number = from_j(column);
    if (type_of(relation, column) == INT8OID)
        number = psprintf("least(greatest(%s, -2147483648), 2147483647)", number);
    return psprintf("%s::integer", number);
}

// Casts only a domain: without a cast the query fails, as it should, when the column becomes text
// or loses its time zone.
const char *time_of(Relation relation, const JobColumn &column) {
    const char *time = from_j(column.name);
    return is_domain(relation, column.name) ? psprintf("%s::%s", time, column.kind) : time;
}

const char *result_of(Relation relation, const JobColumn &column) {
    if (column.fits == is_timestamptz)
        return time_of(relation, column);
    if (column.fits == is_integer)
        return integer_of(relation, column.name);
    if (column.fits == is_json)
        return chain_of(relation);
    return psprintf("%s::text", from_j(column.name));
}

// A job's step in its chain, as digests name it: "source/job_type target_type".
const char *step_of(Relation relation) {
    const char *part[3];
    const char *names[] = {"source", "job_type", "target_type"};
    for (int i = 0; i < 3; i++)
        part[i] = find_job_column(relation, names[i]) ? psprintf("j.%s::text", names[i]) : "NULL";
    return psprintf("concat_ws(' ', nullif(concat_ws('/', %s, %s), ''), %s)", part[0], part[1],
                    part[2]);
}

// Conditions on the status of a job.
struct Statuses {
    const char *final;
    const char *dead;
};

// The labels of an enumeration that match this word, without regard to case and surrounding blanks,
// as a list of literals; null when there is none.
const char *labels_like(Oid enumeration, const char *word) {
    StringInfoData labels;
    initStringInfo(&labels);
    CatCList *list = SearchSysCacheList1(ENUMTYPOIDNAME, ObjectIdGetDatum(enumeration));
    for (int i = 0; i < list->n_members; i++) {
        const HeapTuple tuple = &list->members[i]->tuple;
        const char *label = NameStr(reinterpret_cast<Form_pg_enum>(GETSTRUCT(tuple))->enumlabel);
        const size_t begin = strspn(label, blanks);
        if (pg_strncasecmp(label + begin, word, strlen(word)) == 0 &&
            strspn(label + begin + strlen(word), blanks) == strlen(label + begin + strlen(word)))
            appendStringInfo(&labels, "%s%s", labels.len ? ", " : "", quote_literal_cstr(label));
    }
    ReleaseSysCacheList(list);
    return labels.len ? labels.data : nullptr;
}

// An enumeration is compared by its labels, so that an index can serve. A domain over an
// enumeration has no operators for that.
bool compares_labels(Relation relation) {
    const Oid type = type_of(relation, "status");
    return type_is_enum(type) && !is_domain(relation, "status") && labels_like(type, "failed") &&
           labels_like(type, "dead");
}

// Comparing words without regard to case and surrounding blanks is expensive: exclude the jobs with
// the usual spellings of other statuses first.
Statuses statuses_of(Relation relation, const char *of) {
    const Oid type = type_of(relation, "status");
    if (compares_labels(relation)) {
        const char *dead = labels_like(type, "dead");
        return {.final = psprintf("%sstatus IN (%s, %s)", of, labels_like(type, "failed"), dead),
                .dead = psprintf("%sstatus IN (%s)", of, dead)};
    }
    const char *status = psprintf("%sstatus::text", of);
    const char *word = status_word(status);
    // This comparison raises an error if the column becomes a number, for example. The text of a
    // number would just never match.
    const char *as_itself = type_is_enum(type) ? "" : psprintf("%sstatus = 'dead' OR ", of);
    return {.final = psprintf("%s NOT IN ('done', 'succeeded', 'queued', 'running')"
                              "\n   AND (%s%s IN ('failed', 'dead'))",
                              status, as_itself, word),
            .dead = psprintf("%s = 'dead'", word)};
}

// The error as text; null where no error can be "cancelled by admin".
const char *error_of(Relation relation, const char *of) {
    const Oid type = type_of(relation, "last_error");
    if (!OidIsValid(type) || !is_word(type))
        return nullptr;
    return psprintf("%slast_error::text", of);
}

// Dead jobs, except cancelled ones, and failed jobs whose attempts are used up. An unknown limit
// counts as reached. `of` stands before each column: an alias and a dot, or nothing.
const char *final_failure_condition(Relation relation, const char *of) {
    const Statuses status = statuses_of(relation, of);
    const char *error = error_of(relation, of);
    const char *cancelled =
        error ? psprintf("\n   AND (NOT %s OR %s IS DISTINCT FROM 'cancelled by admin')",
                         status.dead, error)
              : "";
    return psprintf("%s\n   AND (%s OR (%sattempts >= %smax_attempts) IS NOT FALSE)%s",
                    status.final, status.dead, of, of, cancelled);
}

// The steps that never ran of the chains in $1: those that ran in other chains with the same first
// step, in the order in which they mostly ran there, as far as the last 10,000 jobs of chains show.
// Arguments: a job's chain, its step, the table.
const char *const never_ran_query = R"(WITH recent AS (
    SELECT %1$s AS chain, %2$s AS step, j.finished_at AS ended
      FROM %3$s j
     WHERE j.attempts > 0 AND %1$s IS NOT NULL
     ORDER BY j.finished_at DESC NULLS LAST LIMIT 10000
), placed AS (
    SELECT step, row_number() OVER steps AS place, first_value(step) OVER steps AS first
      FROM (SELECT chain, step, min(ended) AS ended FROM recent GROUP BY chain, step) one
    WINDOW steps AS (PARTITION BY chain ORDER BY ended, step)
), usual AS (
    SELECT first, step, avg(place) AS place,
           row_number() OVER (PARTITION BY first ORDER BY count(*) DESC, step) AS rank
      FROM placed GROUP BY first, step
), ran AS (
    SELECT %1$s AS chain, %2$s AS step, min(j.finished_at) AS ended
      FROM %3$s j
     WHERE j.attempts > 0 AND %1$s = ANY ($1)
     GROUP BY 1, 2
), begun AS (
    SELECT DISTINCT ON (chain) chain, step AS first FROM ran ORDER BY chain, ended, step
)
SELECT begun.chain, array_agg(usual.step ORDER BY usual.place, usual.step) AS never_ran
  FROM begun JOIN usual ON usual.first = begun.first AND usual.rank <= 50
 WHERE NOT EXISTS (SELECT FROM ran WHERE ran.chain = begun.chain AND ran.step = usual.step)
 GROUP BY begun.chain)";

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
                        errdetail("Only a table has a primary key that identifies its jobs."),
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

Relation find_jobs(const char *name) {
    const RangeVar *variable =
        makeRangeVarFromNameList(textToQualifiedNameList(cstring_to_text(name)));
    const Oid table = RangeVarGetRelid(variable, NoLock, true);
    return OidIsValid(table) ? try_relation_open(table, AccessShareLock) : nullptr;
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

const char *table_name(Relation relation) {
    return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(relation)),
                                      RelationGetRelationName(relation));
}

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

char *write_failure_query(Relation relation) {
    StringInfoData query;
    initStringInfo(&query);
    appendStringInfo(&query, "SELECT %s::text AS job_id", from_j(key_column(relation)));
    for (const JobColumn &column : job_columns)
        if (has_column(relation, column))
            appendStringInfo(&query, ",\n       %s AS %s", result_of(relation, column),
                             column.result);
    appendStringInfo(&query, "\n  FROM %s j\n WHERE %s", table_name(relation),
                     final_failure_condition(relation, "j."));
    return query.data;
}

char *write_never_ran_query(Relation relation) {
    const bool has_steps =
        find_job_column(relation, "payload") &&
        (find_job_column(relation, "source") || find_job_column(relation, "job_type"));
    if (!has_steps)
        return nullptr;
    return psprintf(never_ran_query, chain_of(relation), step_of(relation), table_name(relation));
}

namespace {

// An index cannot have the text of an enumeration in its condition.
bool can_be_indexed(Relation relation) {
    const bool by_text = type_is_enum(type_of(relation, "status")) && !compares_labels(relation);
    const Oid error = type_of(relation, "last_error");
    return !by_text && !(OidIsValid(error) && type_is_enum(error));
}

} // namespace

char *advise_index(Relation relation, const char *query, const char *on) {
    const char *written = psprintf("\n WHERE %s", final_failure_condition(relation, "j."));
    const size_t length = strlen(written);
    if (strlen(query) < length || strcmp(query + strlen(query) - length, written) != 0 ||
        !can_be_indexed(relation))
        return nullptr;
    StringInfoData index;
    initStringInfo(&index);
    appendStringInfo(&index,
                     "CREATE INDEX CONCURRENTLY ON %s (finished_at) INCLUDE (%s, status, "
                     "attempts, max_attempts) WHERE ",
                     on, quote_identifier(key_column(relation)));
    for (const char *rest = final_failure_condition(relation, ""); *rest != '\0'; rest++) {
        if (*rest == '\n')
            rest += strspn(rest, "\n ") - 1;
        appendStringInfoChar(&index, *rest);
    }
    appendStringInfoChar(&index, ';');
    return index.data;
}

char *status_word(const char *status) {
    return psprintf("lower(btrim(%s, E' \\t\\r\\n') COLLATE \"C\")", status);
}

} // namespace job_alerting::server
