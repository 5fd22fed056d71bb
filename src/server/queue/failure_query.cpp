#include "server/base/prelude.hpp"

#include "server/queue/failure_query.hpp"

extern "C" {
#include "parser/scansup.h"
}

namespace job_alerting::server {

namespace {

enum Position { job_id, failed_at, occurrence, chain = 8, never_ran = failure_row_columns };

constexpr int max_word = 1000;
constexpr int max_error = 4000;
constexpr int max_error_head = 1495; // the line "..." and its tail have the rest
constexpr int max_step = 300;
constexpr int max_steps = 50;

// Bytes of a job_id or an occurrence. The ledger's unique index holds 2,704 bytes: a queue's name,
// a job_id and an occurrence. A longer text is replaced by so many of its characters and a digest.
// The replacement is longer than the limit, so it never equals a text that was kept.
constexpr int max_identity = 200;

const char *column_list() {
    StringInfoData list;
    initStringInfo(&list);
    for (const FailureColumn &column : failure_columns)
        appendStringInfo(&list, "%s%s %s", list.len ? ", " : "", column.name,
                         format_type_be(column.type));
    return list.data;
}

const FailureColumn *find_column(const char *name) {
    for (const FailureColumn &column : failure_columns)
        if (strcmp(column.name, name) == 0)
            return &column;
    return nullptr;
}

void check_column(Form_pg_attribute attribute) {
    const char *name = NameStr(attribute->attname);
    const FailureColumn *column = find_column(name);
    if (!column)
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                        errmsg("the failure query returns the unknown column \"%s\"", name),
                        errdetail("The columns that have a meaning are: %s.", column_list()),
                        errhint("Remove the column, or name it after its meaning.")));
    if (column->type != attribute->atttypid)
        ereport(ERROR,
                (errcode(ERRCODE_DATATYPE_MISMATCH),
                 errmsg("column \"%s\" of the failure query is of the wrong type", name),
                 errdetail("It is of type %s; it must be of type %s.",
                           format_type_be(attribute->atttypid), format_type_be(column->type)),
                 errhint("Cast it to %s.", format_type_be(column->type))));
}

void check_required(const FailureColumns &columns) {
    for (int i = 0; i < failure_column_count; i++)
        if (failure_columns[i].required && !columns.present[i])
            ereport(ERROR,
                    (errcode(ERRCODE_UNDEFINED_COLUMN),
                     errmsg("the failure query returns no column \"%s\"", failure_columns[i].name),
                     errdetail("A failure query must return job_id text and failed_at timestamp "
                               "with time zone."),
                     errhint("Name the column in the query: ... AS %s.", failure_columns[i].name)));
}

const char *identity_of(const char *text) {
    return psprintf(
        "CASE WHEN octet_length(%s) <= %d THEN %s ELSE left(%s, %d) || '... sha256 ' || "
        "encode(sha256(convert_to(%s, getdatabaseencoding())), 'hex') END",
        text, max_identity, text, text, max_identity, text);
}

// NULL where the query returns neither an occurrence nor a time.
const char *occurrence_of(const FailureColumns &columns) {
    const char *time = "(q.failed_at AT TIME ZONE 'UTC')::text";
    return columns.present[occurrence]
               ? psprintf("coalesce(%s, %s)", identity_of("q.occurrence"), time)
               : time;
}

// The failure query as the table q. The line break ends a comment in its last line.
const char *from_query(const char *query, const char *since) {
    if (strcmp(since, "-infinity") == 0)
        return psprintf("FROM (%s\n) q WHERE true", query);
    return psprintf("FROM (%s\n) q WHERE (q.failed_at IS NULL OR q.failed_at >= %s::timestamptz)",
                    query, quote_literal_cstr(since));
}

// The last characters of a text. right() counts every character of it, which takes most of the time
// of a scan with large errors. In UTF-8 the bytes themselves show where a character begins, so the
// text is cut before right() counts.
const char *tail_of(const char *text, int characters) {
    if (GetDatabaseEncoding() != PG_UTF8)
        return psprintf("right(%s, %d)", text, characters);
    StringInfoData continuations;
    initStringInfo(&continuations);
    for (int byte = 0x80; byte < 0xc0; byte++)
        appendStringInfo(&continuations, "%02x", byte);
    return psprintf("right(convert_from(ltrim(substring(convert_to(%s, 'UTF8') "
                    "FROM greatest(octet_length(%s) - %d, 1)), '\\x%s'::bytea), 'UTF8'), %d)",
                    text, text, 4 * characters, continuations.data, characters);
}

// A stack trace names its exception at the end in some languages and at the beginning in others,
// so both ends of a long error are kept. A NULL error becomes an empty one: the job recorded none.
// In the ledger, NULL means that the query returns no errors at all. The inner SELECT computes the
// error only once.
const char *clipped_error() {
    constexpr int max_error_tail = max_error - max_error_head - 5;
    return psprintf("(SELECT CASE WHEN e.whole IS NULL THEN '' "
                    "WHEN octet_length(e.whole) <= %d * %d AND length(e.whole) <= %d THEN e.whole "
                    "ELSE left(e.whole, %d) || E'\\n...\\n' || %s END "
                    "FROM (SELECT q.error AS whole OFFSET 0) e)",
                    max_error, pg_database_encoding_max_length(), max_error, max_error_head,
                    tail_of("e.whole", max_error_tail));
}

// The query may return any number of steps of any length. The inner SELECT computes them only once.
const char *clipped_steps() {
    return psprintf("(SELECT array_agg(left(step.name, %d) ORDER BY step.place) "
                    "FROM (SELECT q.never_ran AS names OFFSET 0) s, "
                    "unnest(s.names) WITH ORDINALITY step(name, place) "
                    "WHERE step.place <= %d AND step.name IS NOT NULL)",
                    max_step, max_steps);
}

const char *clipped(const FailureColumn &column) {
    if (column.most == max_error)
        return clipped_error();
    return psprintf("left(q.%s, %d)", column.name, column.most);
}

[[noreturn]] void not_a_select(const char *detail) {
    ereport(ERROR,
            (errcode(ERRCODE_SYNTAX_ERROR),
             errmsg("the failure query is not a single plain SELECT"), errdetail("%s", detail),
             errhint("Give one SELECT that returns the jobs that stand failed now.")));
    pg_unreachable();
}

// Makes the error point into the failure query, not into the statement that contains it.
void place_syntax_error(void *query) {
    const int position = geterrposition();
    if (position <= 0)
        return;
    errposition(0);
    internalerrposition(position);
    internalerrquery(static_cast<const char *>(query));
    errdetail("The failure query cannot be parsed.");
    errhint("Give one SELECT that returns the jobs that stand failed now.");
}

List *parse(const char *query) {
    ErrorContextCallback callback = {.previous = error_context_stack,
                                     .callback = place_syntax_error,
                                     .arg = const_cast<char *>(query)};
    error_context_stack = &callback;
    List *statements = pg_parse_query(query);
    error_context_stack = callback.previous;
    return statements;
}

const char *after_comment(const char *at) {
    int depth = 0;
    do {
        const bool begins = at[0] == '/' && at[1] == '*';
        const bool ends = at[0] == '*' && at[1] == '/';
        depth += begins - ends;
        at += begins || ends ? 2 : 1;
    } while (depth > 0 && *at);
    return at;
}

// Returns the beginning of the first statement: its comments belong to it, blanks and empty
// statements before it do not. The parser's own place of a statement differs between versions of
// the server: up to 17 it includes blanks, from 18 on it leaves out comments.
const char *beginning(const char *text) {
    const char *begin = text;
    for (const char *at = text; *at;) {
        if (scanner_isspace(*at))
            at++;
        else if (*at == ';')
            begin = ++at;
        else if (strncmp(at, "--", 2) == 0)
            at += strcspn(at, "\r\n");
        else if (strncmp(at, "/*", 2) == 0)
            at = after_comment(at);
        else
            break;
    }
    while (scanner_isspace(*begin))
        begin++;
    return begin;
}

} // namespace

const FailureColumn failure_columns[failure_column_count] = {
    {"job_id", TEXTOID, true, 0},
    {"failed_at", TIMESTAMPTZOID, true, 0},
    {"occurrence", TEXTOID, false, 0},
    {"source", TEXTOID, false, max_word},
    {"job_type", TEXTOID, false, max_word},
    {"target_type", TEXTOID, false, max_word},
    {"target_id", TEXTOID, false, max_word},
    {"status", TEXTOID, false, max_word},
    {"chain", TEXTOID, false, max_word},
    {"error", TEXTOID, false, max_error},
    {"attempts", INT4OID, false, 0},
    {"max_attempts", INT4OID, false, 0},
    {"never_ran", TEXTARRAYOID, false, max_step},
};

// A standing failure of unknown time is known by its job_id alone: its occurrence in the ledger
// holds the time of recording, which the query cannot return.
#define IS_OF_UNKNOWN_TIME                                                                         \
    "(f.failed_at IS NULL AND f.cleared_at IS NULL AND f.occurrence = "                            \
    "'unknown ' || to_char(f.recorded_at AT TIME ZONE 'UTC', " AS_OCCURRENCE "))"

const char *const ledger_identities =
    "SELECT f.job_id, CASE WHEN " IS_OF_UNKNOWN_TIME " THEN NULL ELSE f.occurrence END "
    "FROM job_alerting.failure f WHERE f.queue = $1 AND f.cleared_at IS NULL";

const char *const same_failure =
    "s.job_id = f.job_id AND (s.occurrence IS NULL) = " IS_OF_UNKNOWN_TIME " AND "
    "coalesce(s.occurrence, '') = CASE WHEN " IS_OF_UNKNOWN_TIME " THEN '' ELSE f.occurrence END";

char *single_select(const char *text) {
    List *statements = parse(text);
    if (list_length(statements) != 1)
        not_a_select(statements == NIL ? "It is empty." : "It has more than one statement.");
    const RawStmt *raw = linitial_node(RawStmt, statements);
    if (!IsA(raw->stmt, SelectStmt))
        not_a_select("It is a statement of another kind.");
    const SelectStmt *select = castNode(SelectStmt, raw->stmt);
    const SelectStmt *first = select;
    while (first->op != SETOP_NONE)
        first = first->larg;
    if (first->intoClause)
        not_a_select("It stores its result (INTO).");
    if (select->lockingClause)
        not_a_select("It locks rows (FOR UPDATE or the like).");
    if (select->withClause) {
        ListCell *cell;
        foreach (cell, select->withClause->ctes)
            if (!IsA(lfirst_node(CommonTableExpr, cell)->ctequery, SelectStmt))
                not_a_select("Its WITH clause modifies data.");
    }
    const char *begin = beginning(text);
    const char *end =
        raw->stmt_len > 0 ? text + raw->stmt_location + raw->stmt_len : text + strlen(text);
    return pnstrdup(begin, end - begin);
}

const CachedPlanSource *analyse(const char *query) {
    SPIPlanPtr plan = SPI_prepare(query, 0, nullptr);
    if (!plan)
        elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
    // The query was checked when it was declared, but a restore or an update may have changed it.
    const List *statements = SPI_plan_get_plan_sources(plan);
    if (list_length(statements) != 1)
        not_a_select("It has not just one statement.");
    const CachedPlanSource *source = static_cast<CachedPlanSource *>(linitial(statements));
    if (!source->resultDesc)
        not_a_select("It returns no rows.");
    return source;
}

FailureColumns describe_failure_query(const char *query) {
    const CachedPlanSource *source = analyse(query);
    FailureColumns columns = {};
    for (int i = 0; i < source->resultDesc->natts; i++) {
        const Form_pg_attribute attribute = TupleDescAttr(source->resultDesc, i);
        check_column(attribute);
        bool &present = columns.present[find_column(NameStr(attribute->attname)) - failure_columns];
        if (present)
            ereport(ERROR, (errcode(ERRCODE_DUPLICATE_COLUMN),
                            errmsg("the failure query returns column \"%s\" twice",
                                   NameStr(attribute->attname)),
                            errhint("Return it once.")));
        present = true;
    }
    check_required(columns);
    return columns;
}

FailureColumns without_details(FailureColumns columns) {
    for (int i = 0; i < failure_column_count; i++)
        columns.present[i] &= failure_columns[i].required || i == occurrence;
    return columns;
}

FailureColumns common(FailureColumns columns, const FailureColumns &others) {
    for (int i = 0; i < failure_column_count; i++)
        columns.present[i] &= others.present[i];
    return columns;
}

char *identities_query(const char *query, const FailureColumns &columns, const char *since) {
    return psprintf("SELECT %s AS job_id, %s AS occurrence %s", identity_of("q.job_id"),
                    occurrence_of(columns), from_query(query, since));
}

char *failures_query(const char *query, const FailureColumns &columns, const char *since,
                     bool of_jobs) {
    StringInfoData text;
    initStringInfo(&text);
    for (int i = 0; i < failure_row_columns; i++) {
        const FailureColumn &column = failure_columns[i];
        appendStringInfoString(&text, i == 0 ? "SELECT " : ", ");
        if (i == job_id)
            appendStringInfoString(&text, identity_of("q.job_id"));
        else if (i == occurrence)
            appendStringInfoString(&text, occurrence_of(columns));
        else if (!columns.present[i])
            appendStringInfo(&text, "NULL::%s", format_type_be(column.type));
        else if (column.most > 0)
            appendStringInfoString(&text, clipped(column));
        else
            appendStringInfo(&text, "q.%s", column.name);
    }
    appendStringInfo(&text, " %s", from_query(query, since));
    if (of_jobs)
        appendStringInfo(&text, " AND %s = ANY ($1)", job_hash(identity_of("q.job_id")));
    return text.data;
}

char *steps_query(const char *never_ran_query) {
    return psprintf("SELECT DISTINCT ON (q.chain) q.chain, %s FROM (%s\n) q "
                    "WHERE q.chain IS NOT NULL ORDER BY q.chain",
                    clipped_steps(), never_ran_query);
}

char *steps_query(const char *failure_query, const FailureColumns &columns) {
    if (!columns.present[never_ran] || !columns.present[chain])
        return nullptr;
    return psprintf("SELECT DISTINCT ON (q.chain) q.chain, %s FROM (%s\n) q "
                    "WHERE q.chain = ANY ($1) ORDER BY q.chain, q.failed_at DESC NULLS LAST",
                    clipped_steps(), failure_query);
}

char *chains_query(const char *query, const FailureColumns &columns, const char *since) {
    if (!columns.present[chain])
        return nullptr;
    return psprintf("SELECT array_agg(DISTINCT q.chain) FILTER (WHERE q.chain IS NOT NULL) %s",
                    from_query(query, since));
}

char *job_hash(const char *job_id) {
    return psprintf("hashtextextended((%s) COLLATE \"C\", 0)", job_id);
}

} // namespace job_alerting::server
