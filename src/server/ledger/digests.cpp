#include "server/base/prelude.hpp"

#include "server/ledger/digests.hpp"

#include "server/base/encoding.hpp"

#include "core/retry.hpp"

#include <limits>

namespace job_alerting::server::ledger {

namespace {

core::State state_of(const std::string &text) {
    for (const core::State state :
         {core::State::pending, core::State::sending, core::State::in_doubt, core::State::accepted})
        if (text == core::to_string(state))
            return state;
    throw std::runtime_error("a digest is in the unknown state \"" + text + "\"");
}

// The columns of a DigestRow. $1: channel; $2: the maximum backoff in seconds.
constexpr const char *digest_columns =
    "d.id, d.first_failure, d.last_failure, d.state, d.attempts, coalesce(d.message_id, ''), "
    "coalesce(d.request, ''), coalesce(d.error, ''), "
    "d.http_status IS NOT DISTINCT FROM 429 AS wait_requested, "
    // A time beyond the maximum wait was set before the clock was turned back.
    "coalesce(d.next_attempt_at <= now() OR d.next_attempt_at > now() + make_interval(secs => "
    "CASE d.http_status WHEN 429 THEN 3600 ELSE $2::float8 END), true) AS due, "
    "d.state = 'in_doubt' AND d.held IS NOT NULL AS held, "
    "d.state = 'in_doubt' AND d.first_attempt_at > now() - interval '1 day' AS blocking, "
    "(SELECT count(*) FROM job_alerting.failure f "
    " WHERE f.id BETWEEN d.first_failure AND d.last_failure) AS failures, coalesce(d.note, ''), "
    "NOT EXISTS (SELECT FROM job_alerting.digest later "
    "            WHERE later.channel = d.channel AND later.last_failure > d.last_failure) AS "
    "newest";

std::vector<Value> digest_parameters(const std::string &channel) {
    return {channel, std::to_string(core::max_backoff(static_cast<double>(interval_setting())))};
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
            .wait_requested = flag(row[8]),
            .held = flag(row[10]),
            .blocking = flag(row[11]),
            .newest = flag(row[14]),
            .error = row[7].value(),
            .note = row[13].value(),
            .failures = number(row[12])};
}

// The stretches to compose now. A digest in doubt blocks its channel. An open digest is extended
// only when it is the newest, and only by later failures. $1: channels.
constexpr const char *unreported_now =
    "job_alerting.unreported u WHERE u.channel = ANY ($1::text[]) "
    "AND NOT EXISTS (SELECT FROM job_alerting.digest d WHERE d.channel = u.channel AND "
    "    ((d.state = 'in_doubt' AND d.held IS NULL AND d.first_attempt_at > now() - interval '1 "
    "day') "
    "     OR (d.state = 'pending' AND (u.first_failure < d.first_failure "
    "         OR EXISTS (SELECT FROM job_alerting.digest later "
    "             WHERE later.channel = d.channel AND later.last_failure > d.last_failure)))))";

std::string array_of(const std::vector<ChannelKind> &channels) {
    std::string list = "{";
    for (const ChannelKind channel : channels)
        list += (list.size() > 1 ? "," : "") + std::string(to_string(channel));
    return list + "}";
}

// The original of this copy reports the failures that it had recorded. For a channel without any
// digest these are the standing ones.
void hold_past(Transaction &transaction, const std::vector<ChannelKind> &channels) {
    const char *error = "this database is a copy, and its original may have sent it";
    // A digest that was certainly not accepted may have grown since its last attempt: compose it
    // anew.
    transaction.execute(
        "UPDATE job_alerting.digest SET state = 'in_doubt', held = 'copy', "
        "released_at = NULL, next_attempt_at = NULL, updated_at = now(), error = $1, "
        "request = CASE WHEN state <> 'pending' THEN request END, "
        "message_id = CASE WHEN state <> 'pending' THEN message_id END "
        "WHERE state <> 'accepted'",
        {error});
    transaction.execute("INSERT INTO job_alerting.digest "
                        "(channel, first_failure, last_failure, state, held, error) "
                        "SELECT u.channel, u.first_failure, u.last_failure, 'in_doubt', 'copy', $1 "
                        "FROM job_alerting.unreported u WHERE u.channel = ANY ($2::text[]) "
                        "OR EXISTS (SELECT FROM job_alerting.digest d WHERE d.channel = u.channel)",
                        {error, array_of(channels)});
}

// The former primary may have sent an open digest in the moments that were lost. The digest now has
// other content and needs a new Message-ID: with the old one, a mail system could take it for a
// copy and drop it.
void renew_open(Transaction &transaction) {
    transaction.execute("UPDATE job_alerting.digest SET id = DEFAULT, message_id = NULL, "
                        "first_attempt_at = NULL WHERE state = 'pending'");
}

} // namespace

void doubt_interrupted(Transaction &transaction) {
    transaction.execute(
        "UPDATE job_alerting.digest SET state = 'in_doubt', "
        "released_at = NULL, next_attempt_at = now(), updated_at = now(), http_status = NULL, "
        "error = 'the sender ended before the answer came' "
        "WHERE state = 'sending'");
}

void detect_copy(Transaction &transaction, const Installation &here,
                 const std::vector<ChannelKind> &channels) {
    // A restore creates the table anew, even in the database that the dump was taken from. It adds
    // the dumped row to one that a round may have written meanwhile. Digests without any row come
    // from a dump, too.
    const Result known = transaction.execute(
        "WITH here AS (SELECT $1 || '/' || 'job_alerting.installation'::regclass::oid AS place) "
        "SELECT here.place, "
        "coalesce(bool_or(h.place <> here.place OR h.timeline <= $4::int "
        // A standby is made from a base backup as well, but its promotion changes the timeline.
        "    OR (h.timeline = $2::int AND $3 <> '' AND h.backup <> $3)), "
        "    EXISTS (SELECT FROM job_alerting.digest)), "
        "coalesce(bool_or(h.timeline <> $2::int), false), "
        "count(h.place) = 0 AND EXISTS (SELECT FROM job_alerting.queue) "
        "FROM here LEFT JOIN job_alerting.installation h ON true GROUP BY here.place",
        {here.place, value(here.timeline), here.backup, value(here.recovered)});
    const Row &row = known.rows[0];
    const bool copied = flag(row[1]);
    const bool promoted = flag(row[2]);
    // Only when there is a queue: a restore in progress loads the queues last.
    const bool first = flag(row[3]);
    if (!copied && !promoted && !first)
        return;
    Value arrived_by;
    if (copied) {
        hold_past(transaction, channels);
        arrived_by = "copy";
    } else if (promoted) {
        renew_open(transaction);
        arrived_by = "promotion";
    }
    transaction.execute("DELETE FROM job_alerting.installation");
    transaction.execute(
        "INSERT INTO job_alerting.installation (place, timeline, backup, arrived_by) "
        "VALUES ($1, $2::int, $3, $4)",
        {row[0], value(here.timeline), here.backup, arrived_by});
}

bool can_compose(Transaction &transaction, const std::vector<ChannelKind> &channels) {
    const Result result = transaction.execute(
        (std::string("SELECT EXISTS (SELECT FROM ") + unreported_now + ")").c_str(),
        {array_of(channels)});
    return flag(result.rows[0][0]);
}

bool has_uncomposed(Transaction &transaction, const std::vector<ChannelKind> &channels) {
    const Result result =
        transaction.execute((std::string("SELECT EXISTS (SELECT FROM ") + unreported_now +
                             " AND u.last_failure > (SELECT coalesce(max(d.last_failure), 0) "
                             "                       FROM job_alerting.digest d))")
                                .c_str(),
                            {array_of(channels)});
    return flag(result.rows[0][0]);
}

std::vector<std::string> busy_channels(Transaction &transaction,
                                       const std::vector<ChannelKind> &channels) {
    const Result result = transaction.execute(
        "SELECT d.channel FROM job_alerting.digest d "
        "WHERE d.channel = ANY ($1::text[]) AND d.state <> 'accepted' "
        "UNION SELECT u.channel FROM job_alerting.unreported u WHERE u.channel = ANY ($1::text[])",
        {array_of(channels)});
    std::vector<std::string> busy;
    for (const Row &row : result.rows)
        busy.push_back(row[0].value());
    return busy;
}

bool has_open(Transaction &transaction, const std::vector<ChannelKind> &channels) {
    const Result result =
        transaction.execute("SELECT EXISTS (SELECT FROM job_alerting.digest d "
                            "WHERE d.channel = ANY ($1::text[]) AND d.state <> 'accepted')",
                            {array_of(channels)});
    return flag(result.rows[0][0]);
}

std::optional<DigestRow> open_digest(Transaction &transaction, ChannelKind channel) {
    // A digest before others keeps its stretch.
    transaction.execute(
        "WITH open AS (SELECT d.id, d.last_failure, d.last_failure = "
        "    (SELECT max(n.last_failure) FROM job_alerting.digest n WHERE n.channel = $1) AS "
        "newest "
        "    FROM job_alerting.digest d WHERE d.channel = $1 AND d.state = 'pending'), "
        "extended AS (UPDATE job_alerting.digest d SET last_failure = f.id "
        "    FROM open, (SELECT max(f.id) AS id FROM job_alerting.failure f) f "
        "    WHERE d.id = open.id AND open.newest AND f.id > d.last_failure) "
        "INSERT INTO job_alerting.digest (channel, first_failure, last_failure) "
        "SELECT u.channel, u.first_failure, u.last_failure FROM job_alerting.unreported u "
        "WHERE u.channel = $1 AND NOT EXISTS (SELECT FROM open) ORDER BY u.first_failure LIMIT 1",
        {to_string(channel)});
    const Result result = transaction.execute((std::string("SELECT ") + digest_columns +
                                               " FROM job_alerting.digest d "
                                               "WHERE d.channel = $1 AND d.state = 'pending'")
                                                  .c_str(),
                                              digest_parameters(to_string(channel)));
    if (result.rows.empty())
        return std::nullopt;
    return digest_of(result.rows[0]);
}

void hold_doubtful(Transaction &transaction, ChannelKind channel, bool hold) {
    // The verdict of an operator has precedence, and the setting does not release digests of a
    // copy.
    transaction.execute("UPDATE job_alerting.digest SET held = CASE WHEN $2::bool THEN 'in doubt' "
                        "END WHERE channel = $1 AND state = 'in_doubt' AND released_at IS NULL "
                        "AND held IS DISTINCT FROM 'copy' AND (held IS NOT NULL) <> $2::bool",
                        {to_string(channel), hold ? "t" : "f"});
}

std::vector<DigestRow> doubtful_digests(Transaction &transaction, ChannelKind channel) {
    const Result result =
        transaction.execute((std::string("SELECT ") + digest_columns +
                             " FROM job_alerting.digest d "
                             "WHERE d.channel = $1 AND d.state = 'in_doubt' ORDER BY d.id")
                                .c_str(),
                            digest_parameters(to_string(channel)));
    std::vector<DigestRow> digests;
    for (const Row &row : result.rows)
        digests.push_back(digest_of(row));
    return digests;
}

DigestRow next_digest(Transaction &transaction, const std::string &channel) {
    constexpr std::int64_t end = std::numeric_limits<std::int64_t>::max();
    DigestRow digest;
    const Result open = transaction.execute((std::string("SELECT ") + digest_columns +
                                             " FROM job_alerting.digest d "
                                             "WHERE d.channel = $1 AND d.state = 'pending'")
                                                .c_str(),
                                            digest_parameters(channel));
    if (!open.rows.empty()) {
        digest = digest_of(open.rows[0]);
    } else {
        const Result first = transaction.execute(
            "SELECT u.first_failure, u.last_failure, NOT EXISTS (SELECT FROM job_alerting.digest d "
            "    WHERE d.channel = u.channel AND d.last_failure > u.last_failure) "
            "FROM job_alerting.unreported u WHERE u.channel = $1 ORDER BY u.first_failure LIMIT 1",
            {channel});
        digest.first_failure = end;
        if (!first.rows.empty()) {
            digest.first_failure = number(first.rows[0][0]);
            digest.last_failure = number(first.rows[0][1]);
            digest.newest = flag(first.rows[0][2]);
        }
    }
    if (digest.newest)
        digest.last_failure = end;
    return digest;
}

void drop_digest(Transaction &transaction, const DigestRow &digest) {
    transaction.execute("DELETE FROM job_alerting.digest WHERE id = $1::bigint",
                        {value(digest.id)});
}

bool begin_sending(Transaction &transaction, const DigestRow &digest, const std::string &subject,
                   const std::string &request, const std::string &message_id) {
    return transaction
               .execute("UPDATE job_alerting.digest SET state = 'sending', subject = $2, "
                        "request = $3, message_id = $4, attempts = $5::int, "
                        "note = nullif($6, ''), composed_at = now(), "
                        "first_attempt_at = coalesce(first_attempt_at, now()), "
                        "next_attempt_at = NULL, updated_at = now() "
                        "WHERE id = $1::bigint AND state IN ('pending', 'in_doubt')",
                        {value(digest.id), subject, request, message_id, value(digest.attempts),
                         digest.note})
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
            double wait, bool hold) {
    const bool accepted = outcome.state == core::State::accepted;
    const bool doubted = digest.state == core::State::in_doubt;
    const core::State state = accepted || !doubted ? outcome.state : core::State::in_doubt;
    transaction.execute(
        "UPDATE job_alerting.digest SET state = $3, http_status = nullif($4::int, 0), "
        "provider_id = coalesce(nullif($5, ''), provider_id), error = nullif($6, ''), "
        "request = CASE WHEN $3 = 'accepted' THEN NULL ELSE request END, "
        "next_attempt_at = CASE WHEN $3 <> 'accepted' "
        "                  THEN now() + make_interval(secs => $7::float8) END, "
        // If the request was certainly not handed over, the verdict of an operator is still to be
        // carried out.
        "released_at = CASE WHEN $8 = 'pending' THEN released_at END, "
        "refused = nullif($10, ''), note = nullif(concat_ws('; ', note, nullif($11, '')), ''), "
        "held = CASE WHEN $3 = 'in_doubt' AND $9::bool "
        "       AND ($8 <> 'pending' OR released_at IS NULL) THEN 'in doubt' END, "
        "updated_at = now() "
        "WHERE id = $1::bigint AND state = 'sending' AND attempts = $2::int",
        {value(digest.id), value(digest.attempts), core::to_string(state),
         value(static_cast<std::int64_t>(outcome.http_status)), from_utf8(outcome.provider_id),
         from_utf8(outcome.error), std::to_string(wait), core::to_string(outcome.state),
         hold ? "t" : "f", outcome.refused, core::note_of(outcome)});
}

void prune(Transaction &transaction, const std::vector<ChannelKind> &channels,
           std::int64_t retention) {
    transaction.execute(
        "DELETE FROM job_alerting.failure f "
        "WHERE f.cleared_at < now() - make_interval(secs => $2::float8) "
        "AND NOT EXISTS (SELECT FROM job_alerting.unreported u WHERE u.channel = ANY ($1::text[]) "
        "                AND f.id BETWEEN u.first_failure AND u.last_failure) "
        "AND NOT EXISTS (SELECT FROM job_alerting.digest d WHERE d.channel = ANY ($1::text[]) "
        "                AND d.state <> 'accepted' "
        "                AND f.id BETWEEN d.first_failure AND d.last_failure)",
        {array_of(channels), std::to_string(retention)});
    // The newest digest of a channel stays, because it marks how far the channel has reported.
    transaction.execute(
        "DELETE FROM job_alerting.digest d WHERE d.state = 'accepted' "
        "AND d.updated_at < now() - make_interval(secs => $1::float8) "
        "AND NOT EXISTS (SELECT FROM job_alerting.failure f "
        "                WHERE f.id BETWEEN d.first_failure AND d.last_failure) "
        "AND EXISTS (SELECT FROM job_alerting.digest later WHERE later.channel = d.channel "
        "            AND later.last_failure > d.last_failure)",
        {std::to_string(retention)});
}

std::optional<double> next_due(Transaction &transaction, const std::vector<ChannelKind> &channels) {
    // Failures that wait for a digest in doubt are due when that digest is.
    const Result result = transaction.execute(
        "WITH waiting AS (SELECT d.id, d.channel, d.state, d.next_attempt_at, "
        "    d.state = 'in_doubt' AND d.first_attempt_at > now() - interval '1 day' AS blocking "
        "    FROM job_alerting.digest d WHERE d.channel = ANY ($1::text[]) "
        "    AND (d.state = 'pending' "
        "         OR (d.state = 'in_doubt' AND d.held IS NULL))) "
        "SELECT extract(epoch FROM min(greatest(w.next_attempt_at, now())) - now())::float8 "
        "FROM waiting w WHERE NOT EXISTS (SELECT FROM waiting b WHERE b.channel = w.channel "
        "    AND b.blocking AND (w.state = 'pending' OR b.id < w.id))",
        {array_of(channels)});
    const Value &seconds = result.rows[0][0];
    return seconds ? std::optional(std::stod(*seconds)) : std::nullopt;
}

} // namespace job_alerting::server::ledger
