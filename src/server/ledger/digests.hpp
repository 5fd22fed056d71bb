// The digests of each channel, from being opened to being forgotten: the statements by which a
// round composes, sends and settles them. All functions throw what Transaction throws.

#pragma once

#include "server/base/settings.hpp"
#include "server/base/transaction.hpp"
#include "server/ledger/installation.hpp"

#include "core/outcome.hpp"

namespace job_alerting::server {

// One digest, as its row has it.
struct DigestRow {
    std::int64_t id = 0;
    std::int64_t first_failure = 0;
    std::int64_t last_failure = 0;
    core::State state = core::State::pending;
    std::int64_t attempts = 0;
    std::string message_id;    // empty before the first try
    std::string request;       // empty before the first try
    bool due = true;           // false while its next try is to be waited for
    bool told_to_wait = false; // it was the provider who asked for the wait
    bool held = false;         // in doubt, and not sent again until an operator says so
    bool blocking = false;     // in doubt, and first tried less than a day ago
    bool newest = true;        // no digest of the channel tells later failures
    std::string error;
    std::string note;          // that it was sent in its minimal form, and why; verdicts
    std::int64_t failures = 0; // how many of its failures the ledger holds
};

namespace ledger {

// What a round finds on its way, its sender has died over: it is in doubt, and due at once.
void doubt_interrupted(Transaction &transaction);

// Notes where this database lives. In a copy of another, all that was not accepted, or not even
// composed, is from then on in doubt and held: nobody here knows what the original makes of it.
// Comes after queues(), or a round could record before anything is noted.
void detect_copy(Transaction &transaction, const Installation &here,
                 const std::vector<ChannelKind> &channels);

// Whether a channel has something to tell that nothing keeps back.
bool can_compose(Transaction &transaction, const std::vector<ChannelKind> &channels);

// Whether a round recorded failures but did not get as far as composing them for any channel: such
// that nothing keeps back, and no channel has told.
bool has_uncomposed(Transaction &transaction, const std::vector<ChannelKind> &channels);

// Those of the channels that have a digest which is not accepted, or something in none.
std::vector<std::string> busy_channels(Transaction &transaction,
                                       const std::vector<ChannelKind> &channels);

// Whether some digest of theirs is not accepted.
bool has_open(Transaction &transaction, const std::vector<ChannelKind> &channels);

// The open digest of a channel, extended to the newest failure unless others tell later ones; or a
// new one, of the oldest stretch that the channel has still to tell; nothing when there is none.
std::optional<DigestRow> open_digest(Transaction &transaction, ChannelKind channel);

// Holds the digests of a channel that are in doubt, or lets them go, as the setting wants it now.
void hold_doubtful(Transaction &transaction, ChannelKind channel, bool hold);

// The digests of a channel that are in doubt, oldest first.
std::vector<DigestRow> doubtful_digests(Transaction &transaction, ChannelKind channel);

// What open_digest() would give, without writing anything; one without a number where no digest is
// open yet. The newest ends with the ledger.
DigestRow next_digest(Transaction &transaction, const std::string &channel);

// Drops a digest that is to be composed and whose failures are all gone from the ledger.
void drop_digest(Transaction &transaction, const DigestRow &digest);

// The digest is about to be handed over, for the `attempts`-th time. Returns false when it is no
// longer to be sent: an operator has settled it meanwhile.
bool begin_sending(Transaction &transaction, const DigestRow &digest, const std::string &subject,
                   const std::string &request, const std::string &message_id);

// The same for a digest in doubt, whose request is sent as it is.
bool begin_resending(Transaction &transaction, DigestRow &digest);

// What came of the try. A digest that was in doubt before it stays so unless it is accepted: nobody
// knows what became of the earlier copy. `wait`: seconds to the next try; `hold`:
// what comes in doubt is held.
void settle(Transaction &transaction, const DigestRow &digest, const core::Outcome &outcome,
            double wait, bool hold);

// Forgets failures that are cleared, reported on every channel and older than the retention, and
// digests of which nothing is left.
void prune(Transaction &transaction, const std::vector<ChannelKind> &channels,
           std::int64_t retention);

// Seconds until a digest of these channels is due again; nothing when none is waiting.
std::optional<double> next_due(Transaction &transaction, const std::vector<ChannelKind> &channels);

} // namespace ledger

} // namespace job_alerting::server
