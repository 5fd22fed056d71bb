#include "server/base/prelude.hpp"

#include "server/ledger/content.hpp"

#include "server/base/encoding.hpp"
#include "server/queue/failure_query.hpp"

#include "core/lines.hpp"

#include <limits>

namespace job_alerting::server::ledger {

namespace {

// The format in which digests print a time, for to_char().
#define AS_MOMENT "'YYYY-MM-DD\"T\"HH24:MI:SSTZH:TZM'"

std::optional<std::string> utf8(const Value &value) {
    return value ? std::optional(to_utf8(*value)) : std::nullopt;
}

std::optional<int> small(const Value &value) {
    return value ? std::optional(std::stoi(*value)) : std::nullopt;
}

std::vector<std::string> steps_of(const std::optional<std::string> &never_ran) {
    const std::string text = never_ran.value_or("");
    const auto steps = core::lines_of(text);
    return {steps.begin(), steps.end()};
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
    failure.never_ran = steps_of(utf8(row[14]));
    failure.cleared = flag(row[15]);
    return failure;
}

std::vector<Value> stretch(const DigestRow &digest) {
    return {value(digest.first_failure), value(digest.last_failure)};
}

// The columns of a failure f that failure_of() reads, after its number, queue and job.
#define FAILURE_DETAILS                                                                            \
    "f.source, f.job_type, f.target_type, f.target_id, f.status, f.attempts, f.max_attempts, "     \
    "f.error, " /* The last years of a timestamp are beyond what 64 bits count from 1970. */       \
    "CASE WHEN f.failed_at >= '294247-01-01 00:00:00+00' THEN 9223372036854775807 "                \
    "WHEN f.failed_at = '-infinity' THEN -9223372036854775808 "                                    \
    "ELSE (1000000 * extract(epoch FROM f.failed_at))::bigint END, "                               \
    "CASE WHEN isfinite(f.failed_at) "                                                             \
    "THEN to_char(f.failed_at, " AS_MOMENT                                                         \
    "    || CASE WHEN extract(year FROM f.failed_at) < 0 THEN ' BC' ELSE '' END) "                 \
    "ELSE f.failed_at::text END, "                                                                 \
    "f.chain, " /* A step a line; a line break within a step is a space. */                        \
    "array_to_string(translate(f.never_ran::text, E'\\n', ' ')::text[], E'\\n')"

// The kind of a failure as a number. Two kinds may have the same number.
#define KIND(f)                                                                                    \
    "hashtextextended(coalesce(" f ".job_type, ''), hashtextextended(coalesce(" f ".source, ''), " \
    "hashtextextended(" f ".queue, 0)))"

// Returns the kinds of the failures of a digest as a comma list; nothing when there are too many.
std::optional<std::string> kinds_of(Transaction &transaction, const DigestRow &digest) {
    constexpr std::int64_t most = 100000;
    std::vector<Value> parameters = stretch(digest);
    parameters.push_back(value(most));
    const Result kinds = transaction.execute(
        "SELECT CASE WHEN count(*) <= $3::bigint THEN string_agg(k.kind::text, ',') END "
        "FROM (SELECT DISTINCT " KIND("n") " AS kind FROM job_alerting.failure n "
                                           "      WHERE n.id BETWEEN $1::bigint AND $2::bigint) k",
        parameters);
    return kinds.rows[0][0];
}

} // namespace

void failures_of(Transaction &transaction, const DigestRow &digest,
                 const std::function<void(const core::Failure &)> &take) {
    transaction.stream(
        "SELECT f.id, f.queue, f.job_id, " FAILURE_DETAILS ", f.cleared_at IS NOT NULL "
        "FROM job_alerting.failure f WHERE f.id BETWEEN $1::bigint AND $2::bigint ORDER BY f.id",
        stretch(digest), [&](const Row &row) { take(failure_of(row)); });
}

std::int64_t look_at(Transaction &transaction, const Queue &queue, int time_limit,
                     const DigestRow &digest,
                     const std::function<void(const core::Failure &)> &take) {
    const ScannedQueue itself = scanned(queue);
    Change change = {};
    read_queue(transaction, [&] { change = find_failures(itself, time_limit); });
    // Both the found failures and the ledger may be large.
    transaction.execute("SET LOCAL enable_nestloop = off");
    transaction.stream(
        (std::string("SELECT 0, $1, f.job_id, " FAILURE_DETAILS ", false "
                     // Each failure once, as in the ledger.
                     "FROM (SELECT DISTINCT ON (s.job_id, s.occurrence) s.*, "
                     "      n.never_ran FROM found s "
                     "      LEFT JOIN steps n ON n.chain = s.chain WHERE NOT EXISTS ("
                     "          SELECT FROM job_alerting.failure f "
                     "          WHERE f.queue = $1 AND ") +
         same_failure + ")) f ORDER BY f.failed_at, f.job_id")
            .c_str(),
        {queue.name}, [&](const Row &row) { take(failure_of(row)); });
    const std::string stands =
        change.some_cleared
            ? std::string("EXISTS (SELECT FROM standing s WHERE ") + same_failure + ")"
            : "f.cleared_at IS NULL";
    const Result standing = transaction.execute(("SELECT count(*) FROM job_alerting.failure f "
                                                 "WHERE f.queue = $1 AND f.id < $2::bigint AND " +
                                                 stands)
                                                    .c_str(),
                                                {queue.name, value(digest.first_failure)});
    transaction.run([&] { forget(change); });
    return number(standing.rows[0][0]);
}

std::int64_t standing_reported(Transaction &transaction, ChannelKind channel,
                               const DigestRow &digest) {
    // Every standing failure is in this digest, in another one of the channel, or unreported.
    const Result result = transaction.execute(
        "SELECT (SELECT count(*) FROM job_alerting.failure f WHERE f.cleared_at IS NULL) "
        "- (SELECT count(*) FROM job_alerting.failure f WHERE f.cleared_at IS NULL "
        "   AND f.id BETWEEN $1::bigint AND $2::bigint) "
        "- (SELECT count(*) FROM job_alerting.unreported u JOIN job_alerting.failure f "
        "   ON f.id BETWEEN u.first_failure AND u.last_failure "
        "   WHERE u.channel = $3 AND f.cleared_at IS NULL)",
        {value(digest.first_failure), value(digest.last_failure), to_string(channel)});
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

std::optional<core::EarlierDigest> last_accepted(Transaction &transaction, ChannelKind channel) {
    const Result result = transaction.execute(
        "SELECT d.id, to_char(d.updated_at, " AS_MOMENT ") "
        "FROM job_alerting.digest d WHERE d.channel = $1 AND d.state = 'accepted' "
        "ORDER BY d.updated_at DESC, d.id DESC LIMIT 1",
        {to_string(channel)});
    if (result.rows.empty())
        return std::nullopt;
    return core::EarlierDigest{.digest = number(result.rows[0][0]),
                               .when = result.rows[0][1].value()};
}

std::int64_t cleared_since(Transaction &transaction, ChannelKind channel, const DigestRow &digest) {
    const Result result = transaction.execute(
        "SELECT count(*) FROM job_alerting.failure f "
        "WHERE f.id NOT BETWEEN $1::bigint AND $2::bigint AND f.cleared_at > "
        "(SELECT max(d.composed_at) FROM job_alerting.digest d "
        " WHERE d.channel = $3 AND d.state = 'accepted')",
        {value(digest.first_failure), value(digest.last_failure), to_string(channel)});
    return number(result.rows[0][0]);
}

std::vector<Recovered> recovered_queues(Transaction &transaction, ChannelKind channel,
                                        const DigestRow &digest) {
    const Result result = transaction.execute(
        "SELECT f.queue, to_char(max(f.cleared_at), " AS_MOMENT ") "
        "FROM job_alerting.failure f JOIN job_alerting.queue q ON q.name = f.queue "
        "WHERE f.id < $1::bigint AND f.job_id = 'unreadable' AND f.status = 'unreadable' "
        "AND q.broken_since IS NULL AND f.cleared_at > "
        "(SELECT max(d.composed_at) FROM job_alerting.digest d "
        " WHERE d.channel = $2 AND d.state = 'accepted') GROUP BY f.queue ORDER BY f.queue",
        {value(digest.first_failure), to_string(channel)});
    std::vector<Recovered> queues;
    for (const Row &row : result.rows)
        queues.push_back({.queue = to_utf8(row[0].value()), .since = row[1].value()});
    return queues;
}

void earlier_failures(
    Transaction &transaction, ChannelKind channel, const DigestRow &digest, std::int64_t most,
    bool of_its_kinds,
    const std::function<void(const core::Failure &, const core::EarlierDigest &)> &take) {
    const std::optional<std::string> kinds =
        of_its_kinds ? kinds_of(transaction, digest) : std::nullopt;
    // Reads from the newest failure backwards and probes a hash table, so that neither many kinds
    // nor many failures make it slow. Failures without an accepted digest are read too, because
    // they count towards the limit.
    transaction.stream(
        "SELECT f.queue, f.job_id, f.source, f.job_type, f.status, f.error, d.id, "
        "to_char(d.updated_at, " AS_MOMENT ") "
        "FROM (SELECT e.* FROM job_alerting.failure e WHERE e.id < $1::bigint "
        "      AND ($3 IS NULL OR " KIND(
            "e") " = ANY (string_to_array($3, ',')::bigint[])) "
                 "      ORDER BY e.id DESC LIMIT $4::bigint) f "
                 "LEFT JOIN LATERAL (SELECT c.* FROM job_alerting.digest c "
                 "    WHERE c.channel = $2 AND c.last_failure >= f.id "
                 "    ORDER BY c.last_failure LIMIT 1) d "
                 "ON d.first_failure <= f.id AND d.state = 'accepted' ORDER BY f.id DESC",
        {value(digest.first_failure), to_string(channel), kinds, value(most)}, [&](const Row &row) {
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

void earlier_breaks(
    Transaction &transaction, ChannelKind channel, const DigestRow &digest,
    const std::vector<std::string> &chains,
    const std::function<void(const core::Failure &, const core::EarlierDigest &)> &take) {
    std::string names; // names are cleaned, so they contain no line break
    for (const std::string &chain : chains)
        names += (names.empty() ? "" : "\n") + chain;
    transaction.stream(
        "SELECT DISTINCT ON (f.chain) f.id, f.queue, f.job_id, " FAILURE_DETAILS
        ", false, d.id, to_char(d.updated_at, " AS_MOMENT ") "
        "FROM job_alerting.failure f JOIN LATERAL (SELECT c.* FROM job_alerting.digest c "
        "    WHERE c.channel = $2 AND c.last_failure >= f.id "
        "    ORDER BY c.last_failure LIMIT 1) d "
        "ON d.first_failure <= f.id AND d.state = 'accepted' "
        "WHERE f.chain = ANY (string_to_array($3, E'\\n')) AND f.id < $1::bigint "
        "AND f.cleared_at IS NULL "
        "ORDER BY f.chain, f.failed_at, f.id",
        {value(digest.first_failure), to_string(channel), from_utf8(names)}, [&](const Row &row) {
            take(failure_of(row), {.digest = number(row[16]), .when = row[17].value()});
        });
}

std::optional<Arrival> arrival(Transaction &transaction, ChannelKind channel) {
    const Result result = transaction.execute(
        "SELECT h.arrived_by = 'copy', to_char(h.since, " AS_MOMENT ") "
        "FROM job_alerting.installation h WHERE h.arrived_by IS NOT NULL "
        "AND NOT EXISTS (SELECT FROM job_alerting.digest d WHERE d.channel = $1 "
        "                AND d.state = 'accepted' AND d.first_attempt_at >= h.since)",
        {to_string(channel)});
    if (result.rows.empty())
        return std::nullopt;
    return Arrival{.copied = flag(result.rows[0][0]), .since = result.rows[0][1].value()};
}

std::optional<Wait> waited(Transaction &transaction, ChannelKind channel, const DigestRow &digest) {
    // A round itself may take up to five minutes. A failure did not wait for a digest that was
    // composed after it.
    const Result result = transaction.execute(
        "SELECT before.id, to_char(f.recorded_at, " AS_MOMENT ") "
        "FROM (SELECT d.id, d.composed_at, d.updated_at FROM job_alerting.digest d "
        "      WHERE d.channel = $1 AND d.id < $2::bigint ORDER BY d.id DESC LIMIT 1) before, "
        "job_alerting.failure f WHERE f.id = $3::bigint AND f.recorded_at > before.composed_at "
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

} // namespace job_alerting::server::ledger
