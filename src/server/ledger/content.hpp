// The content of a digest or preview: the statements that read its failures and the facts for its
// notes. They write nothing. All functions throw what Transaction throws.

#pragma once

#include "server/ledger/digests.hpp"
#include "server/ledger/ledger.hpp"

#include "core/digest.hpp"

namespace job_alerting::server {

// Why rounds run on this server.
struct Arrival {
    bool copied = false; // the database is a copy; otherwise its server was promoted
    std::string since;   // for people
};

// The reason why a digest had to wait.
struct Wait {
    std::int64_t digest = 0; // the digest before it, which was in doubt
    std::string since;       // when the first waiting failure was recorded, for people
};

namespace ledger {

// Calls `take` with every failure of a digest, in the order of the ledger, as UTF-8.
void failures_of(Transaction &transaction, const DigestRow &digest,
                 const std::function<void(const core::Failure &)> &take);

// Scans the queue without recording: calls `take` with every new failure, in the order in which a
// round would record it. Returns the number of failures before the digest that still stand. Call it
// once in a transaction.
std::int64_t look_at(Transaction &transaction, const Queue &queue, int time_limit,
                     const DigestRow &digest,
                     const std::function<void(const core::Failure &)> &take);

// Counts the standing failures that other digests of the channel report.
std::int64_t standing_reported(Transaction &transaction, ChannelKind channel,
                               const DigestRow &digest);

// Counts the failures of the queue before the digest that still stand.
std::int64_t standing_before(Transaction &transaction, const DigestRow &digest,
                             const std::string &queue);

// Returns the last accepted digest of the channel and its time.
std::optional<core::EarlierDigest> last_accepted(Transaction &transaction, ChannelKind channel);

// Counts the failures outside the digest that were cleared after the last accepted digest of the
// channel was composed.
std::int64_t cleared_since(Transaction &transaction, ChannelKind channel, const DigestRow &digest);

// A queue that became readable again, and when.
struct Recovered {
    std::string queue;
    std::string since;
};

// Returns the queues that a digest of the channel reported as unreadable and none has reported as
// readable since.
std::vector<Recovered> recovered_queues(Transaction &transaction, ChannelKind channel,
                                        const DigestRow &digest);

// Calls `take` with the failures before the digest that share queue, source and job type with one
// of its failures: at most `most`, newest first, each with the accepted digest of the channel that
// has it (number 0 for none).
void earlier_failures(
    Transaction &transaction, ChannelKind channel, const DigestRow &digest, std::int64_t most,
    bool of_its_kinds,
    const std::function<void(const core::Failure &, const core::EarlierDigest &)> &take);

// Calls `take` with the first failure of each of these chains, of those before the digest that
// still stand and are in an accepted digest of the channel, and with that digest.
void earlier_breaks(
    Transaction &transaction, ChannelKind channel, const DigestRow &digest,
    const std::vector<std::string> &chains,
    const std::function<void(const core::Failure &, const core::EarlierDigest &)> &take);

// Returns why rounds run here, unless a digest of the channel has been accepted since.
std::optional<Arrival> arrival(Transaction &transaction, ChannelKind channel);

// Returns why this new digest was not begun when its first failure was recorded.
std::optional<Wait> waited(Transaction &transaction, ChannelKind channel, const DigestRow &digest);

std::string database_name(Transaction &transaction);

} // namespace ledger

} // namespace job_alerting::server
