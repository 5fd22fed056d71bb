#include "server/prelude.hpp"

#include "server/scan.hpp"

#include "server/failure_query.hpp"
#include "server/round_lock.hpp"
#include "server/sandbox.hpp"
#include "server/shared.hpp"

namespace job_alerting::server {

namespace {

// The keys that the ledger has of a queue, and the number and sum of those that stand. Two sets
// of keys whose number and sum agree are taken for equal; that decides only whether to look for
// failures that have cleared, never what is new.
struct Known {
    Datum keys; // text[]
    int64 standing;
    char *sum;
};

// What a failure query returned, beside what is known.
struct Seen {
    int64 fresh; // new failures
    int64 known;
    char *sum; // over the keys of the known ones
};

SPITupleTable *execute(const char *statement, int count, Oid *types, Datum *values) {
    const int code = SPI_execute_with_args(statement, count, types, values, nullptr, false, 0);
    if (code < 0)
        elog(ERROR, "SPI failed: %s", SPI_result_code_string(code));
    return SPI_tuptable;
}

Datum datum_of(SPITupleTable *table, int column) {
    bool absent;
    return SPI_getbinval(table->vals[0], table->tupdesc, column, &absent);
}

int64 number_of(SPITupleTable *table, int column) {
    return DatumGetInt64(datum_of(table, column));
}

char *text_of(SPITupleTable *table, int column) {
    return TextDatumGetCString(datum_of(table, column));
}

// Before anything is read of it: REINDEX has the table when it waits for who reads an index, and
// who reads it and then wants to write would wait for REINDEX.
void lock_ledger() {
    execute("LOCK TABLE job_alerting.failure IN ROW EXCLUSIVE MODE", 0, nullptr, nullptr);
}

Known load_known(const char *queue) {
    Oid types[] = {TEXTOID};
    Datum values[] = {CStringGetTextDatum(queue)};
    SPITupleTable *table = execute(
        psprintf("SELECT coalesce(array_agg(k.key), '{}'), count(*) FILTER (WHERE k.standing), "
                 "coalesce(sum(hashtextextended(k.key, 0)) FILTER (WHERE k.standing), 0)::text "
                 "FROM (SELECT %s AS key, f.cleared_at IS NULL AS standing "
                 "FROM job_alerting.failure f WHERE f.queue = $1 OFFSET 0) k",
                 ledger_key),
        1, types, values);
    return {.keys = datum_of(table, 1), .standing = number_of(table, 2), .sum = text_of(table, 3)};
}

Seen summarise(const char *query, const FailureColumns &columns, TimestampTz since, Datum keys) {
    Oid types[] = {TEXTARRAYOID};
    Datum values[] = {keys};
    SPITupleTable *table = execute(summary_query(query, columns, since), 1, types, values);
    if (number_of(table, 4) > 0)
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                        errmsg("the failure query returns a job without a job_id"),
                        errhint("Leave out such jobs, or give them an identity that lasts.")));
    return {.fresh = number_of(table, 1), .known = number_of(table, 2), .sum = text_of(table, 3)};
}

TupleDesc failure_description() {
    TupleDesc description = CreateTemplateTupleDesc(failure_column_count);
    for (int i = 0; i < failure_column_count; i++)
        TupleDescInitEntry(description, static_cast<AttrNumber>(i + 1), failure_columns[i].name,
                           failure_columns[i].type, -1, 0);
    return description;
}

TupleDesc key_description() {
    TupleDesc description = CreateTemplateTupleDesc(1);
    TupleDescInitEntry(description, 1, "key", TEXTOID, -1, 0);
    TupleDescInitEntryCollation(description, 1, C_COLLATION_OID);
    return description;
}

// Hands rows on to a store, when they are of the types that the store is read as. The query was
// checked, but what it calls may since have changed what its names mean (search_path), and a
// fixed-length value read as a text would be a pointer of its owner's choice.
struct CheckedReceiver {
    DestReceiver base; // must come first
    DestReceiver *store;
    TupleDesc expected;
};

CheckedReceiver *checked(DestReceiver *self) {
    return reinterpret_cast<CheckedReceiver *>(self);
}

void check_types(DestReceiver *self, int operation, TupleDesc given) {
    const TupleDesc expected = checked(self)->expected;
    bool same = given->natts == expected->natts;
    for (int i = 0; same && i < given->natts; i++)
        same = TupleDescAttr(given, i)->atttypid == TupleDescAttr(expected, i)->atttypid;
    if (!same)
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                        errmsg("the type of a column does not match what was declared")));
    checked(self)->store->rStartup(checked(self)->store, operation, given);
}

bool hand_on(TupleTableSlot *slot, DestReceiver *self) {
    return checked(self)->store->receiveSlot(slot, checked(self)->store);
}

void end_rows(DestReceiver *self) {
    checked(self)->store->rShutdown(checked(self)->store);
}

void forget_receiver(DestReceiver *) {} // it goes with its memory context

DestReceiver *checked_receiver(DestReceiver *store, TupleDesc expected) {
    CheckedReceiver *receiver = static_cast<CheckedReceiver *>(palloc0(sizeof(CheckedReceiver)));
    *receiver = {.base = {.receiveSlot = hand_on,
                          .rStartup = check_types,
                          .rShutdown = end_rows,
                          .rDestroy = forget_receiver,
                          .mydest = DestTuplestore},
                 .store = store,
                 .expected = expected};
    return &receiver->base;
}

// Runs a query and adds its rows to a store that outlives the sandbox. They are copied whole: none
// may point into a table that is no longer locked.
void gather(const char *query, Datum keys, Tuplestorestate *store, TupleDesc description,
            MemoryContext context) {
    ParamListInfo parameters = makeParamList(1);
    parameters->params[0] = {
        .value = keys, .isnull = false, .pflags = PARAM_FLAG_CONST, .ptype = TEXTARRAYOID};
    SPIExecuteOptions options = {};
    options.params = parameters;
    DestReceiver *receiver = CreateDestReceiver(DestTuplestore);
    SetTuplestoreDestReceiverParams(receiver, store, context, true, nullptr, nullptr);
    options.dest = checked_receiver(receiver, description);
    const int code = SPI_execute_extended(query, &options);
    if (code < 0)
        elog(ERROR, "SPI failed: %s", SPI_result_code_string(code));
}

// Makes the rows of a store a table that the next statements can name.
void name_store(const char *name, Tuplestorestate *store, TupleDesc description) {
    EphemeralNamedRelation relation =
        static_cast<EphemeralNamedRelation>(palloc0(sizeof(EphemeralNamedRelationData)));
    relation->md.name = pstrdup(name);
    relation->md.tupdesc = description;
    relation->md.enrtype = ENR_NAMED_TUPLESTORE;
    relation->md.enrtuples = static_cast<double>(tuplestore_tuple_count(store));
    relation->reldata = store;
    const int code = SPI_register_relation(relation);
    if (code < 0)
        elog(ERROR, "SPI failed: %s", SPI_result_code_string(code));
}

void insert_failures(const char *queue, Tuplestorestate *found) {
    name_store("found", found, failure_description());
    Oid types[] = {TEXTOID};
    Datum values[] = {CStringGetTextDatum(queue)};
    execute("INSERT INTO job_alerting.failure (queue, job_id, occurrence, source, job_type, "
            "target_type, target_id, status, attempts, max_attempts, error, failed_at, chain, "
            "never_ran) "
            "SELECT $1, n.job_id, "
            "coalesce(n.occurrence, "
            "'unknown ' || to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')), "
            "n.source, n.job_type, n.target_type, n.target_id, n.status, n.attempts, "
            "n.max_attempts, n.error, n.failed_at, n.chain, n.never_ran "
            "FROM found n ORDER BY n.failed_at, n.job_id "
            "ON CONFLICT (queue, job_id, occurrence) DO NOTHING",
            1, types, values);
}

void clear_failures(const char *queue, Tuplestorestate *standing) {
    name_store("standing", standing, key_description());
    Oid types[] = {TEXTOID};
    Datum values[] = {CStringGetTextDatum(queue)};
    execute(psprintf("UPDATE job_alerting.failure f SET cleared_at = now() "
                     "WHERE f.queue = $1 AND f.cleared_at IS NULL "
                     "AND NOT EXISTS (SELECT FROM standing s WHERE s.key = %s)",
                     ledger_key),
            1, types, values);
    // One that stands again under the same identity is no new failure; unless no channel heard of
    // it, since its first digest began later: then it takes a new number, to be in a later one.
    execute(psprintf("UPDATE job_alerting.failure f SET id = DEFAULT "
                     "WHERE f.queue = $1 AND f.cleared_at IS NOT NULL "
                     "AND EXISTS (SELECT FROM standing s WHERE s.key = %s) "
                     "AND EXISTS (SELECT FROM job_alerting.digest d WHERE d.first_failure > f.id) "
                     "AND NOT EXISTS (SELECT FROM job_alerting.digest d "
                     "                WHERE f.id BETWEEN d.first_failure AND d.last_failure)",
                     ledger_key),
            1, types, values);
    execute(psprintf("UPDATE job_alerting.failure f SET cleared_at = NULL "
                     "WHERE f.queue = $1 AND f.cleared_at IS NOT NULL "
                     "AND EXISTS (SELECT FROM standing s WHERE s.key = %s)",
                     ledger_key),
            1, types, values);
}

} // namespace

void try_failure_query(const char *query, Oid owner, TimestampTz since) {
    auto work = [&] {
        SPI_connect();
        const FailureColumns columns = describe_failure_query(query);
        summarise(query, columns, since, PointerGetDatum(construct_empty_array(TEXTOID)));
        SPI_finish();
    };
    sandboxed(owner, 0, work);
}

namespace {

// `asks_steps`: in, whether to ask what did not run of a chain; out, whether that was begun.
void look(const ScannedQueue &queue, const Known &known, int time_limit, volatile bool &asks_steps,
          Change &change) {
    const bool with_steps = asks_steps;
    asks_steps = false;
    const Oid owner = get_role_oid(queue.owner, false);
    const TimestampTz since =
        DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(queue.since),
                                                ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
    const MemoryContext context = CurrentMemoryContext;

    auto work = [&] {
        SPI_connect();
        FailureColumns columns = describe_failure_query(queue.failure_query);
        const Seen seen = summarise(queue.failure_query, columns, since, known.keys);
        if (!with_steps)
            columns = without_steps(columns);
        asks_steps = with_steps && seen.fresh > 0 && has_steps(columns);
        if (seen.fresh > 0)
            gather(new_failures_query(queue.failure_query, columns, since), known.keys,
                   change.found, failure_description(), context);
        change.some_cleared = seen.known != known.standing || strcmp(seen.sum, known.sum) != 0;
        if (change.some_cleared)
            gather(standing_keys_query(queue.failure_query, columns, since), known.keys,
                   change.standing, key_description(), context);
        SPI_finish();
    };
    sandboxed(owner, time_limit, work);
}

// The failures matter more than what did not run after them, which may take reading a large table
// whole: where the time is up over that, they are asked for alone.
Change compare(const ScannedQueue &queue, const Known &known, int time_limit, bool is_round) {
    const MemoryContext context = CurrentMemoryContext;
    const TimestampTz start = GetCurrentTimestamp();
    volatile bool asks_steps = true;
    volatile bool again = false;
    Change change = {.found = tuplestore_begin_heap(false, false, work_mem),
                     .standing = tuplestore_begin_heap(false, false, work_mem),
                     .some_cleared = false};
    PG_TRY();
    { look(queue, known, time_limit, asks_steps, change); }
    PG_CATCH();
    {
        if (!asks_steps || geterrcode() != ERRCODE_QUERY_CANCELED || time_limit == 0 ||
            !TimestampDifferenceExceeds(start, GetCurrentTimestamp(), time_limit))
            PG_RE_THROW();
        MemoryContextSwitchTo(context);
        FlushErrorState();
        again = true;
    }
    PG_END_TRY();
    if (!again)
        return change;
    tuplestore_clear(change.found);
    tuplestore_clear(change.standing);
    asks_steps = false;
    if (is_round)
        shared::set_deadline(MyDatabaseId, time_limit);
    look(queue, known, time_limit, asks_steps, change);
    return change;
}

} // namespace

void record_failures(const ScannedQueue &queue, int time_limit) {
    lock_ledger();
    const Known known = load_known(queue.name);
    shared::set_deadline(MyDatabaseId, time_limit);
    const Change change = compare(queue, known, time_limit, true);
    shared::set_deadline(MyDatabaseId, 0);

    // Ledger numbers must become visible in their order: only the round may hand them out.
    if (!holds_round_lock())
        ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
                        errmsg("the failure query released the lock of the round"),
                        errhint("It must not call pg_advisory_unlock_all().")));
    if (tuplestore_tuple_count(change.found) > 0)
        insert_failures(queue.name, change.found);
    if (change.some_cleared)
        clear_failures(queue.name, change.standing);
    forget(change);
}

Change find_failures(const ScannedQueue &queue, int time_limit) {
    const Change change = compare(queue, load_known(queue.name), time_limit, false);
    name_store("found", change.found, failure_description());
    name_store("standing", change.standing, key_description());
    return change;
}

void forget(const Change &change) {
    tuplestore_end(change.found);
    tuplestore_end(change.standing);
}

} // namespace job_alerting::server
