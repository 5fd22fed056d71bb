// The tables of the extension, in C++: every SQL statement of a round but those of a scan.
// All functions throw what Transaction throws.

#pragma once

#include "server/home.hpp"
#include "server/scan.hpp"
#include "server/settings.hpp"
#include "server/transaction.hpp"

#include "core/digest.hpp"
#include "core/outcome.hpp"

namespace job_alerting::server {

struct Queue {
    std::string name;
    std::string failure_query;
    std::string owner;
    std::string since;
    std::string watched_at;   // tells it from one that is later watched under the same name
    bool broken = false;      // its last scan failed
    bool never_ended = false; // its last scan did not end: nobody else is scanning, so it died
    bool due = true;          // false while such a queue is left alone
};

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
    std::string error;
    std::int64_t failures = 0; // how many of its failures the ledger holds
};

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

// What a round finds on its way, its sender has died over: it is in doubt, and due at once.
void doubt_interrupted(Transaction &transaction);

// Notes where this database lives. In a copy of another, all that was not accepted, or not even
// composed, is from then on in doubt and held: nobody here knows what the original makes of it.
// Comes after queues(), or a round could record before anything is noted.
void move_in(Transaction &transaction, const Home &here, const std::vector<ChannelKind> &channels);

// All queues, those first that have been watched longest: whoever comes later, or changes what he
// has, cannot get before them.
std::vector<Queue> queues(Transaction &transaction);

// Whether any queue is known not to be readable.
bool has_broken(Transaction &transaction);

// The same as C code takes it; it lives no longer than the queue.
ScannedQueue scanned(const Queue &queue);

// Whether a round recorded failures but did not get as far as composing them. Not when something in
// doubt keeps them back.
bool has_uncomposed(Transaction &transaction, const std::vector<ChannelKind> &channels);

// Whether some digest of theirs is not accepted.
bool has_open(Transaction &transaction, const std::vector<ChannelKind> &channels);

enum class ScanBegin {
    begun,
    gone, // the queue is no longer watched so
    held, // somebody holds its own row: an open transaction that called watch(), say
};

// Waits for somebody who holds the queue's row only when it is told to.
ScanBegin begin_scan(Transaction &transaction, const Queue &queue, bool wait);

// Runs and records a scan. Returns false when the queue is no longer watched so; what was found
// must then be rolled back.
bool scan(Transaction &transaction, const Queue &queue, int time_limit);

// The queue cannot be read, which is recorded as a failure of its own, once for each breakage:
// at once when it is `certain`, and otherwise when the scan before this one failed as well. Returns
// whether it was recorded.
bool break_queue(Transaction &transaction, const std::string &queue, const std::string &error,
                 bool certain);

// The same for a queue whose last scan never ended; not certain. Later, when its row is held.
bool break_unended(Transaction &transaction, const std::string &queue);

// The open digest of a channel, extended to the newest failure, or a new one when there are
// failures that no digest of the channel has; nothing when there are none.
std::optional<DigestRow> open_digest(Transaction &transaction, ChannelKind channel);

// The digests of a channel that are in doubt, oldest first.
std::vector<DigestRow> doubtful_digests(Transaction &transaction, ChannelKind channel, bool hold);

// Gives every failure of a digest to `take`, in the order of the ledger, as UTF-8.
void failures_of(Transaction &transaction, const DigestRow &digest,
                 const std::function<void(const core::Failure &)> &take);

// What open_digest() would give, without writing anything; one without a number where no digest is
// open yet. It ends with the ledger.
DigestRow next_digest(Transaction &transaction, const std::string &channel);

// What a scan of the queue now would find: gives every new failure to `take`, in the order in which
// it would be recorded. Returns how many failures from before the digest stand now. Writes nothing;
// once in a transaction.
std::int64_t look_at(Transaction &transaction, const Queue &queue, int time_limit,
                     const DigestRow &digest,
                     const std::function<void(const core::Failure &)> &take);

// How many failures from before the digest still stand.
std::int64_t standing_before(Transaction &transaction, const DigestRow &digest);
std::int64_t standing_before(Transaction &transaction, const DigestRow &digest,
                             const std::string &queue);

// The last digest of the channel that was accepted, and when.
std::optional<core::Report> last_accepted(Transaction &transaction, ChannelKind channel);

// How many failures from before the digest were cleared since the channel's last
// accepted one was composed.
std::int64_t cleared_since(Transaction &transaction, ChannelKind channel, const DigestRow &digest);

// Gives to `take` the newest failures from before the digest, `most` of them, the newest first,
// that have queue, source and job type in common with one of the digest's, and the accepted digest
// of the channel that each was in; its number is 0 where there is none.
void earlier_failures(Transaction &transaction, ChannelKind channel, const DigestRow &digest,
                      std::int64_t most, bool of_its_kinds,
                      const std::function<void(const core::Failure &, const core::Report &)> &take);

// Gives to `take` of each of these chains the failure that came first, of those from before the
// digest that still stand and are in an accepted digest of the channel; and that digest.
void earlier_breaks(Transaction &transaction, ChannelKind channel, const DigestRow &digest,
                    const std::vector<std::string> &chains,
                    const std::function<void(const core::Failure &, const core::Report &)> &take);

// How rounds came to run here, when no digest of the channel has been accepted since.
std::optional<Arrival> arrival(Transaction &transaction, ChannelKind channel);

// What kept this digest, a new one, from being begun when its first failure was recorded.
std::optional<Wait> waited(Transaction &transaction, ChannelKind channel, const DigestRow &digest);

std::string database_name(Transaction &transaction);

// Drops an open digest whose failures are all gone from the ledger.
void drop_digest(Transaction &transaction, const DigestRow &digest);

// The digest is about to be handed over, for the `attempts`-th time. Returns false when it is no
// longer to be sent: an operator has settled it meanwhile.
bool begin_sending(Transaction &transaction, const DigestRow &digest, const std::string &subject,
                   const std::string &request, const std::string &message_id);

// The same for a digest in doubt, whose request is sent as it is.
bool begin_resending(Transaction &transaction, DigestRow &digest);

// What came of the try. A digest that was in doubt before it stays so unless it is accepted: nobody
// knows what became of the earlier copy. `wait`: seconds to the next try.
void settle(Transaction &transaction, const DigestRow &digest, const core::Outcome &outcome,
            double wait);

// Forgets failures that are cleared, reported on every channel and older than the retention, and
// digests of which nothing is left.
void prune(Transaction &transaction, const std::vector<ChannelKind> &channels,
           std::int64_t retention);

// Seconds until a digest of these channels is due again; nothing when none is waiting.
std::optional<double> next_due(Transaction &transaction, const std::vector<ChannelKind> &channels,
                               bool hold);

} // namespace ledger

} // namespace job_alerting::server
