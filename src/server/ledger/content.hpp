// What a digest tells: the statements that read its failures, or those that a preview would find,
// and what its reader must know besides. They write nothing. All functions throw what Transaction
// throws.

#pragma once

#include "server/ledger/digests.hpp"
#include "server/ledger/ledger.hpp"

#include "core/digest.hpp"

namespace job_alerting::server {

// How rounds came to run where they do now.
struct Arrival {
    bool copied = false; // the database is a copy; otherwise its server was promoted
    std::string since;   // for people
};

// What a digest had to wait for.
struct Wait {
    std::int64_t digest = 0; // the one before it, which was in doubt
    std::string since;       // for people: when the first failure that waits was recorded
};

namespace ledger {

// Gives every failure of a digest to `take`, in the order of the ledger, as UTF-8.
void failures_of(Transaction &transaction, const DigestRow &digest,
                 const std::function<void(const core::Failure &)> &take);

// What a scan of the queue now would find: gives every new failure to `take`, in the order in which
// it would be recorded. Returns how many failures from before the digest stand now. Writes nothing;
// once in a transaction.
std::int64_t look_at(Transaction &transaction, const Queue &queue, int time_limit,
                     const DigestRow &digest,
                     const std::function<void(const core::Failure &)> &take);

// How many failures that other digests of the channel tell still stand.
std::int64_t standing_told(Transaction &transaction, ChannelKind channel, const DigestRow &digest);

// How many failures of the queue from before the digest still stand.
std::int64_t standing_before(Transaction &transaction, const DigestRow &digest,
                             const std::string &queue);

// The last digest of the channel that was accepted, and when.
std::optional<core::EarlierDigest> last_accepted(Transaction &transaction, ChannelKind channel);

// How many failures that are not in the digest were cleared since the channel's last accepted one
// was composed.
std::int64_t cleared_since(Transaction &transaction, ChannelKind channel, const DigestRow &digest);

// A queue that can be read again, and since when.
struct Mended {
    std::string queue;
    std::string since;
};

// Those of which an earlier digest of the channel says that they cannot be read, and of which none
// has said yet that they can.
std::vector<Mended> mended_queues(Transaction &transaction, ChannelKind channel,
                                  const DigestRow &digest);

// Gives to `take` the newest failures from before the digest, `most` of them, the newest first,
// that have queue, source and job type in common with one of the digest's, and the accepted digest
// of the channel that each was in; its number is 0 where there is none.
void earlier_failures(
    Transaction &transaction, ChannelKind channel, const DigestRow &digest, std::int64_t most,
    bool of_its_kinds,
    const std::function<void(const core::Failure &, const core::EarlierDigest &)> &take);

// Gives to `take` of each of these chains the failure that came first, of those from before the
// digest that still stand and are in an accepted digest of the channel; and that digest.
void earlier_breaks(
    Transaction &transaction, ChannelKind channel, const DigestRow &digest,
    const std::vector<std::string> &chains,
    const std::function<void(const core::Failure &, const core::EarlierDigest &)> &take);

// How rounds came to run here, when no digest of the channel has been accepted since.
std::optional<Arrival> arrival(Transaction &transaction, ChannelKind channel);

// What kept this digest, a new one, from being begun when its first failure was recorded.
std::optional<Wait> waited(Transaction &transaction, ChannelKind channel, const DigestRow &digest);

std::string database_name(Transaction &transaction);

} // namespace ledger

} // namespace job_alerting::server
