#include "server/prelude.hpp"

#include "server/ledger.hpp"

#include "server/encoding.hpp"
#include "server/failure_query.hpp"
#include "server/scan.hpp"

#include "core/retry.hpp"

#include <limits>

namespace job_alerting::server::ledger {

namespace {

// A time as digests print it, in SQL.
std::string moment_of(const char *time) {
    return std::string("to_char(") + time + ", 'YYYY-MM-DD\"T\"HH24:MI:SSTZH:TZM')";
}

bool flag(const Value &value) {
    return value == "t";
}

core::State state_of(const std::string &text) {
    for (const core::State state :
         {core::State::pending, core::State::sending, core::State::in_doubt, core::State::accepted})
        if (text == core::to_string(state))
            return state;
    throw std::runtime_error("a digest is in the unknown state \"" + text + "\"");
}

// The columns of a DigestRow. $1: channel; $2: the longest backoff, in seconds; $3: whether doubt
// is held.
constexpr const char *digest_columns =
    "d.id, d.first_failure, d.last_failure, d.state, d.attempts, coalesce(d.message_id, ''), "
    "coalesce(d.request, ''), coalesce(d.error, ''), "
    "d.http_status IS NOT DISTINCT FROM 429 AS told_to_wait, "
    // A time beyond the longest wait was set by a clock since put back.
    "coalesce(d.next_attempt_at <= now() OR d.next_attempt_at > now() + make_interval(secs => "
    "CASE d.http_status WHEN 429 THEN 3600 ELSE $2::float8 END), true) AS due, "
    "d.state = 'in_doubt' AND coalesce(d.held, $3::bool) AS held, "
    "d.state = 'in_doubt' AND d.first_attempt_at > now() - interval '1 day' AS blocking, "
    "(SELECT count(*) FROM job_alerting.failure f "
    " WHERE f.id BETWEEN d.first_failure AND d.last_failure) AS failures";

std::vector<Value> digest_parameters(const std::string &channel, bool hold) {
    return {channel, std::to_string(core::longest_backoff(static_cast<double>(interval_setting()))),
            hold ? "t" : "f"};
}

DigestRow digest_of(const Row &row) {
    return {.id = number(row[0]),
            .first_failure = number(row[1]),
            .last_failure = number(row[2]),
            .state = state_of(row[3].value()),
            .attempts = number(row[4]),
            .message_id = row[5].value(),
            .request = row[6].value(),
            .due = flag(row[9]),
            .told_to_wait = flag(row[8]),
            .held = flag(row[10]),
            .blocking = flag(row[11]),
            .error = row[7].value(),
            .failures = number(row[12])};
}

std::optional<std::string> utf8(const Value &value) {
    return value ? std::optional(to_utf8(*value)) : std::nullopt;
}

std::optional<int> small(const Value &value) {
    return value ? std::optional(std::stoi(*value)) : std::nullopt;
}

core::Failure failure_of(const Row &row) {
    core::Failure failure;
    failure.id = number(row[0]);
    failure.queue = to_utf8(row[1].value());
    failure.job_id = to_utf8(row[2].value());
    failure.source = utf8(row[3]);
    failure.job_type = utf8(row[4]);
    failure.target_type = utf8(row[5]);
    failure.target_id = utf8(row[6]);
    failure.status = utf8(row[7]);
    failure.attempts = small(row[8]);
    failure.max_attempts = small(row[9]);
    failure.error = utf8(row[10]);
    if (row[11])
        failure.failed_at = core::Moment{.micros = number(row[11]), .text = row[12].value()};
    failure.chain = utf8(row[13]);
    failure.never_ran = utf8(row[14]);
    failure.cleared = flag(row[15]);
    return failure;
}

std::string array_of(const std::vector<ChannelKind> &channels) {
    std::string list = "{";
    for (const ChannelKind channel : channels)
        list += (list.size() > 1 ? "," : "") + std::string(to_string(channel));
    return list + "}";
}

// The failure of the queue itself, once for each time that it breaks.
bool record_unreadable(Transaction &transaction, const std::string &queue) {
    const Result recorded = transaction.execute(
        "INSERT INTO job_alerting.failure (queue, job_id, occurrence, status, error, failed_at) "
        "SELECT q.name, 'unreadable', "
        "to_char(q.broken_since AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'), 'unreadable', "
        "left(q.last_error, 4000), q.broken_since "
        "FROM job_alerting.queue q WHERE q.name = $1 "
        "ON CONFLICT (queue, job_id, occurrence) DO NOTHING",
        {queue});
    return recorded.touched > 0;
}

// What the original of this copy had recorded but not been seen to tell is its to tell. Through a
// channel that has told nothing, that is what still stands.
void hold_past(Transaction &transaction, const std::vector<ChannelKind> &channels) {
    const char *error = "this database is a copy, and its original may have sent it";
    // What was surely not accepted may have grown since its last try: it is composed anew.
    transaction.execute("UPDATE job_alerting.digest SET state = 'in_doubt', held = true, "
                        "next_attempt_at = NULL, updated_at = now(), error = $1, "
                        "request = CASE WHEN state <> 'pending' THEN request END, "
                        "message_id = CASE WHEN state <> 'pending' THEN message_id END "
                        "WHERE state <> 'accepted'",
                        {error});
    transaction.execute(
        "INSERT INTO job_alerting.digest "
        "(channel, first_failure, last_failure, state, held, error) "
        "SELECT c.channel, min(f.id), max(f.id), 'in_doubt', true, $1 "
        "FROM (SELECT d.channel FROM job_alerting.digest d "
        "      UNION SELECT unnest($2::text[]) COLLATE \"C\") c "
        "CROSS JOIN LATERAL (SELECT max(d.last_failure) AS last FROM job_alerting.digest d "
        "                    WHERE d.channel = c.channel) covered "
        "JOIN job_alerting.failure f ON f.id > coalesce(covered.last, 0) "
        "     AND (covered.last IS NOT NULL OR f.cleared_at IS NULL) GROUP BY c.channel",
        {error, array_of(channels)});
}

// The former primary may have sent an open digest in moments that were lost. What comes now has
// other content, so it comes as another message: under the old one's Message-ID it could be taken
// for a copy, and dropped on its way.
void renew_open(Transaction &transaction) {
    transaction.execute("UPDATE job_alerting.digest SET id = DEFAULT, message_id = NULL, "
                        "first_attempt_at = NULL WHERE state = 'pending'");
}

std::vector<Value> stretch(const DigestRow &digest) {
    return {value(digest.first_failure), value(digest.last_failure)};
}

// What failure_of() reads of a failure f, behind its number, its queue and its job.
#define FAILURE_DETAILS                                                                            \
    "f.source, f.job_type, f.target_type, f.target_id, f.status, f.attempts, f.max_attempts, "     \
    "f.error, " /* The last years of a timestamp are beyond what 64 bits count from 1970. */       \
    "CASE WHEN f.failed_at >= '294247-01-01 00:00:00+00' THEN 9223372036854775807 "                \
    "WHEN f.failed_at = '-infinity' THEN -9223372036854775808 "                                    \
    "ELSE (1000000 * extract(epoch FROM f.failed_at))::bigint END, "                               \
    "CASE WHEN isfinite(f.failed_at) "                                                             \
    "THEN to_char(f.failed_at, 'YYYY-MM-DD\"T\"HH24:MI:SSTZH:TZM' "                                \
    "    || CASE WHEN extract(year FROM f.failed_at) < 0 THEN ' BC' ELSE '' END) "                 \
    "ELSE f.failed_at::text END, "                                                                 \
    "f.chain, f.never_ran"

} // namespace

void doubt_interrupted(Transaction &transaction) {
    transaction.execute("UPDATE job_alerting.digest SET state = 'in_doubt', held = NULL, "
                        "next_attempt_at = now(), updated_at = now(), http_status = NULL, "
                        "error = 'the sender ended before the answer came' "
                        "WHERE state = 'sending'");
}

void move_in(Transaction &transaction, const Home &here, const std::vector<ChannelKind> &channels) {
    // A restored dump makes the table anew, even in the database that it was taken from. It brings
    // its row beside one that a round has written meanwhile; digests without any row are its, too.
    const Result home = transaction.execute(
        "WITH here AS (SELECT $1 || '/' || 'job_alerting.home'::regclass::oid AS place) "
        "SELECT here.place, "
        "coalesce(bool_or(h.place <> here.place OR h.timeline <= $4::int "
        // A standby, too, was made from a base backup; but it has not become what it is without
        // a change of timeline.
        "    OR (h.timeline = $2::int AND $3 <> '' AND h.backup <> $3)), "
        "    EXISTS (SELECT FROM job_alerting.digest)), "
        "coalesce(bool_or(h.timeline <> $2::int), false), "
        "count(h.place) = 0 AND EXISTS (SELECT FROM job_alerting.queue) "
        "FROM here LEFT JOIN job_alerting.home h ON true GROUP BY here.place",
        {here.place, value(here.timeline), here.backup, value(here.recovered)});
    const Row &row = home.rows[0];
    const bool copied = flag(row[1]);
    const bool promoted = flag(row[2]);
    // Not before there is something to watch: a dump that is being restored brings the queues last.
    const bool first = flag(row[3]);
    if (!copied && !promoted && !first)
        return;
    Value came_by;
    if (copied) {
        hold_past(transaction, channels);
        came_by = "copy";
    } else if (promoted) {
        renew_open(transaction);
        came_by = "promotion";
    }
    transaction.execute("DELETE FROM job_alerting.home");
    transaction.execute("INSERT INTO job_alerting.home (place, timeline, backup, came_by) "
                        "VALUES ($1, $2::int, $3, $4)",
                        {row[0], value(here.timeline), here.backup, came_by});
}

std::vector<Queue> queues(Transaction &transaction) {
    // A queue whose scan did not end twice is left alone for as long as it has been broken, at
    // least $1 seconds and at most an hour. A time that lies ahead was set by a clock since put
    // back.
    const Result result = transaction.execute(
        "SELECT q.name, q.failure_query, q.owner, q.since, q.watched_at, "
        "q.broken_since IS NOT NULL, q.scan_started_at IS NOT NULL, "
        "q.scan_started_at IS NULL OR q.broken_since IS NULL "
        "OR q.scan_started_at > clock_timestamp() OR clock_timestamp() >= q.scan_started_at + "
        "least(greatest(q.scan_started_at - q.broken_since, make_interval(secs => $1::float8)), "
        "interval '1 hour') "
        "FROM job_alerting.queue q ORDER BY q.watched_at, q.name",
        {std::to_string(interval_setting())});
    std::vector<Queue> queues;
    for (const Row &row : result.rows)
        queues.push_back({.name = row[0].value(),
                          .failure_query = row[1].value(),
                          .owner = row[2].value(),
                          .since = row[3].value(),
                          .watched_at = row[4].value(),
                          .broken = flag(row[5]),
                          .never_ended = flag(row[6]),
                          .due = flag(row[7])});
    return queues;
}

bool has_broken(Transaction &transaction) {
    return flag(transaction
                    .execute("SELECT EXISTS (SELECT FROM job_alerting.queue q "
                             "WHERE q.broken_since IS NOT NULL)")
                    .rows[0][0]);
}

ScannedQueue scanned(const Queue &queue) {
    return {.name = queue.name.c_str(),
            .failure_query = queue.failure_query.c_str(),
            .owner = queue.owner.c_str(),
            .since = queue.since.c_str()};
}

bool has_uncomposed(Transaction &transaction, const std::vector<ChannelKind> &channels) {
    const Result result = transaction.execute(
        "SELECT EXISTS (SELECT FROM unnest($1::text[]) c(channel) "
        "WHERE (SELECT max(d.last_failure) FROM job_alerting.digest d WHERE d.channel = c.channel) "
        "    < (SELECT max(f.id) FROM job_alerting.failure f) "
        "AND NOT EXISTS (SELECT FROM job_alerting.digest d "
        "                WHERE d.channel = c.channel AND d.state = 'in_doubt' "
        "                AND d.held IS NOT TRUE))",
        {array_of(channels)});
    return flag(result.rows[0][0]);
}

bool has_open(Transaction &transaction, const std::vector<ChannelKind> &channels) {
    const Result result =
        transaction.execute("SELECT EXISTS (SELECT FROM job_alerting.digest d "
                            "WHERE d.channel = ANY ($1::text[]) AND d.state <> 'accepted')",
                            {array_of(channels)});
    return flag(result.rows[0][0]);
}

ScanBegin begin_scan(Transaction &transaction, const Queue &queue, bool wait) {
    // What reads a table by an index, and then writes to it, deadlocks with REINDEX.
    transaction.execute("LOCK TABLE job_alerting.queue IN ROW EXCLUSIVE MODE");
    const std::vector<Value> itself = {queue.name, queue.watched_at};
    const std::string row = "FROM job_alerting.queue q "
                            "WHERE q.name = $1 AND q.watched_at = $2::timestamptz";
    const std::string lock = "SELECT " + row + " FOR UPDATE";
    if (transaction.execute((lock + (wait ? "" : " SKIP LOCKED")).c_str(), itself).touched == 0)
        return transaction.execute(("SELECT " + row).c_str(), itself).touched > 0 ? ScanBegin::held
                                                                                  : ScanBegin::gone;
    transaction.execute("UPDATE job_alerting.queue SET scan_started_at = clock_timestamp() "
                        "WHERE name = $1",
                        {queue.name});
    return ScanBegin::begun;
}

bool scan(Transaction &transaction, const Queue &queue, int time_limit) {
    const ScannedQueue itself = scanned(queue);
    transaction.run([&] { record_failures(itself, time_limit); });
    return transaction
               .execute("UPDATE job_alerting.queue SET last_scan_at = clock_timestamp(), "
                        "last_scan_ms = 1000 * extract(epoch FROM clock_timestamp() - "
                        "scan_started_at)::float8, scan_started_at = NULL, last_error = NULL, "
                        "broken_since = NULL WHERE name = $1 AND watched_at = $2::timestamptz",
                        {queue.name, queue.watched_at})
               .touched > 0;
}

bool break_queue(Transaction &transaction, const std::string &queue, const std::string &error,
                 bool certain) {
    const Result before = transaction.execute(
        "UPDATE job_alerting.queue q SET scan_started_at = NULL, last_error = left($2, 4000), "
        "broken_since = coalesce(q.broken_since, clock_timestamp()) "
        "FROM job_alerting.queue before WHERE q.name = $1 AND before.name = q.name "
        "RETURNING before.broken_since IS NOT NULL",
        {queue, error});
    const bool watched = !before.rows.empty();
    if (watched && (certain || flag(before.rows[0][0])))
        return record_unreadable(transaction, queue);
    return false;
}

bool break_unended(Transaction &transaction, const std::string &queue) {
    // The same scan is found unended by every round until the next one: it counts once.
    const Result before = transaction.execute(
        "UPDATE job_alerting.queue q SET last_error = e.error, "
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

std::optional<DigestRow> open_digest(Transaction &transaction, ChannelKind channel) {
    // A channel's first digest begins at the oldest failure that still stands.
    transaction.execute(
        "WITH covered AS (SELECT max(d.last_failure) AS id FROM job_alerting.digest d "
        "                 WHERE d.channel = $1), "
        "newest AS (SELECT max(f.id) AS id FROM job_alerting.failure f), "
        "extended AS (UPDATE job_alerting.digest d SET last_failure = newest.id "
        "             FROM newest WHERE d.channel = $1 AND d.state = 'pending' "
        "             AND newest.id > d.last_failure) "
        "INSERT INTO job_alerting.digest (channel, first_failure, last_failure) "
        "SELECT $1, oldest.id, newest.id FROM newest, covered, "
        "LATERAL (SELECT f.id FROM job_alerting.failure f WHERE f.id > coalesce(covered.id, 0) "
        "         AND (covered.id IS NOT NULL OR f.cleared_at IS NULL) "
        "         ORDER BY f.id LIMIT 1) oldest "
        "WHERE NOT EXISTS (SELECT FROM job_alerting.digest d "
        "      WHERE d.channel = $1 AND d.state = 'pending')",
        {to_string(channel)});
    const Result result = transaction.execute((std::string("SELECT ") + digest_columns +
                                               " FROM job_alerting.digest d "
                                               "WHERE d.channel = $1 AND d.state = 'pending'")
                                                  .c_str(),
                                              digest_parameters(to_string(channel), false));
    if (result.rows.empty())
        return std::nullopt;
    return digest_of(result.rows[0]);
}

std::vector<DigestRow> doubtful_digests(Transaction &transaction, ChannelKind channel, bool hold) {
    const Result result =
        transaction.execute((std::string("SELECT ") + digest_columns +
                             " FROM job_alerting.digest d "
                             "WHERE d.channel = $1 AND d.state = 'in_doubt' ORDER BY d.id")
                                .c_str(),
                            digest_parameters(to_string(channel), hold));
    std::vector<DigestRow> digests;
    for (const Row &row : result.rows)
        digests.push_back(digest_of(row));
    return digests;
}

void failures_of(Transaction &transaction, const DigestRow &digest,
                 const std::function<void(const core::Failure &)> &take) {
    transaction.stream(
        "SELECT f.id, f.queue, f.job_id, " FAILURE_DETAILS ", f.cleared_at IS NOT NULL "
        "FROM job_alerting.failure f WHERE f.id BETWEEN $1::bigint AND $2::bigint ORDER BY f.id",
        stretch(digest), [&](const Row &row) { take(failure_of(row)); });
}

DigestRow next_digest(Transaction &transaction, const std::string &channel) {
    DigestRow digest;
    const Result open = transaction.execute((std::string("SELECT ") + digest_columns +
                                             " FROM job_alerting.digest d "
                                             "WHERE d.channel = $1 AND d.state = 'pending'")
                                                .c_str(),
                                            digest_parameters(channel, false));
    if (!open.rows.empty()) {
        digest = digest_of(open.rows[0]);
    } else {
        const Result first =
            transaction.execute("SELECT coalesce(min(f.id), 9223372036854775807) "
                                "FROM (SELECT max(d.last_failure) AS id FROM job_alerting.digest d "
                                "      WHERE d.channel = $1) covered, job_alerting.failure f "
                                "WHERE f.id > coalesce(covered.id, 0) "
                                "AND (covered.id IS NOT NULL OR f.cleared_at IS NULL)",
                                {channel});
        digest.first_failure = number(first.rows[0][0]);
    }
    digest.last_failure = std::numeric_limits<std::int64_t>::max();
    return digest;
}

std::int64_t look_at(Transaction &transaction, const Queue &queue, int time_limit,
                     const DigestRow &digest,
                     const std::function<void(const core::Failure &)> &take) {
    const ScannedQueue itself = scanned(queue);
    bool some_cleared = false;
    transaction.run([&] { some_cleared = find_failures(itself, time_limit); });
    transaction.stream("SELECT 0, $1, f.job_id, " FAILURE_DETAILS ", false"
                       // As the ledger would have them: each once.
                       " FROM (SELECT DISTINCT ON (n.job_id, n.occurrence) n.* FROM found n) f "
                       "ORDER BY f.failed_at, f.job_id",
                       {queue.name}, [&](const Row &row) { take(failure_of(row)); });
    const std::string stands =
        some_cleared
            ? std::string("EXISTS (SELECT FROM standing s WHERE s.key = ") + ledger_key + ")"
            : "f.cleared_at IS NULL";
    const Result standing = transaction.execute(("SELECT count(*) FROM job_alerting.failure f "
                                                 "WHERE f.queue = $1 AND f.id < $2::bigint AND " +
                                                 stands)
                                                    .c_str(),
                                                {queue.name, value(digest.first_failure)});
    return number(standing.rows[0][0]);
}

std::int64_t standing_before(Transaction &transaction, const DigestRow &digest) {
    const Result result = transaction.execute("SELECT count(*) FROM job_alerting.failure f "
                                              "WHERE f.id < $1::bigint AND f.cleared_at IS NULL",
                                              {value(digest.first_failure)});
    return number(result.rows[0][0]);
}

std::int64_t standing_before(Transaction &transaction, const DigestRow &digest,
                             const std::string &queue) {
    const Result result =
        transaction.execute("SELECT count(*) FROM job_alerting.failure f "
                            "WHERE f.id < $1::bigint AND f.cleared_at IS NULL AND f.queue = $2",
                            {value(digest.first_failure), queue});
    return number(result.rows[0][0]);
}

std::optional<core::Report> last_accepted(Transaction &transaction, ChannelKind channel) {
    const Result result = transaction.execute(
        (std::string("SELECT d.id, ") + moment_of("d.updated_at") +
         " FROM job_alerting.digest d WHERE d.channel = $1 AND d.state = 'accepted' "
         "ORDER BY d.updated_at DESC, d.id DESC LIMIT 1")
            .c_str(),
        {to_string(channel)});
    if (result.rows.empty())
        return std::nullopt;
    return core::Report{.digest = number(result.rows[0][0]), .when = result.rows[0][1].value()};
}

std::int64_t cleared_since(Transaction &transaction, ChannelKind channel, const DigestRow &digest) {
    const Result result = transaction.execute(
        "SELECT count(*) FROM job_alerting.failure f WHERE f.id < $1::bigint AND f.cleared_at > "
        "(SELECT max(d.composed_at) FROM job_alerting.digest d "
        " WHERE d.channel = $2 AND d.state = 'accepted')",
        {value(digest.first_failure), to_string(channel)});
    return number(result.rows[0][0]);
}

void earlier_failures(
    Transaction &transaction, ChannelKind channel, const DigestRow &digest, std::int64_t most,
    bool of_its_kinds,
    const std::function<void(const core::Failure &, const core::Report &)> &take) {
    // Those of no accepted digest are read as well, since they count towards the limit.
    std::vector<Value> parameters = stretch(digest);
    parameters.insert(parameters.end(),
                      {to_string(channel), value(most), of_its_kinds ? "t" : "f"});
    transaction.stream(
        (std::string("SELECT f.queue, f.job_id, f.source, f.job_type, f.status, f.error, d.id, ") +
         moment_of("d.updated_at") +
         " FROM (SELECT e.* FROM job_alerting.failure e WHERE e.id < $1::bigint "
         "      AND (NOT $5::bool OR (e.queue, coalesce(e.source, ''), coalesce(e.job_type, '')) "
         "IN ("
         "          SELECT n.queue, coalesce(n.source, ''), coalesce(n.job_type, '') "
         "          FROM job_alerting.failure n WHERE n.id BETWEEN $1::bigint AND $2::bigint)) "
         "      ORDER BY e.id DESC LIMIT $4::bigint) f "
         "LEFT JOIN LATERAL (SELECT c.* FROM job_alerting.digest c "
         "    WHERE c.channel = $3 AND c.last_failure >= f.id "
         "    ORDER BY c.last_failure LIMIT 1) d "
         "ON d.first_failure <= f.id AND d.state = 'accepted' ORDER BY f.id DESC")
            .c_str(),
        parameters, [&](const Row &row) {
            core::Failure failure;
            failure.queue = to_utf8(row[0].value());
            failure.job_id = to_utf8(row[1].value());
            failure.source = utf8(row[2]);
            failure.job_type = utf8(row[3]);
            failure.status = utf8(row[4]);
            failure.error = utf8(row[5]);
            if (row[6])
                take(failure, {.digest = number(row[6]), .when = row[7].value()});
            else
                take(failure, {});
        });
}

void earlier_breaks(Transaction &transaction, ChannelKind channel, const DigestRow &digest,
                    const std::vector<std::string> &chains,
                    const std::function<void(const core::Failure &, const core::Report &)> &take) {
    std::string names; // they are cleaned, so none has a line break in it
    for (const std::string &chain : chains)
        names += (names.empty() ? "" : "\n") + chain;
    transaction.stream(
        (std::string("SELECT DISTINCT ON (f.chain) f.id, f.queue, f.job_id, " FAILURE_DETAILS
                     ", false, d.id, ") +
         moment_of("d.updated_at") +
         " FROM job_alerting.failure f JOIN job_alerting.digest d "
         "ON d.channel = $2 AND d.state = 'accepted' "
         "AND f.id BETWEEN d.first_failure AND d.last_failure "
         "WHERE f.chain = ANY (string_to_array($3, E'\n')) AND f.id < $1::bigint "
         "AND f.cleared_at IS NULL "
         "ORDER BY f.chain, f.failed_at, f.id")
            .c_str(),
        {value(digest.first_failure), to_string(channel), from_utf8(names)}, [&](const Row &row) {
            take(failure_of(row), {.digest = number(row[16]), .when = row[17].value()});
        });
}

std::optional<Arrival> arrival(Transaction &transaction, ChannelKind channel) {
    const Result result = transaction.execute(
        "SELECT h.came_by = 'copy', to_char(h.since, 'YYYY-MM-DD\"T\"HH24:MI:SSTZH:TZM') "
        "FROM job_alerting.home h WHERE h.came_by IS NOT NULL "
        "AND NOT EXISTS (SELECT FROM job_alerting.digest d WHERE d.channel = $1 "
        "                AND d.state = 'accepted' AND d.first_attempt_at >= h.since)",
        {to_string(channel)});
    if (result.rows.empty())
        return std::nullopt;
    return Arrival{.copied = flag(result.rows[0][0]), .since = result.rows[0][1].value()};
}

std::optional<Wait> waited(Transaction &transaction, ChannelKind channel, const DigestRow &digest) {
    // Five minutes: a round itself may take some.
    const Result result = transaction.execute(
        "SELECT before.id, to_char(f.recorded_at, 'YYYY-MM-DD\"T\"HH24:MI:SSTZH:TZM') "
        "FROM (SELECT d.id, d.updated_at FROM job_alerting.digest d "
        "      WHERE d.channel = $1 AND d.id < $2::bigint ORDER BY d.id DESC LIMIT 1) before, "
        "job_alerting.failure f WHERE f.id = $3::bigint "
        "AND f.recorded_at < least(before.updated_at, now() - interval '5 minutes')",
        {to_string(channel),
         value(digest.id > 0 ? digest.id : std::numeric_limits<std::int64_t>::max()),
         value(digest.first_failure)});
    if (result.rows.empty())
        return std::nullopt;
    return Wait{.digest = number(result.rows[0][0]), .since = result.rows[0][1].value()};
}

std::string database_name(Transaction &transaction) {
    return transaction.execute("SELECT current_database()").rows[0][0].value();
}

void drop_digest(Transaction &transaction, const DigestRow &digest) {
    transaction.execute("DELETE FROM job_alerting.digest WHERE id = $1::bigint",
                        {value(digest.id)});
}

bool begin_sending(Transaction &transaction, const DigestRow &digest, const std::string &subject,
                   const std::string &request, const std::string &message_id) {
    return transaction
               .execute("UPDATE job_alerting.digest SET state = 'sending', subject = $2, "
                        "request = $3, message_id = $4, attempts = $5::int, composed_at = now(), "
                        "first_attempt_at = coalesce(first_attempt_at, now()), "
                        "next_attempt_at = NULL, updated_at = now() "
                        "WHERE id = $1::bigint AND state IN ('pending', 'in_doubt')",
                        {value(digest.id), subject, request, message_id, value(digest.attempts)})
               .touched > 0;
}

bool begin_resending(Transaction &transaction, DigestRow &digest) {
    digest.attempts++;
    return transaction
               .execute("UPDATE job_alerting.digest SET state = 'sending', attempts = $2::int, "
                        "next_attempt_at = NULL, updated_at = now() "
                        "WHERE id = $1::bigint AND state = 'in_doubt'",
                        {value(digest.id), value(digest.attempts)})
               .touched > 0;
}

void settle(Transaction &transaction, const DigestRow &digest, const core::Outcome &outcome,
            double wait) {
    const bool accepted = outcome.state == core::State::accepted;
    const bool doubted = digest.state == core::State::in_doubt;
    const core::State state = accepted || !doubted ? outcome.state : core::State::in_doubt;
    transaction.execute(
        "UPDATE job_alerting.digest SET state = $3, http_status = nullif($4::int, 0), "
        "provider_id = coalesce(nullif($5, ''), provider_id), error = nullif($6, ''), "
        "request = CASE WHEN $3 = 'accepted' THEN NULL ELSE request END, "
        "next_attempt_at = CASE WHEN $3 <> 'accepted' "
        "                  THEN now() + make_interval(secs => $7::float8) END, "
        // What was surely not handed over leaves an operator's verdict to be carried out.
        "held = CASE WHEN $8 = 'pending' THEN held END, updated_at = now() "
        "WHERE id = $1::bigint AND state = 'sending' AND attempts = $2::int",
        {value(digest.id), value(digest.attempts), core::to_string(state),
         value(static_cast<std::int64_t>(outcome.http_status)), from_utf8(outcome.provider_id),
         from_utf8(outcome.error), std::to_string(wait), core::to_string(outcome.state)});
}

void prune(Transaction &transaction, const std::vector<ChannelKind> &channels,
           std::int64_t retention) {
    transaction.execute(
        "DELETE FROM job_alerting.failure f "
        "WHERE f.cleared_at < now() - make_interval(secs => $2::float8) "
        "AND NOT EXISTS (SELECT FROM unnest($1::text[]) c(channel) "
        "    WHERE f.id > coalesce((SELECT max(d.last_failure) FROM job_alerting.digest d "
        "                           WHERE d.channel = c.channel), 0) "
        "    OR EXISTS (SELECT FROM job_alerting.digest d WHERE d.channel = c.channel "
        "               AND d.state <> 'accepted' "
        "               AND f.id BETWEEN d.first_failure AND d.last_failure))",
        {array_of(channels), std::to_string(retention)});
    // The newest digest of a channel stays: it says how far the channel has come.
    transaction.execute(
        "DELETE FROM job_alerting.digest d WHERE d.state = 'accepted' "
        "AND d.updated_at < now() - make_interval(secs => $1::float8) "
        "AND NOT EXISTS (SELECT FROM job_alerting.failure f "
        "                WHERE f.id BETWEEN d.first_failure AND d.last_failure) "
        "AND EXISTS (SELECT FROM job_alerting.digest later WHERE later.channel = d.channel "
        "            AND later.last_failure > d.last_failure)",
        {std::to_string(retention)});
}

std::optional<double> next_due(Transaction &transaction, const std::vector<ChannelKind> &channels,
                               bool hold) {
    // What waits behind a digest in doubt is due when that is.
    const Result result = transaction.execute(
        "WITH waiting AS (SELECT d.id, d.channel, d.state, d.next_attempt_at, "
        "    d.state = 'in_doubt' AND d.first_attempt_at > now() - interval '1 day' AS blocking "
        "    FROM job_alerting.digest d WHERE d.channel = ANY ($1::text[]) "
        "    AND (d.state = 'pending' "
        "         OR (d.state = 'in_doubt' AND NOT coalesce(d.held, $2::bool)))) "
        "SELECT extract(epoch FROM min(greatest(w.next_attempt_at, now())) - now())::float8 "
        "FROM waiting w WHERE NOT EXISTS (SELECT FROM waiting b WHERE b.channel = w.channel "
        "    AND b.blocking AND (w.state = 'pending' OR b.id < w.id))",
        {array_of(channels), hold ? "t" : "f"});
    const Value &seconds = result.rows[0][0];
    return seconds ? std::optional(std::stod(*seconds)) : std::nullopt;
}

} // namespace job_alerting::server::ledger
