#include "server/base/prelude.hpp"

#include "server/desk/check_queue.hpp"

#include "server/base/settings.hpp"
#include "server/base/statement.hpp"
#include "server/desk/check.hpp"
#include "server/queue/examine.hpp"
#include "server/queue/job_table.hpp"
#include "server/queue/scan.hpp"
#include "server/queue/statuses.hpp"
#include "server/round/recording.hpp"

namespace job_alerting::server {

namespace {

constexpr std::int64_t large = 10000; // pages: no round should read such a table whole
constexpr int minute = 60;

std::string literal(const std::string &text) {
    std::string text_literal = "'";
    for (const char c : text)
        text_literal += c == '\'' ? "''" : std::string(1, c);
    return text_literal + "'";
}

struct QueueUnderCheck {
    const Queue &queue;
    QueryFacts facts = {};
};

Finding check_row_security(const QueueUnderCheck &checked) {
    if (!checked.facts.row_security)
        return ok("no policy hides rows from role " + checked.queue.owner);
    return warning("row-level security may hide rows from role " + checked.queue.owner + " in " +
                       checked.facts.row_security + ", and so hide failures",
                   "Give the role a policy that shows it all rows (CREATE POLICY ... USING "
                   "(true)), or exempt the table's owner: ALTER TABLE ... NO FORCE ROW LEVEL "
                   "SECURITY;");
}

Finding check_owner(const QueueUnderCheck &checked) {
    if (!checked.facts.others)
        return ok("it runs as role " + checked.queue.owner);
    return warning("it runs as superuser " + checked.queue.owner +
                       " and uses objects of other roles: " + checked.facts.others,
                   "Name a lesser role: SELECT job_alerting.watch_query(" +
                       literal(checked.queue.name) +
                       ", q.failure_query, owner => 'ROLE', since => q.since) FROM "
                       "job_alerting.queue q WHERE q.name = " +
                       literal(checked.queue.name) + ";");
}

Finding check_time_zone(const QueueUnderCheck &checked) {
    if (!checked.facts.assumes_time_zone)
        return ok("all its timestamps have a time zone");
    return warning("it converts a timestamp without time zone (or a date) with the TimeZone "
                   "setting of the server or the database",
                   "Name the time zone of the stored value in the failure query: "
                   "ended_at AT TIME ZONE 'UTC' AS failed_at");
}

// Runs `work` with the job table that watch() wrote the queries for; not where there is none. C
// regime.
template <typename Work> void with_jobs(const Queue &queue, Work &&work) {
    Relation jobs = queue.jobs ? find_jobs(queue.jobs->c_str()) : nullptr;
    if (!jobs)
        return;
    work(jobs);
    relation_close(jobs, AccessShareLock);
}

// Empty where none is known.
std::string advised_index(Transaction &transaction, const Queue &queue, const std::string &on) {
    const char *index = nullptr;
    transaction.run([&] {
        with_jobs(queue, [&](Relation jobs) {
            index = advise_index(jobs, queue.failure_query.c_str(), on.c_str());
        });
    });
    return index ? index : "";
}

// The plan of the statement that a scan runs first, as EXPLAIN's JSON. C regime.
char *plan_of(const ScannedQueue &queue) {
    const MemoryContext context = CurrentMemoryContext;
    char *plan = nullptr;
    auto work = [&] {
        SPI_connect();
        const FailureColumns columns = describe_failure_query(queue.failure_query);
        plan =
            text_of(execute(psprintf("EXPLAIN (VERBOSE, COSTS OFF, FORMAT JSON) %s",
                                     identities_query(queue.failure_query, columns, queue.since))),
                    1);
        plan = MemoryContextStrdup(context, plan);
        SPI_finish();
    };
    sandboxed(confinement_of(queue, scan_timeout_setting()), work);
    return plan;
}

Finding check_plan(const QueueUnderCheck &checked) {
    const ScannedQueue scanned = ledger::scanned(checked.queue);
    const char *plan = nullptr;
    Transaction transaction(lock_timeout_setting());
    transaction.run([&] { plan = plan_of(scanned); });
    const Result read = transaction.execute(
        "SELECT format('%I.%I', n.nspname, c.relname), pg_size_pretty(pg_relation_size(c.oid)) "
        "FROM jsonb_path_query($1::jsonb, '$.** ? (@.\"Node Type\" == \"Seq Scan\")') scan "
        "JOIN pg_namespace n ON n.nspname = scan->>'Schema' "
        "JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = scan->>'Relation Name' "
        "WHERE pg_relation_size(c.oid) / current_setting('block_size')::bigint > $2::bigint "
        "ORDER BY pg_relation_size(c.oid) DESC",
        {std::string(plan), value(large)});
    if (read.rows.empty())
        return ok("no scan reads a large table whole");
    const std::string table = read.rows[0][0].value();
    const std::string index = advised_index(transaction, checked.queue, table);
    return warning("each scan reads all of " + table + ", " + read.rows[0][1].value(),
                   !index.empty() ? index
                                  : "Create an index (CREATE INDEX CONCURRENTLY) that serves the "
                                    "query's condition and contains the columns of job_id, "
                                    "failed_at and occurrence.");
}

// Reads the identities in three transactions, because now() is constant within each. One change is
// no sign: the job may have been retried meanwhile and have failed again.
Finding check_identity(const QueueUnderCheck &checked) {
    const ScannedQueue scanned = ledger::scanned(checked.queue);
    Tuplestorestate *before = nullptr;
    std::int64_t unknown = 0;
    for (int i = 0; i < 3; i++) {
        Transaction transaction(lock_timeout_setting());
        transaction.run([&] {
            const MemoryContext context = MemoryContextSwitchTo(TopMemoryContext);
            Tuplestorestate *now = tuplestore_begin_heap(false, true, work_mem);
            MemoryContextSwitchTo(context);
            read_identities(scanned, scan_timeout_setting(), now);
            if (before)
                unknown = count_unknown(before, now);
            before = now;
        });
        transaction.commit();
        if (i > 0 && unknown == 0)
            return ok("failures keep their identity from one run to the next");
    }
    return error(
        "when run again, it gives " + std::to_string(unknown) +
            " of its failures another identity (failed_at or occurrence): each round "
            "would report them again",
        "Make failed_at and occurrence depend on stored values, not on now() or the like.");
}

// How many rows of the table have one of these keys, a text[], as the queue's owner sees it. The
// keys are compared as values of the column, so that the primary key's index serves. C regime.
int64 count_rows(const ScannedQueue &queue, Relation jobs, const char *key, Datum keys) {
    const Oid table = RelationGetRelid(jobs);
    int64 rows = 0;
    auto work = [&] {
        SPI_connect();
        const Oid type = get_atttype(table, get_attnum(table, key));
        const char *count = psprintf("SELECT count(*) FROM %s WHERE %s = ANY ($1::%s[])",
                                     table_name(jobs), quote_identifier(key),
                                     format_type_extended(type, -1, FORMAT_TYPE_TYPEMOD_GIVEN));
        rows = DatumGetInt64(datum_of(execute(count, parameter(TEXTARRAYOID, keys)), 1));
        SPI_finish();
    };
    sandboxed(confinement_of(queue, scan_timeout_setting()), work);
    return rows;
}

// Returns how many of these jobs (a text[] and its length) have no row now.
std::int64_t count_deleted(Transaction &transaction, const Queue &queue, const Row &jobs) {
    const ScannedQueue scanned = ledger::scanned(queue);
    std::int64_t rows = number(jobs[1]); // without a table, no job counts as deleted
    transaction.run([&] {
        const Datum keys = OidFunctionCall3(F_ARRAY_IN, CStringGetDatum(jobs[0]->c_str()),
                                            ObjectIdGetDatum(TEXTOID), Int32GetDatum(-1));
        with_jobs(queue, [&](Relation table) {
            rows = count_rows(scanned, table, queue.key->c_str(), keys);
        });
    });
    return number(jobs[1]) - rows;
}

// Returns two rows, each a text[] and its length: of the last 100 cleared failures, the jobs that
// cleared within 1.5 intervals of being recorded, and the others.
std::vector<Row> cleared_jobs(Transaction &transaction, const Queue &queue) {
    return transaction
        .execute(
            "SELECT coalesce(array_agg(DISTINCT f.job_id) FILTER (WHERE f.soon = s.soon), '{}'), "
            "count(DISTINCT f.job_id) FILTER (WHERE f.soon = s.soon) "
            "FROM (VALUES (true), (false)) s(soon) LEFT JOIN (SELECT f.job_id, "
            "    f.cleared_at - f.recorded_at < make_interval(secs => 1.5 * $2::float8) AS soon "
            "    FROM job_alerting.failure f WHERE f.queue = $1 AND f.cleared_at IS NOT NULL "
            "    AND f.status IS DISTINCT FROM 'unreadable' "
            "    ORDER BY f.cleared_at DESC LIMIT 100) f ON true "
            "GROUP BY s.soon ORDER BY s.soon DESC",
            {queue.name, std::to_string(interval_setting())})
        .rows;
}

// A row that is deleted within an interval of its failure is seen by at most one round, perhaps by
// none. The sign: several recorded jobs were deleted, all of them by the next round. A retried job
// does not count, because its row still exists.
Finding check_deletion(const QueueUnderCheck &checked) {
    constexpr std::int64_t min_deleted = 3;
    if (!checked.queue.jobs)
        return ok("how soon rows are deleted is known only for tables watched by watch()");
    Transaction transaction(lock_timeout_setting());
    const std::vector<Row> cleared = cleared_jobs(transaction, checked.queue);
    std::int64_t soon = 0;
    std::int64_t later = 0;
    try {
        soon = count_deleted(transaction, checked.queue, cleared[0]);
        later = count_deleted(transaction, checked.queue, cleared[1]);
    } catch (const ServerError &why) {
        return ok("how soon rows are deleted cannot be determined: " + why.words());
    }
    transaction.commit();
    if (soon < min_deleted || later > 0)
        return ok("no sign that rows are deleted before a round can see them");
    return warning(
        "each of the last " + std::to_string(soon) +
            " failures whose rows were deleted was gone by the next round: other "
            "failures may be deleted before any round sees them",
        "Keep failed rows for longer than job_alerting.interval" +
            (interval_setting() > minute
                 ? ", or shorten the interval: " + set_statement("job_alerting.interval", "1min")
                 : "."));
}

// Tries the columns on all jobs that stand failed.
Finding check_columns(const QueueUnderCheck &checked) {
    const ScannedQueue scanned = ledger::scanned(checked.queue);
    Trial trial = {};
    Transaction transaction(lock_timeout_setting());
    transaction.run([&] { trial = try_queue(scanned, scan_timeout_setting()); });
    if (!trial.omission.columns)
        return ok("all its columns can be read");
    return warning(std::string("new failures are recorded without ") + trial.omission.columns +
                       ": " + trial.omission.error,
                   "Correct the rows of the failed jobs, or the failure query.");
}

Finding check_statuses(const QueueUnderCheck &checked) {
    if (!checked.queue.jobs)
        return ok("the failure query decides what each status means");
    const char *unknown = nullptr;
    Transaction transaction(lock_timeout_setting());
    transaction.run([&] {
        with_jobs(checked.queue, [&](Relation jobs) {
            unknown = unknown_statuses(jobs, get_role_oid(checked.queue.owner.c_str(), false),
                                       scan_timeout_setting());
        });
    });
    if (!unknown)
        return ok("no job has ended in an unknown status");
    return warning(std::string("jobs have ended in a status that no rule knows, and are not "
                               "reported: ") +
                       unknown,
                   "If they are failures, describe them with job_alerting.watch_query().");
}

// Sources that may hide failures from the query; they are no fault in themselves.
Finding check_sources(const QueueUnderCheck &checked) {
    std::string sources;
    if (checked.facts.remotes)
        sources = std::string("it reads a remote server: ") + checked.facts.remotes;
    if (checked.facts.views)
        sources += (sources.empty() ? "it reads a view: " : "; and a view: ") +
                   std::string(checked.facts.views);
    return ok(sources.empty() ? "it reads tables of this database" : sources);
}

// With one decimal, unless that is 0.
std::string seconds(double milliseconds) {
    const auto tenths = static_cast<std::int64_t>(milliseconds / 100 + 0.5);
    return std::to_string(tenths / 10) +
           (tenths % 10 != 0 ? "." + std::to_string(tenths % 10) : "") + " s";
}

Finding check_time(const QueueUnderCheck &checked) {
    if (!takes_long(checked.queue))
        return ok("its scans are short");
    return warning("its last scan took " + seconds(checked.queue.last_scan_ms) + " of the " +
                       seconds(scan_timeout_setting()) +
                       " that all slow queues share in a round: it is read after the quick "
                       "queues, and not in every round",
                   "Create an index for its failure query, or increase "
                   "job_alerting.scan_timeout.");
}

struct QueueCheck {
    const char *name;
    Finding (*check)(const QueueUnderCheck &checked);
};

const QueueCheck queue_checks[] = {
    {"columns", check_columns},
    {"statuses", check_statuses},
    {"sources", check_sources},
    {"identity", check_identity},
    {"deletion", check_deletion},
    {"plan", check_plan},
    {"row-level security", check_row_security},
    {"owner", check_owner},
    {"time zone", check_time_zone},
    {"time", check_time},
};

// Runs one check of a queue. An error that it meets is a finding, too.
template <typename Check> Finding guarded_finding(const Queue &queue, Check &&check) {
    try {
        return check();
    } catch (const ServerError &why) {
        return error("it cannot be read: " + why.words(),
                     "Fix that, or stop watching it: SELECT job_alerting.unwatch(" +
                         literal(queue.name) + ");");
    }
}

} // namespace

void check_queue(const Queue &queue, Rows &rows) {
    QueueUnderCheck checked{.queue = queue};
    const std::string whose = "queue " + queue.name;
    const Finding readable = guarded_finding(queue, [&] {
        const ScannedQueue scanned = ledger::scanned(queue);
        Transaction transaction(lock_timeout_setting());
        transaction.run([&] {
            const MemoryContext before = MemoryContextSwitchTo(TopMemoryContext);
            checked.facts = examine_query(scanned, scan_timeout_setting());
            MemoryContextSwitchTo(before);
            forget(find_failures(scanned, scan_timeout_setting()));
        });
        transaction.commit();
        return ok("it can be read");
    });
    add(rows, whose, readable);
    if (readable.state != "ok")
        return;
    for (const QueueCheck &part : queue_checks)
        add(rows, std::string(part.name) + " of " + whose,
            guarded_finding(queue, [&] { return part.check(checked); }));
}

} // namespace job_alerting::server
