// The digests of each channel: the statements by which a round opens, composes, sends, settles and
// prunes them. All functions throw what Transaction throws.

#pragma once

#include "server/base/settings.hpp"
#include "server/base/transaction.hpp"
#include "server/ledger/installation.hpp"

#include "core/outcome.hpp"

namespace job_alerting::server {

// One row of the table digest.
struct DigestRow {
    std::int64_t id = 0;
    std::int64_t first_failure = 0;
    std::int64_t last_failure = 0;
    core::State state = core::State::pending;
    std::int64_t attempts = 0;
    std::string message_id;      // empty before the first attempt
    std::string request;         // empty before the first attempt
    bool due = true;             // false before the time of the next attempt
    bool wait_requested = false; // the provider requested the wait
    bool held = false;           // in doubt, and not sent again until an operator settles it
    bool blocking = false;       // in doubt, and first tried within the last day
    bool newest = true;          // no digest of the channel has later failures
    std::string error;
    std::string note;          // remarks: minimal form and its reason, verdicts
    std::int64_t failures = 0; // number of its failures that the ledger still has
};

namespace ledger {

// A digest found in state `sending` lost its sender: marks it in doubt and due now.
void doubt_interrupted(Transaction &transaction);

// Stores the identity of this database. In a copy, holds everything that was not accepted or not
// yet composed as in doubt, because the original may send it. Call it after queues(); otherwise a
// round could record failures before the identity is stored.
void detect_copy(Transaction &transaction, const Installation &here,
                 const std::vector<ChannelKind> &channels);

// Whether a channel has failures to report and nothing blocks them.
bool can_compose(Transaction &transaction, const std::vector<ChannelKind> &channels);

// Whether a round recorded failures but ended before it composed them for any channel: failures
// that nothing blocks and no channel has reported.
bool has_uncomposed(Transaction &transaction, const std::vector<ChannelKind> &channels);

// Returns the channels that have an unaccepted digest or unreported failures.
std::vector<std::string> busy_channels(Transaction &transaction,
                                       const std::vector<ChannelKind> &channels);

// Whether any digest of these channels is not accepted.
bool has_open(Transaction &transaction, const std::vector<ChannelKind> &channels);

// Returns the open digest of a channel, extended to the newest failure unless another digest has
// later ones; else a new digest of the oldest unreported stretch; nothing when there is none.
std::optional<DigestRow> open_digest(Transaction &transaction, ChannelKind channel);

// Holds or releases the digests of a channel that are in doubt, according to on_in_doubt.
void hold_doubtful(Transaction &transaction, ChannelKind channel, bool hold);

// The digests of a channel that are in doubt, oldest first.
std::vector<DigestRow> doubtful_digests(Transaction &transaction, ChannelKind channel);

// Returns the result of open_digest() without writing anything; without a number when no digest is
// open. The newest digest extends to the end of the ledger.
DigestRow next_digest(Transaction &transaction, const std::string &channel);

// Deletes a digest that was not composed yet and whose failures are no longer in the ledger.
void drop_digest(Transaction &transaction, const DigestRow &digest);

// Marks the digest as `sending`, before its `attempts`-th attempt. Returns false when an operator
// has settled it meanwhile, so that it must not be sent.
bool begin_sending(Transaction &transaction, const DigestRow &digest, const std::string &subject,
                   const std::string &request, const std::string &message_id);

// The same for a digest in doubt, whose stored request is sent unchanged.
bool begin_resending(Transaction &transaction, DigestRow &digest);

// Records the outcome of an attempt. A digest that was in doubt before stays in doubt unless it is
// accepted, because the fate of the earlier copy is unknown. `wait`: seconds until the next
// attempt; `hold`: hold a digest that becomes in doubt.
void settle(Transaction &transaction, const DigestRow &digest, const core::Outcome &outcome,
            double wait, bool hold);

// Deletes failures that are cleared, reported through every channel and older than `retention`
// (seconds), and digests without failures.
void prune(Transaction &transaction, const std::vector<ChannelKind> &channels,
           std::int64_t retention);

// Returns the seconds until a digest of these channels is due; nothing when none waits.
std::optional<double> next_due(Transaction &transaction, const std::vector<ChannelKind> &channels);

} // namespace ledger

} // namespace job_alerting::server
