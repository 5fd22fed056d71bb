#include "server/base/prelude.hpp"

#include "server/desk/check_queue.hpp"

#include "server/base/settings.hpp"
#include "server/desk/finding.hpp"
#include "server/queue/examine.hpp"
#include "server/queue/job_table.hpp"
#include "server/queue/scan.hpp"
#include "server/queue/statuses.hpp"
#include "server/round/recording.hpp"

namespace job_alerting::server {

namespace {

constexpr std::int64_t large = 10000; // pages of a table that no round should read whole
constexpr int minute = 60;

std::string literal(const std::string &text) {
    std::string text_literal = "'";
    for (const char c : text)
        text_literal += c == '\'' ? "''" : std::string(1, c);
    return text_literal + "'";
}

// A queue under examination.
struct QueueUnderCheck {
    const Queue &queue;
    QueryFacts facts = {};
};

Finding check_row_security(const QueueUnderCheck &checked) {
    if (!checked.facts.row_security)
        return ok("no policy hides a row from role " + checked.queue.owner);
    return warning("row-level security may hide rows from role " + checked.queue.owner + " in " +
                       checked.facts.row_security + ", and with them failures",
                   "Give the role a policy that shows it all rows (CREATE POLICY ... USING "
                   "(true)), or exempt the table's owner: ALTER TABLE ... NO FORCE ROW LEVEL "
                   "SECURITY;");
}

Finding check_owner(const QueueUnderCheck &checked) {
    if (!checked.facts.others)
        return ok("it runs as role " + checked.queue.owner);
    return warning("it runs as superuser " + checked.queue.owner +
                       " over what others own: " + checked.facts.others,
                   "Name a lesser role: SELECT job_alerting.watch_query(" +
                       literal(checked.queue.name) +
                       ", q.failure_query, owner => 'ROLE', since => q.since) FROM "
                       "job_alerting.queue q WHERE q.name = " +
                       literal(checked.queue.name) + ";");
}

Finding check_time_zone(const QueueUnderCheck &checked) {
    if (!checked.facts.assumes_time_zone)
        return ok("all its times have a time zone");
    return warning("it takes a timestamp without time zone (or a date) for one with, by the "
                   "TimeZone that the server or the database is set to",
                   "Say in which zone it was written, in the failure query: "
                   "ended_at AT TIME ZONE 'UTC' AS failed_at");
}

// How long the name is that a text begins with, written as quote_identifier() writes it; 0 where it
// begins with none.
std::size_t name_length(std::string_view text) {
    if (!text.starts_with('"'))
        return std::min(text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_"),
                        text.size());
    std::size_t quote = text.find('"', 1);
    while (quote != text.npos && text.substr(quote + 1).starts_with('"'))
        quote = text.find('"', quote + 2);
    return quote == text.npos ? 0 : quote + 1;
}

// The name between two texts; empty where there is none.
std::string name_between(std::string_view text, std::string_view before, std::string_view after,
                         bool qualified) {
    const std::size_t at = text.find(before);
    if (at == text.npos)
        return {};
    text.remove_prefix(at + before.size());
    std::size_t length = name_length(text);
    if (qualified && length > 0 && text.substr(length).starts_with('.')) {
        const std::size_t table = name_length(text.substr(length + 1));
        length = table == 0 ? 0 : length + 1 + table;
    } else if (qualified) {
        return {};
    }
    return std::string(text.substr(length).starts_with(after) ? text.substr(0, length) : "");
}

// Where a query has its jobs, when it is written as watch() does. What is read here becomes part of
// statements: it is names, and nothing else.
struct JobTable {
    std::string name;
    std::string key;
};

std::optional<JobTable> table_in(const Queue &queue) {
    const std::string_view query = queue.failure_query;
    if (!query.starts_with("SELECT "))
        return std::nullopt;
    JobTable table = {.name = name_between(query, "\n  FROM ", " j\n", true),
                      .key = name_between(query, "SELECT j.", "::text AS job_id,", false)};
    return table.name.empty() || table.key.empty() ? std::nullopt : std::optional(table);
}

// Empty for a query that is not watch()'s own. Called within a transaction.
std::string advised_index(Transaction &transaction, const Queue &queue, const std::string &on) {
    const std::optional<JobTable> table = table_in(queue);
    const char *index = nullptr;
    if (table)
        transaction.run([&] {
            Relation jobs = find_jobs(table->name.c_str());
            if (!jobs)
                return;
            index = advise_index(jobs, queue.failure_query.c_str(), on.c_str());
            relation_close(jobs, AccessShareLock);
        });
    return index ? index : "";
}

Finding check_plan(const QueueUnderCheck &checked) {
    Transaction transaction(lock_timeout_setting());
    const Result scanned = transaction.execute(
        "SELECT format('%I.%I', n.nspname, c.relname), pg_size_pretty(pg_relation_size(c.oid)) "
        "FROM jsonb_path_query($1::jsonb, '$.** ? (@.\"Node Type\" == \"Seq Scan\")') scan "
        "JOIN pg_namespace n ON n.nspname = scan->>'Schema' "
        "JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = scan->>'Relation Name' "
        "WHERE pg_relation_size(c.oid) / current_setting('block_size')::bigint > $2::bigint "
        "ORDER BY pg_relation_size(c.oid) DESC",
        {std::string(checked.facts.plan), value(large)});
    if (!scanned.rows.empty()) {
        const std::string table = scanned.rows[0][0].value();
        const std::string index = advised_index(transaction, checked.queue, table);
        return warning("each scan reads all of " + table + ", " + scanned.rows[0][1].value(),
                       !index.empty() ? index
                                      : "Create an index (CREATE INDEX CONCURRENTLY) that serves "
                                        "the query's condition and holds what job_id, failed_at "
                                        "and occurrence are made of.");
    }
    return ok("no large table is read whole");
}

// In three transactions, since now() stands still within each. A job that is retried meanwhile, and
// fails again, has another identity once.
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
        "run again, it gives " + std::to_string(unknown) +
            " of its failures another identity (failed_at or occurrence): each round "
            "would tell of them anew",
        "Let failed_at and occurrence depend on what is stored, not on now() or the like.");
}

// How many of these jobs, a text[], have no row any more.
std::int64_t count_deleted(Transaction &transaction, const Queue &queue, const JobTable &table,
                           const Row &jobs) {
    const ScannedQueue scanned = ledger::scanned(queue);
    std::int64_t rows = 0;
    transaction.run([&] {
        const Datum keys = OidFunctionCall3(F_ARRAY_IN, CStringGetDatum(jobs[0]->c_str()),
                                            ObjectIdGetDatum(TEXTOID), Int32GetDatum(-1));
        rows = count_rows(scanned, scan_timeout_setting(), table.name.c_str(), table.key.c_str(),
                          keys);
    });
    return number(jobs[1]) - rows;
}

// A row that is deleted within an interval of failing is seen by one round at most, and by none
// if it is unlucky. So it is a sign when each of the rows that were deleted was gone by the round
// after the one that recorded it. A row that is retried stays.
Finding check_deletion(const QueueUnderCheck &checked) {
    constexpr std::int64_t enough = 3;
    const std::optional<JobTable> table = table_in(checked.queue);
    if (!table)
        return ok("how soon its rows are deleted cannot be told from a query that is not "
                  "watch()'s own");
    Transaction transaction(lock_timeout_setting());
    const Result cleared = transaction.execute(
        "SELECT coalesce(array_agg(DISTINCT f.job_id) FILTER (WHERE f.soon = s.soon), '{}'), "
        "count(DISTINCT f.job_id) FILTER (WHERE f.soon = s.soon) "
        "FROM (VALUES (true), (false)) s(soon) LEFT JOIN (SELECT f.job_id, "
        "    f.cleared_at - f.recorded_at < make_interval(secs => 1.5 * $2::float8) AS soon "
        "    FROM job_alerting.failure f WHERE f.queue = $1 AND f.cleared_at IS NOT NULL "
        "    AND f.status IS DISTINCT FROM 'unreadable' "
        "    ORDER BY f.cleared_at DESC LIMIT 100) f ON true GROUP BY s.soon ORDER BY s.soon DESC",
        {checked.queue.name, std::to_string(interval_setting())});
    std::int64_t soon = 0;
    std::int64_t later = 0;
    try {
        soon = count_deleted(transaction, checked.queue, *table, cleared.rows[0]);
        later = count_deleted(transaction, checked.queue, *table, cleared.rows[1]);
    } catch (const ServerError &why) {
        return ok("how soon its rows are deleted cannot be told: " + why.words());
    }
    transaction.commit();
    if (soon < enough || later > 0)
        return ok("its rows are not known to be deleted so soon that a failure may be missed");
    return warning("each of the last " + std::to_string(soon) +
                       " failures whose rows were deleted was gone by the next round: others may "
                       "come and go without any round seeing them",
                   "Keep failed rows for longer than job_alerting.interval" +
                       (interval_setting() > minute
                            ? ", or shorten that: " + set_statement("job_alerting.interval", "1min")
                            : "."));
}

// Over what stands failed now, as far as that is read at all.
Finding check_columns(const QueueUnderCheck &checked) {
    const ScannedQueue scanned = ledger::scanned(checked.queue);
    Trial trial = {};
    Transaction transaction(lock_timeout_setting());
    transaction.run([&] {
        trial = try_queue(scanned, scan_timeout_setting());
    });
    if (!trial.omission.columns)
        return ok("all its columns can be read");
    return warning(std::string("new failures are told without ") + trial.omission.columns + ": " +
                       trial.omission.error,
                   "Correct the rows that stand failed, or the failure query.");
}

Finding check_statuses(const QueueUnderCheck &checked) {
    const std::optional<JobTable> table = table_in(checked.queue);
    const char *unknown = nullptr;
    Transaction transaction(lock_timeout_setting());
    if (table)
        transaction.run([&] {
            Relation jobs = find_jobs(table->name.c_str());
            if (!jobs)
                return;
            unknown = unknown_statuses(jobs, get_role_oid(checked.queue.owner.c_str(), false),
                                       scan_timeout_setting());
            relation_close(jobs, AccessShareLock);
        });
    if (!unknown)
        return ok(table ? "no job has ended in a status that no rule knows"
                        : "what its statuses mean is the query's to know");
    return warning(std::string("jobs have ended in a status that no rule knows, and are not "
                               "reported: ") +
                       unknown,
                   "If they are failures, describe them with job_alerting.watch_query().");
}

// Where failures may be that the query does not see; no fault in itself.
Finding check_sources(const QueueUnderCheck &checked) {
    std::string sources;
    if (checked.facts.remotes)
        sources = std::string("it reads a remote server: ") + checked.facts.remotes;
    if (checked.facts.views)
        sources += (sources.empty() ? "it reads a view: " : "; and a view: ") +
                   std::string(checked.facts.views);
    return ok(sources.empty() ? "it reads tables of this database" : sources);
}

// With one decimal, as far as it tells more.
std::string seconds(double milliseconds) {
    const auto tenths = static_cast<std::int64_t>(milliseconds / 100 + 0.5);
    return std::to_string(tenths / 10) +
           (tenths % 10 != 0 ? "." + std::to_string(tenths % 10) : "") + " s";
}

Finding check_time(const QueueUnderCheck &checked) {
    if (!takes_long(checked.queue))
        return ok("its scans are quick");
    return warning("its last scan took " + seconds(checked.queue.last_scan_ms) + " of the " +
                       seconds(scan_timeout_setting()) +
                       " that all slow queues have together in a round: it is read after the "
                       "quick ones, and not in each round",
                   "Let an index serve its failure query, or increase job_alerting.scan_timeout.");
}

struct QueueItem {
    const char *name;
    Finding (*check)(const QueueUnderCheck &checked);
};

const QueueItem queue_items[] = {
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

// Runs one look at a queue; what goes wrong with it is a finding, too.
template <typename Look> Finding guarded_finding(const Queue &queue, Look &&look) {
    try {
        return look();
    } catch (const ServerError &why) {
        return error("it cannot be read: " + why.words(),
                     "Mend that, or stop watching it: SELECT job_alerting.unwatch(" +
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
    for (const QueueItem &part : queue_items)
        add(rows, std::string(part.name) + " of " + whose,
            guarded_finding(queue, [&] { return part.check(checked); }));
}

} // namespace job_alerting::server
