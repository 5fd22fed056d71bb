// Delivery: composes, sends and settles the digests of one channel.

#pragma once

#include "server/base/problems.hpp"
#include "server/base/settings.hpp"
#include "server/ledger/digests.hpp"

#include "core/digest.hpp"

namespace job_alerting::server {

// The outcome of a digest that was tried or is waiting.
struct DigestReport {
    std::int64_t digest_id;
    std::int64_t failures;
    core::State state;
    std::string detail; // may be empty
};

// The outcomes of one channel. Without any digest the channel is silent.
struct ChannelReport {
    explicit ChannelReport(ChannelKind kind) : channel(kind) {}

    ChannelKind channel;
    std::vector<DigestReport> digests;
    Problems problems;   // other problems of the channel
    bool failed = false; // an error ended the delivery
};

// Composes, sends and settles the waiting digests of a channel, and adds their outcomes to
// `report`. Digests in doubt come first; as long as one of them is to be sent again, no newer
// digest is sent.
void deliver(const Settings &settings, bool by_hand, ChannelReport &report);

// Marks each cause in a digest as new or as reported before; a cause that cannot be decided from
// the newest failures gets no mark. Also marks the chains that were reported as broken before and
// still are. `recorded` is true if all failures of the digest are in the ledger. If reading the
// ledger takes too long, the digest is sent without marks and with a note.
void mark_causes(Transaction &transaction, ChannelKind channel, const DigestRow &row, bool recorded,
                 core::Digest &digest);

// The notes of a digest. `refusal` is set if the digest is sent in its minimal form because the
// provider rejected the full one.
std::vector<std::string> digest_notes(Transaction &transaction, ChannelKind channel,
                                      const DigestRow &digest, const core::Outcome *refusal);

} // namespace job_alerting::server
