// The rest of a round: what the ledger holds, through one channel, to its receivers.

#pragma once

#include "server/base/problems.hpp"
#include "server/base/settings.hpp"
#include "server/ledger/digests.hpp"

#include "core/digest.hpp"

namespace job_alerting::server {

// The outcome of a digest that was tried, or waits.
struct DigestReport {
    std::int64_t digest_id;
    std::int64_t failures;
    core::State state;
    std::string detail; // empty when there is nothing to say
};

// The outcomes of one channel; without any digest it is silent.
struct ChannelReport {
    explicit ChannelReport(ChannelKind kind) : channel(kind) {}

    ChannelKind channel;
    std::vector<DigestReport> digests;
    Problems problems;   // what is wrong beside them
    bool failed = false; // an error kept it from its end
};

// Composes, sends and settles what this channel has waiting, and tells in `report` what came of
// it. Digests in doubt go first, and as long as one of them is re-sent nothing newer follows.
void deliver(const Settings &settings, bool by_hand, ChannelReport &report);

// Marks the causes of a digest that were told before, and those that are new. Where the newest
// failures do not tell, a cause is marked neither as new nor as known. Also says which of its
// chains broke before, and are so still by what the last round saw. `recorded`: all its failures
// are in the ledger. Over a ledger that takes too long to read, the digest goes without, and a note
// says so.
void mark_known(Transaction &transaction, ChannelKind channel, const DigestRow &row, bool recorded,
                core::Digest &digest);

// What else the reader of a digest must know; `refusal`: why it is sent in its minimal form, if it
// is.
std::vector<std::string> notes_on(Transaction &transaction, ChannelKind channel,
                                  const DigestRow &digest, const core::Outcome *refusal);

} // namespace job_alerting::server
