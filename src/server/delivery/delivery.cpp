#include "server/base/prelude.hpp"

#include "server/delivery/delivery.hpp"

#include "server/base/encoding.hpp"
#include "server/base/run_with_timeout.hpp"
#include "server/coordination/shared.hpp"
#include "server/delivery/channel.hpp"
#include "server/ledger/content.hpp"
#include "server/ledger/digests.hpp"

#include "core/digest.hpp"
#include "core/headline.hpp"
#include "core/history.hpp"
#include "core/notes.hpp"
#include "core/retry.hpp"

#include <csignal>

extern "C" {
#include "common/pg_prng.h"
}

namespace job_alerting::server {

namespace {

constexpr std::int64_t max_history = 10000; // earlier failures that are compared with new ones
constexpr int max_history_wait = 5000;      // ms that this comparison may take
constexpr int settle_slice = 5000; // ms that an attempt to commit an answer waits for a lock
constexpr long settle_pause = 100; // ms between two attempts

// Blocks cancellation and termination while it is in scope. A server error resets the holdoff
// count, so the destructor restores the count instead of decrementing it.
class HeldInterrupts {
public:
    HeldInterrupts() { InterruptHoldoffCount = before_ + 1; }
    HeldInterrupts(const HeldInterrupts &) = delete;
    HeldInterrupts &operator=(const HeldInterrupts &) = delete;
    ~HeldInterrupts() { InterruptHoldoffCount = before_; }

private:
    const uint32 before_ = InterruptHoldoffCount;
};

// Defers termination of the process while it is in scope, including a pending request. Unlike with
// held interrupts, lock_timeout still works.
class DeferredEnd {
public:
    DeferredEnd() {
        sigset_t end;
        sigemptyset(&end);
        sigaddset(&end, SIGTERM);
        sigprocmask(SIG_BLOCK, &end, &before_);
        pending_ = ProcDiePending != 0;
        ProcDiePending = 0;
    }
    DeferredEnd(const DeferredEnd &) = delete;
    DeferredEnd &operator=(const DeferredEnd &) = delete;
    ~DeferredEnd() {
        if (pending_) {
            ProcDiePending = 1;
            InterruptPending = 1;
        }
        sigprocmask(SIG_SETMASK, &before_, nullptr);
    }

private:
    sigset_t before_;
    bool pending_;
};

class Delivery {
public:
    Delivery(const Settings &settings, bool by_hand, ChannelReport &report)
        : settings_(settings), by_hand_(by_hand), report_(report) {}

    void run();

private:
    bool resend_in_doubt();
    void resend(DigestRow &digest);
    core::State deliver(const DigestRow &digest);
    core::State send_minimal(const DigestRow &refused, const core::Outcome &refusal);
    std::optional<DigestRow> compose(const core::Outcome *refusal = nullptr,
                                     std::int64_t refused = 0);
    bool begin(Transaction &transaction, DigestRow &digest, const core::Outcome *refusal = nullptr);
    core::Digest gather(Transaction &transaction, const DigestRow &digest) const;
    core::Outcome send(const DigestRow &digest);
    void settle(const DigestRow &digest, const core::Outcome &outcome);
    bool try_to_settle(const DigestRow &digest, const core::Outcome &outcome) const;
    void pause_to_settle(const DigestRow &digest) const;

    bool is_due(const DigestRow &digest) const;
    double wait_after(const DigestRow &digest, const core::Outcome &outcome) const;
    void report(const DigestRow &digest, core::State state, const std::string &detail);

    const Settings &settings_;
    const bool by_hand_;
    ChannelReport &report_;
};

void Delivery::run() {
    if (!resend_in_doubt())
        return;
    // Stop at the first digest that is not accepted; the next one would probably fail as well.
    while (const std::optional<DigestRow> digest = compose())
        if (deliver(*digest) != core::State::accepted)
            return;
}

core::State Delivery::deliver(const DigestRow &digest) {
    const core::Outcome outcome = send(digest);
    settle(digest, outcome);
    return outcome.content_refused ? send_minimal(digest, outcome) : outcome.state;
}

// Returns false if newer digests must wait because one is still in doubt.
bool Delivery::resend_in_doubt() {
    std::vector<DigestRow> digests;
    {
        Transaction transaction(lock_timeout_setting());
        ledger::hold_doubtful(transaction, report_.channel, settings_.hold_in_doubt);
        digests = ledger::doubtful_digests(transaction, report_.channel);
        std::erase_if(digests, [&](const DigestRow &digest) {
            const bool empty = !digest.held && digest.request.empty() && digest.failures == 0;
            if (empty)
                ledger::drop_digest(transaction, digest);
            return empty;
        });
        transaction.commit();
    }
    for (DigestRow &digest : digests) {
        report(digest, core::State::in_doubt, digest.error);
        if (digest.held)
            continue;
        if (is_due(digest))
            resend(digest);
        if (digest.state == core::State::in_doubt && digest.blocking)
            return false;
    }
    return true;
}

void Delivery::resend(DigestRow &digest) {
    {
        Transaction transaction(lock_timeout_setting());
        // In a copy of a database, a digest can be in doubt without a stored request.
        const bool begun = digest.request.empty() ? begin(transaction, digest)
                                                  : ledger::begin_resending(transaction, digest);
        transaction.commit();
        if (!begun)
            return;
    }
    const core::Outcome outcome = send(digest);
    settle(digest, outcome);
    if (outcome.state == core::State::accepted)
        digest.state = core::State::accepted;
}

// Sends a digest that was rejected, perhaps because of its content, in its minimal form: counts
// without any job text.
core::State Delivery::send_minimal(const DigestRow &refused, const core::Outcome &refusal) {
    const std::optional<DigestRow> digest = compose(&refusal, refused.id);
    if (!digest)
        return refusal.state;
    const core::Outcome outcome = send(*digest);
    settle(*digest, outcome);
    if (outcome.state == core::State::accepted)
        warn("digest " + std::to_string(digest->id) + ": " + digest->note);
    return outcome.state;
}

// Composes the open digest and commits it as `sending`. Returns nullopt if there is none or it is
// not due. After a rejection, composes the minimal form of that digest at once, unless its failures
// were deleted meanwhile.
std::optional<DigestRow> Delivery::compose(const core::Outcome *refusal, std::int64_t refused) {
    Transaction transaction(lock_timeout_setting());
    std::optional<DigestRow> digest = ledger::open_digest(transaction, report_.channel);
    while (digest && digest->failures == 0) {
        ledger::drop_digest(transaction, *digest);
        digest = ledger::open_digest(transaction, report_.channel);
    }
    if (digest && refusal && digest->id != refused)
        digest.reset();
    if (digest) {
        report(*digest, core::State::pending, digest->error);
        if ((!refusal && !is_due(*digest)) || !begin(transaction, *digest, refusal))
            digest.reset();
    }
    transaction.commit();
    return digest;
}

// Renders the digest and sets its state to `sending`. If a setting is missing or invalid, records a
// failed attempt instead. Returns whether the digest must be sent.
bool Delivery::begin(Transaction &transaction, DigestRow &digest, const core::Outcome *refusal) {
    core::Digest content = gather(transaction, digest);
    if (refusal)
        content = core::minimal(std::move(content));
    for (const std::string &note : digest_notes(transaction, report_.channel, digest, refusal))
        content.notes.push_back(note);
    // Keep the note of an operator's verdict, but not the note on the form of an earlier attempt.
    if (digest.state != core::State::in_doubt)
        digest.note = refusal ? "sent in its minimal form only, after " + refusal->error : "";
    if (!refusal) // the minimal form belongs to the same attempt
        digest.attempts++;
    try {
        const Message message = channel_of(report_.channel).message(content, digest, settings_);
        digest.request = message.request;
        digest.message_id = message.message_id;
        return ledger::begin_sending(transaction, digest, message.subject, message.request,
                                     message.message_id);
    } catch (const CannotSend &why) {
        const core::Outcome outcome = core::not_sent(why.what());
        ledger::begin_sending(transaction, digest, from_utf8(core::subject(content)), "",
                              digest.message_id);
        ledger::settle(transaction, digest, outcome, wait_after(digest, outcome),
                       settings_.hold_in_doubt);
        report(digest, core::State::pending, outcome.error);
        return false;
    }
}

core::Digest Delivery::gather(Transaction &transaction, const DigestRow &digest) const {
    core::DigestBuilder builder(settings_.max_listed);
    ledger::failures_of(transaction, digest,
                        [&](const core::Failure &failure) { builder.add(failure); });
    core::Digest content = builder.finish();
    content.id = digest.id;
    content.database = to_utf8(ledger::database_name(transaction));
    content.cluster = to_utf8(cluster_name ? cluster_name : "");
    content.standing = ledger::standing_reported(transaction, report_.channel, digest);
    content.previous = ledger::last_accepted(transaction, report_.channel);
    content.cleared = ledger::cleared_since(transaction, report_.channel, digest);
    mark_causes(transaction, report_.channel, digest, true, content);
    return content;
}

// No transaction is open while the request is sent.
core::Outcome Delivery::send(const DigestRow &digest) {
    guarded([&] {
        shared::set_deadline(MyDatabaseId, settings_.http_timeout);
        pgstat_report_activity(STATE_RUNNING, psprintf("sending digest %lld through %s",
                                                       static_cast<long long>(digest.id),
                                                       to_string(report_.channel)));
    });
    const core::Outcome outcome = hand_over(
        report_.channel,
        {.subject = "", .request = digest.request, .message_id = digest.message_id}, settings_);
    guarded([] { shared::set_deadline(MyDatabaseId, 0); });
    return outcome;
}

// Commits the answer, retrying without limit, because a lost answer causes a second mail. The
// process can be terminated only between two attempts.
void Delivery::settle(const DigestRow &digest, const core::Outcome &outcome) {
    guarded([] { shared::set_settling(MyDatabaseId, true); });
    while (!try_to_settle(digest, outcome))
        pause_to_settle(digest);
    guarded([] { shared::set_settling(MyDatabaseId, false); });
    const bool accepted = outcome.state == core::State::accepted;
    const std::string refused = core::note_of(outcome);
    const std::string both = digest.note.empty() || refused.empty() ? "" : "; ";
    report(digest, outcome.state, accepted ? digest.note + both + refused : outcome.error);
    if (!refused.empty())
        warn("digest " + std::to_string(digest.id) + ": " + refused);
    if (!accepted)
        warn("digest " + std::to_string(digest.id) + " was not accepted by " +
             to_string(report_.channel) + ": " + outcome.error);
}

bool Delivery::try_to_settle(const DigestRow &digest, const core::Outcome &outcome) const {
    const DeferredEnd deferred;
    try {
        Transaction transaction(settle_slice);
        ledger::settle(transaction, digest, outcome, wait_after(digest, outcome),
                       settings_.hold_in_doubt);
        transaction.commit();
        return true;
    } catch (const ServerError &error) {
        const HeldInterrupts held;
        warn("job_alerting cannot settle digest " + std::to_string(digest.id) +
             " yet: " + error.words());
        return false;
    }
}

bool Delivery::is_due(const DigestRow &digest) const {
    return digest.due || (by_hand_ && !digest.wait_requested);
}

double Delivery::wait_after(const DigestRow &digest, const core::Outcome &outcome) const {
    return core::backoff(digest.attempts, static_cast<double>(settings_.interval),
                         pg_prng_double(&pg_global_prng_state), outcome.wait);
}

// Adds or replaces the outcome of a digest.
void Delivery::report(const DigestRow &digest, core::State state, const std::string &detail) {
    // A digest in doubt stays in doubt until it is accepted.
    const bool in_doubt = digest.state == core::State::in_doubt && state != core::State::accepted;
    const DigestReport latest = {.digest_id = digest.id,
                                 .failures = digest.failures,
                                 .state = in_doubt ? core::State::in_doubt : state,
                                 .detail = detail};
    for (DigestReport &before : report_.digests)
        if (before.digest_id == digest.id) {
            before = latest;
            return;
        }
    report_.digests.push_back(latest);
}

// Waits before the next attempt. Processes a termination request, but ignores cancellation.
void Delivery::pause_to_settle(const DigestRow &digest) const {
    guarded([&] {
        WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, settle_pause,
                  PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        QueryCancelPending = false;
        if (ProcDiePending)
            ereport(WARNING, (errmsg("job_alerting worker was terminated before it could store "
                                     "the answer to digest %lld",
                                     static_cast<long long>(digest.id)),
                              errdetail("The digest is in doubt.")));
        CHECK_FOR_INTERRUPTS();
    });
}

} // namespace

void mark_causes(Transaction &transaction, ChannelKind channel, const DigestRow &row, bool recorded,
                 core::Digest &digest) {
    core::History history(digest);
    std::int64_t taken = 0;
    const int limit = std::min(max_history_wait, scan_timeout_setting());
    const bool complete = run_with_timeout(limit, [&] {
        ledger::earlier_failures(
            transaction, channel, row, max_history, recorded,
            [&](const core::Failure &failure, const core::EarlierDigest &report) {
                ++taken;
                if (report.digest > 0)
                    history.take(failure, report);
            });
    });
    // If this digest is not the newest, a later one may have reported the same cause.
    const bool marked = history.finish(row.newest && complete && taken < max_history);
    const std::vector<std::string> chains = history.chains();
    const bool chains_complete = chains.empty() || run_with_timeout(limit, [&] {
                                     ledger::earlier_breaks(transaction, channel, row, chains,
                                                            [&](const core::Failure &failure,
                                                                const core::EarlierDigest &report) {
                                                                history.take_break(failure, report);
                                                            });
                                 });
    if (!complete || !chains_complete)
        digest.notes.push_back(core::unfinished_note());
    else if (!marked)
        digest.notes.push_back(core::unmarked_note());
}

std::vector<std::string> digest_notes(Transaction &transaction, ChannelKind channel,
                                      const DigestRow &digest, const core::Outcome *refusal) {
    std::vector<std::string> notes;
    if (refusal)
        notes.push_back(core::minimal_note(refusal->error));
    else if (digest.attempts > 0)
        notes.push_back(core::late_note(digest.attempts, to_utf8(digest.error)));
    else if (const auto wait = ledger::waited(transaction, channel, digest))
        notes.push_back(core::waited_note(wait->digest, wait->since));
    if (const auto arrival = ledger::arrival(transaction, channel))
        notes.push_back(arrival->copied ? core::copy_note(arrival->since)
                                        : core::promotion_note(arrival->since));
    for (const ledger::Recovered &recovered :
         ledger::recovered_queues(transaction, channel, digest))
        notes.push_back(core::recovered_note(recovered.queue, recovered.since));
    for (const DigestRow &doubtful : ledger::doubtful_digests(transaction, channel))
        if (doubtful.id != digest.id)
            notes.push_back(
                core::doubt_note(doubtful.id, doubtful.failures, to_utf8(doubtful.error)));
    return notes;
}

void deliver(const Settings &settings, bool by_hand, ChannelReport &report) {
    Delivery(settings, by_hand, report).run();
}

} // namespace job_alerting::server
