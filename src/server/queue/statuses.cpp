#include "server/base/prelude.hpp"

#include "server/queue/statuses.hpp"

#include "server/base/statement.hpp"
#include "server/queue/job_table.hpp"
#include "server/queue/sandbox.hpp"

namespace job_alerting::server {

namespace {

constexpr double max_pages = 10000; // pages read from a table

// Statuses that are known as failures or as none.
const char *const known =
    "'failed', 'dead', 'queued', 'pending', 'waiting', 'scheduled', 'new', 'ready', 'available', "
    "'enqueued', 'retry', 'retrying', 'retryable', 'started', 'running', 'processing', 'active', "
    "'executing', 'claimed', 'in_progress', 'done', 'succeeded', 'success', 'successful', "
    "'complete', 'completed', 'ok', 'finished', 'processed', 'skipped', 'canceled', 'cancelled'";

// Size of a table, including partitions, in pages.
double pages_of(Oid table) {
    return DatumGetFloat8(
        datum_of(execute(psprintf("SELECT (coalesce((SELECT sum(pg_relation_size(p.relid)) "
                                  "                  FROM pg_partition_tree(%u) p), "
                                  "pg_relation_size(%u), 0) / %d)::float8",
                                  table, table, BLCKSZ)),
                 1));
}

const char *sample_of(Oid table) {
    const double pages = pages_of(table);
    return pages > max_pages ? psprintf("TABLESAMPLE SYSTEM (%f)", 100 * max_pages / pages) : "";
}

// Lists the most frequent unknown statuses. Statuses are arbitrary text: special characters are
// replaced, and long ones are truncated.
const char *words_query(Relation jobs) {
    return psprintf(
        "SELECT string_agg(format('\"%%s\"', w.word), ', ' ORDER BY w.word) FROM ("
        "    SELECT left(regexp_replace(s.word, '[^[:alnum:] _./:-]', '?', 'g'), 40) AS word "
        "    FROM (SELECT %s AS word FROM %s j %s "
        "          WHERE j.finished_at IS NOT NULL OR j.attempts >= j.max_attempts) s "
        "    WHERE s.word NOT IN ('', %s) GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 5) w",
        status_word("j.status::text"),
        quote_qualified_identifier(get_namespace_name(RelationGetNamespace(jobs)),
                                   RelationGetRelationName(jobs)),
        sample_of(RelationGetRelid(jobs)), known);
}

} // namespace

char *unknown_statuses(Relation jobs, Oid owner, int time_limit) {
    const MemoryContext context = CurrentMemoryContext;
    char *unknown = nullptr;
    auto work = [&] {
        SPI_connect();
        const char *list = text_of(execute(words_query(jobs)), 1);
        if (list)
            unknown = MemoryContextStrdup(context, list);
        SPI_finish();
    };
    sandboxed({.owner = GetUserNameFromId(owner, false), .time_limit = time_limit}, work);
    return unknown;
}

} // namespace job_alerting::server
