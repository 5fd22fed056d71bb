#include "server/base/prelude.hpp"

#include "server/queue/scan.hpp"

#include "server/base/statement.hpp"
#include "server/coordination/round_lock.hpp"
#include "server/coordination/shared.hpp"
#include "server/queue/plan.hpp"
#include "server/queue/receiver.hpp"
#include "server/queue/sandbox.hpp"

namespace job_alerting::server {

namespace {

// Up to this number of new failures, a scan reads only the jobs concerned.
constexpr int64 max_chosen = 100000;

// The result of comparing with the ledger.
struct Difference {
    int64 fresh;       // number of new failures
    Datum jobs;        // job_hash() of each, as bigint[]; incomplete beyond max_chosen
    bool some_cleared; // some failures cleared, or stand again
};

int64 number_of(SPITupleTable *table, int column) {
    return DatumGetInt64(datum_of(table, column));
}

// Locks the ledger for writing before anything is read from it. REINDEX locks the table and then
// waits for readers of the index; a reader that then wants to write would deadlock with it.
void lock_ledger() {
    execute("LOCK TABLE job_alerting.failure IN ROW EXCLUSIVE MODE");
}

// Registers a store as a table that the following statements can use.
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

void read_identities(const ScannedQueue &queue, int time_limit, Tuplestorestate *store,
                     Fingerprint *fingerprint) {
    const MemoryContext context = CurrentMemoryContext;
    auto work = [&] {
        SPI_connect();
        const FailureColumns columns = describe_failure_query(queue.failure_query);
        execute(
            identities_query(queue.failure_query, columns, queue.since), nullptr,
            checking_receiver(store_receiver(store, context), identity_description(), fingerprint));
        SPI_finish();
    };
    sandboxed(confinement_of(queue, time_limit), work);
}

// Records the new failures in the table `found`, with the steps in the table `steps`.
void insert_failures(const char *queue) {
    execute(psprintf("INSERT INTO job_alerting.failure (queue, job_id, occurrence, source, "
                     "job_type, target_type, target_id, status, attempts, max_attempts, error, "
                     "failed_at, chain, never_ran) "
                     "SELECT $1, s.job_id, coalesce(s.occurrence, "
                     "'unknown ' || to_char(now() AT TIME ZONE 'UTC', " AS_OCCURRENCE ")), "
                     "s.source, s.job_type, s.target_type, s.target_id, s.status, s.attempts, "
                     "s.max_attempts, s.error, s.failed_at, s.chain, n.never_ran "
                     "FROM found s LEFT JOIN steps n ON n.chain = s.chain "
                     "WHERE NOT EXISTS (SELECT FROM job_alerting.failure f "
                     "    WHERE f.queue = $1 AND %s) ORDER BY s.failed_at, s.job_id "
                     "ON CONFLICT (queue, job_id, occurrence) DO NOTHING",
                     same_failure),
            texts({queue}));
}

void clear_failures(const char *queue) {
    execute(psprintf("UPDATE job_alerting.failure f SET cleared_at = now() "
                     "WHERE f.queue = $1 AND f.cleared_at IS NULL "
                     "AND NOT EXISTS (SELECT FROM standing s WHERE %s)",
                     same_failure),
            texts({queue}));
    // A failure that stands again under the same identity is not new. The view `unreported`
    // includes it for a channel that has not sent it.
    execute(psprintf("UPDATE job_alerting.failure f SET cleared_at = NULL "
                     "WHERE f.queue = $1 AND f.cleared_at IS NOT NULL "
                     "AND EXISTS (SELECT FROM standing s WHERE %s)",
                     same_failure),
            texts({queue}));
}

bool agrees_with_ledger(const char *queue, const Fingerprint &standing) {
    Fingerprint known = empty_like(standing);
    execute(ledger_identities, texts({queue}),
            checking_receiver(None_Receiver, identity_description(), &known));
    return known == standing;
}

// Compares the table `standing` with the standing failures in the ledger, and then only the
// differences with the cleared ones.
Difference compare_with_ledger(const char *queue) {
    Tuplestorestate *strays = tuplestore_begin_heap(false, false, work_mem);
    execute(psprintf("SELECT s.job_id, s.occurrence FROM standing s "
                     "FULL JOIN (SELECT f.* FROM job_alerting.failure f "
                     "           WHERE f.queue = $1 AND f.cleared_at IS NULL) f ON %s "
                     "WHERE s.job_id IS NULL OR f.job_id IS NULL",
                     same_failure),
            texts({queue}), store_receiver(strays, CurrentMemoryContext));
    Difference difference = {};
    if (tuplestore_tuple_count(strays) > 0) {
        name_store("strays", strays, identity_description());
        SPITupleTable *table = execute(
            psprintf("WITH fresh AS MATERIALIZED (SELECT %s AS job FROM strays s "
                     "    WHERE s.job_id IS NOT NULL AND NOT EXISTS ("
                     "        SELECT FROM job_alerting.failure f WHERE f.queue = $1 "
                     "        AND f.job_id = s.job_id AND f.occurrence = s.occurrence)) "
                     "SELECT (SELECT count(*) FROM fresh), "
                     "ARRAY(SELECT job FROM fresh LIMIT %lld), (SELECT count(*) FROM strays)",
                     job_hash("s.job_id"), static_cast<long long>(max_chosen)),
            texts({queue}));
        difference = {.fresh = number_of(table, 1),
                      .jobs = datum_of(table, 2),
                      .some_cleared = number_of(table, 1) < number_of(table, 3)};
        SPI_unregister_relation("strays");
    }
    tuplestore_end(strays);
    return difference;
}

void extend_deadline(int time_limit) {
    shared::set_deadline(MyDatabaseId, time_limit);
}

void report_omission(const char *queue, const Omission &omission) {
    if (omission.columns)
        ereport(LOG, (errmsg("job_alerting recorded new failures of queue \"%s\" without %s: %s",
                             queue, omission.columns, omission.error)));
}

// One attempt to read the failures' rows. `jobs`: only those of these jobs, for failures_query();
// null for all.
void read_rows(const ScannedQueue &queue, const FailureColumns &wanted, ParamListInfo jobs,
               int time_limit, DestReceiver *receiver, Progress &progress) {
    auto work = [&] {
        SPI_connect();
        progress.columns = describe_failure_query(queue.failure_query);
        progress.in_details = true;
        execute(failures_query(queue.failure_query, common(progress.columns, wanted), queue.since,
                               jobs != nullptr),
                jobs, checking_receiver(receiver, failure_description(), nullptr));
        SPI_finish();
    };
    sandboxed(confinement_of(queue, time_limit), work);
}

// Reads the new failures into `found`. Each attempt replaces the rows of the one before.
Omission read_failures(const ScannedQueue &queue, const Difference &difference, int left,
                       int time_limit, bool is_round, Tuplestorestate *&found) {
    const ParamListInfo jobs =
        difference.fresh <= max_chosen ? parameter(INT8ARRAYOID, difference.jobs) : nullptr;
    Tuplestorestate *tried = tuplestore_begin_heap(false, false, work_mem);
    auto attempt = [&](const FailureColumns &wanted, int limit, Progress &progress) {
        tuplestore_clear(tried);
        read_rows(queue, wanted, jobs, limit, store_receiver(tried, CurrentMemoryContext),
                  progress);
        std::swap(found, tried);
    };
    const Omission omission =
        read_details(attempt, left, time_limit, is_round ? extend_deadline : nullptr);
    tuplestore_end(tried);
    return omission;
}

// Returns null if no query returns the steps. Runs in a sandbox.
const char *steps_query_of(const ScannedQueue &queue) {
    if (queue.never_ran_query)
        return steps_query(queue.never_ran_query);
    return steps_query(queue.failure_query, describe_failure_query(queue.failure_query));
}

// Reads the steps that never ran, for the chains in the table `found`.
void read_steps(const ScannedQueue &queue, int time_limit, Tuplestorestate *steps,
                Omission &omission) {
    const MemoryContext context = CurrentMemoryContext;
    bool absent;
    const Datum chains = datum_of(
        execute("SELECT array_agg(DISTINCT s.chain) FROM found s WHERE s.chain IS NOT NULL"), 1,
        &absent);
    if (absent)
        return;
    auto work = [&] {
        auto read = [&] {
            SPI_connect();
            const char *query = steps_query_of(queue);
            if (query)
                execute(query, parameter(TEXTARRAYOID, chains),
                        checking_receiver(store_receiver(steps, context), steps_description(),
                                          nullptr));
            SPI_finish();
        };
        sandboxed(confinement_of(queue, time_limit), read);
    };
    if (!read_detail("never_ran", work, time_limit, omission))
        tuplestore_clear(steps);
}

// The rest of a time limit that all queries of a scan share; 0 for no limit.
int remaining_time(int time_limit, TimestampTz start) {
    if (time_limit == 0)
        return 0;
    const long spent = TimestampDifferenceMilliseconds(start, GetCurrentTimestamp());
    return static_cast<int>(Max(time_limit - spent, 1));
}

Change find_change(const ScannedQueue &queue, int time_limit, bool is_round) {
    const TimestampTz start = GetCurrentTimestamp();
    Change change = {.found = tuplestore_begin_heap(false, false, work_mem),
                     .steps = tuplestore_begin_heap(false, false, work_mem),
                     .standing = tuplestore_begin_heap(false, false, work_mem),
                     .some_cleared = false};
    Fingerprint standing = new_fingerprint();
    read_identities(queue, time_limit, change.standing, &standing);
    name_store("standing", change.standing, identity_description());
    Difference difference = {};
    if (!agrees_with_ledger(queue.name, standing))
        without_nested_loops([&] { difference = compare_with_ledger(queue.name); });
    change.some_cleared = difference.some_cleared;
    Omission omission = {};
    if (difference.fresh > 0)
        omission = read_failures(queue, difference, remaining_time(time_limit, start), time_limit,
                                 is_round, change.found);
    name_store("found", change.found, failure_description());
    // If reading the failures took a second time limit, no time may be left for the steps, and they
    // are left out.
    if (difference.fresh > 0)
        read_steps(queue, remaining_time(time_limit, start), change.steps, omission);
    name_store("steps", change.steps, steps_description());
    if (is_round)
        report_omission(queue.name, omission);
    return change;
}

// Reads the steps that never ran, for all chains with a standing failure, and discards them. Runs
// in a sandbox.
void read_all_steps(const ScannedQueue &queue) {
    SPI_connect();
    const FailureColumns columns = describe_failure_query(queue.failure_query);
    const char *query = steps_query_of(queue);
    const char *chains = chains_query(queue.failure_query, columns, queue.since);
    bool absent = true;
    const Datum all = query && chains ? datum_of(execute(chains), 1, &absent) : 0;
    if (!absent)
        execute(query, parameter(TEXTARRAYOID, all),
                checking_receiver(None_Receiver, steps_description(), nullptr));
    SPI_finish();
}

} // namespace

Confinement confinement_of(const ScannedQueue &queue, int time_limit) {
    return {.owner = queue.owner, .time_limit = time_limit, .queue = queue.name};
}

Trial try_queue(const ScannedQueue &queue, int time_limit) {
    Trial trial = {};
    auto read_all = [&] {
        SPI_connect();
        const FailureColumns columns = describe_failure_query(queue.failure_query);
        execute(identities_query(queue.failure_query, columns, queue.since), nullptr,
                checking_receiver(None_Receiver, identity_description(), nullptr));
        SPI_finish();
    };
    sandboxed(confinement_of(queue, time_limit), read_all);
    trial.identities_read = GetCurrentTimestamp();
    auto attempt = [&](const FailureColumns &wanted, int limit, Progress &progress) {
        read_rows(queue, wanted, nullptr, limit, None_Receiver, progress);
    };
    trial.omission = read_details(attempt, time_limit, time_limit, nullptr);
    auto try_steps = [&] {
        auto work = [&] { read_all_steps(queue); };
        sandboxed(confinement_of(queue, time_limit), work);
    };
    read_detail("never_ran", try_steps, time_limit, trial.omission);
    return trial;
}

void read_identities(const ScannedQueue &queue, int time_limit, Tuplestorestate *store) {
    read_identities(queue, time_limit, store, nullptr);
}

void record_failures(const ScannedQueue &queue, int time_limit) {
    lock_ledger();
    shared::set_deadline(MyDatabaseId, time_limit);
    Change change = {};
    // Only one round may assign ledger numbers, so that they become visible in order.
    with_round_lock([&] { change = find_change(queue, time_limit, true); });
    shared::set_deadline(MyDatabaseId, 0);
    without_nested_loops([&] {
        if (tuplestore_tuple_count(change.found) > 0)
            insert_failures(queue.name);
        if (change.some_cleared)
            clear_failures(queue.name);
    });
    forget(change);
}

Change find_failures(const ScannedQueue &queue, int time_limit) {
    return find_change(queue, time_limit, false);
}

int64 count_unknown(Tuplestorestate *before, Tuplestorestate *now) {
    name_store("earlier", before, identity_description());
    name_store("later", now, identity_description());
    int64 unknown = 0;
    without_nested_loops([&] {
        unknown = number_of(
            execute("SELECT CASE WHEN count(same.job_id) > 0 OR NOT EXISTS (SELECT FROM earlier) "
                    "THEN count(*) FILTER (WHERE same.job_id IS NULL AND job.job_id IS NOT NULL) "
                    "ELSE count(*) END FROM later l "
                    "LEFT JOIN (SELECT DISTINCT e.job_id FROM earlier e) job "
                    "ON job.job_id = l.job_id "
                    "LEFT JOIN (SELECT DISTINCT e.job_id, coalesce('=' || e.occurrence, '') AS key "
                    "           FROM earlier e) same "
                    "ON same.job_id = l.job_id AND same.key = coalesce('=' || l.occurrence, '')"),
            1);
    });
    return unknown;
}

void forget(const Change &change) {
    tuplestore_end(change.found);
    tuplestore_end(change.steps);
    tuplestore_end(change.standing);
}

} // namespace job_alerting::server
