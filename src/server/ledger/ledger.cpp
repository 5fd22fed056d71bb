#include "server/base/prelude.hpp"

#include "server/ledger/ledger.hpp"

#include "server/base/settings.hpp"

namespace job_alerting::server::ledger {

namespace {

// Records the failure of the queue itself, once for each breakage.
bool record_unreadable(Transaction &transaction, const std::string &queue) {
    const Result recorded = transaction.execute(
        "INSERT INTO job_alerting.failure (queue, job_id, occurrence, status, error, failed_at) "
        "SELECT q.name, 'unreadable', "
        "to_char(q.broken_since AT TIME ZONE 'UTC', " AS_OCCURRENCE "), 'unreadable', "
        "left(q.last_error, 4000), q.broken_since "
        "FROM job_alerting.queue q WHERE q.name = $1 "
        "ON CONFLICT (queue, job_id, occurrence) DO NOTHING",
        {queue});
    return recorded.touched > 0;
}

} // namespace

std::vector<Queue> queues(Transaction &transaction) {
    // After two scans that did not end, a queue is skipped for as long as it has been broken, at
    // least $1 seconds and at most an hour. A time in the future was set before the clock was
    // turned back.
    const Result result = transaction.execute(
        "SELECT q.name, q.failure_query, q.owner, q.since, q.watched_at, "
        "q.broken_since IS NOT NULL, q.scan_started_at IS NOT NULL, "
        "q.scan_started_at IS NULL OR q.broken_since IS NULL "
        "OR q.scan_started_at > clock_timestamp() OR clock_timestamp() >= q.scan_started_at + "
        "least(greatest(q.scan_started_at - q.broken_since, make_interval(secs => $1::float8)), "
        "interval '1 hour'), "
        "bool_or(q.scan_started_at IS NOT NULL) OVER (PARTITION BY q.owner), "
        "coalesce(q.last_scan_ms, 0), extract(epoch FROM coalesce(q.last_turn_at, q.watched_at)), "
        "q.never_ran_query, q.jobs, q.key "
        "FROM job_alerting.queue q ORDER BY NOT q.trusted, q.watched_at, q.name",
        {std::to_string(interval_setting())});
    std::vector<Queue> queues;
    for (const Row &row : result.rows)
        queues.push_back({.name = row[0].value(),
                          .failure_query = row[1].value(),
                          .never_ran_query = row[11],
                          .jobs = row[12],
                          .key = row[13],
                          .owner = row[2].value(),
                          .since = row[3].value(),
                          .watched_at = row[4].value(),
                          .broken = flag(row[5]),
                          .never_ended = flag(row[6]),
                          .due = flag(row[7]),
                          .beside_endless = flag(row[8]),
                          .last_scan_ms = std::stod(row[9].value()),
                          .last_turn = std::stod(row[10].value())});
    return queues;
}

ScannedQueue scanned(const Queue &queue) {
    return {.name = queue.name.c_str(),
            .failure_query = queue.failure_query.c_str(),
            .never_ran_query = queue.never_ran_query ? queue.never_ran_query->c_str() : nullptr,
            .owner = queue.owner.c_str(),
            .since = queue.since.c_str()};
}

ScanBegin begin_scan(Transaction &transaction, const Queue &queue, bool is_turn, bool wait) {
    // Reading a table by an index before writing to it would deadlock with REINDEX.
    transaction.execute("LOCK TABLE job_alerting.queue IN ROW EXCLUSIVE MODE");
    const std::vector<Value> itself = {queue.name, queue.watched_at};
    const std::string row = "FROM job_alerting.queue q "
                            "WHERE q.name = $1 AND q.watched_at = $2::timestamptz";
    const std::string lock = "SELECT " + row + " FOR UPDATE";
    if (transaction.execute((lock + (wait ? "" : " SKIP LOCKED")).c_str(), itself).touched == 0)
        return transaction.execute(("SELECT " + row).c_str(), itself).touched > 0 ? ScanBegin::held
                                                                                  : ScanBegin::gone;
    transaction.execute(
        "UPDATE job_alerting.queue SET scan_started_at = clock_timestamp(), "
        "last_turn_at = CASE WHEN $2::boolean THEN clock_timestamp() ELSE last_turn_at END "
        "WHERE name = $1",
        {queue.name, is_turn ? "t" : "f"});
    return ScanBegin::begun;
}

ScanEnd scan(Transaction &transaction, const Queue &queue, int time_limit) {
    const ScannedQueue itself = scanned(queue);
    read_queue(transaction, [&] { record_failures(itself, time_limit); });
    const Result ended = transaction.execute(
        "UPDATE job_alerting.queue q SET last_scan_at = clock_timestamp(), "
        "last_scan_ms = 1000 * extract(epoch FROM clock_timestamp() - scan_started_at)::float8, "
        "last_turn_at = scan_started_at, "
        "scan_started_at = NULL, last_error = NULL, broken_since = NULL, postponed_since = NULL "
        "WHERE q.name = $1 AND q.watched_at = $2::timestamptz "
        "RETURNING EXISTS (SELECT FROM job_alerting.failure f WHERE f.queue = q.name "
        "    AND f.job_id = 'unreadable' AND f.status = 'unreadable' AND f.cleared_at = now())",
        {queue.name, queue.watched_at});
    if (ended.rows.empty())
        return ScanEnd::gone;
    return flag(ended.rows[0][0]) ? ScanEnd::recovered : ScanEnd::recorded;
}

void end_scan(Transaction &transaction, const std::string &queue) {
    transaction.execute("UPDATE job_alerting.queue SET scan_started_at = NULL WHERE name = $1",
                        {queue});
}

void postpone(Transaction &transaction, const std::string &queue) {
    transaction.execute("UPDATE job_alerting.queue q SET postponed_since = clock_timestamp() "
                        "FROM (SELECT name FROM job_alerting.queue WHERE name = $1 "
                        "AND postponed_since IS NULL FOR UPDATE SKIP LOCKED) free "
                        "WHERE q.name = free.name",
                        {queue});
}

bool break_queue(Transaction &transaction, const std::string &queue, const std::string &error,
                 bool certain) {
    const Result before = transaction.execute(
        "UPDATE job_alerting.queue q SET scan_started_at = NULL, last_error = left($2, 4000), "
        "postponed_since = NULL, broken_since = coalesce(q.broken_since, clock_timestamp()) "
        "FROM job_alerting.queue before WHERE q.name = $1 AND before.name = q.name "
        "RETURNING before.broken_since IS NOT NULL",
        {queue, error});
    const bool watched = !before.rows.empty();
    if (watched && (certain || flag(before.rows[0][0])))
        return record_unreadable(transaction, queue);
    return false;
}

bool break_unended(Transaction &transaction, const std::string &queue) {
    // Every round until the next scan finds the same unended scan, which counts once.
    const Result before = transaction.execute(
        "UPDATE job_alerting.queue q SET last_error = e.error, postponed_since = NULL, "
        "broken_since = coalesce(q.broken_since, q.scan_started_at) "
        "FROM (SELECT * FROM job_alerting.queue WHERE name = $1 FOR UPDATE SKIP LOCKED) before, "
        "LATERAL (SELECT 'the scan that began at ' || before.scan_started_at || ' never ended') "
        "e(error) WHERE q.name = $1 AND before.name = q.name "
        "AND before.last_error IS DISTINCT FROM e.error "
        "RETURNING before.broken_since IS NOT NULL",
        {queue});
    if (!before.rows.empty() && flag(before.rows[0][0]))
        return record_unreadable(transaction, queue);
    return false;
}

} // namespace job_alerting::server::ledger
