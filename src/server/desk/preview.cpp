#include "server/base/prelude.hpp"

#include "server/desk/preview.hpp"

#include "server/base/encoding.hpp"
#include "server/coordination/call.hpp"
#include "server/delivery/delivery.hpp"
#include "server/ledger/content.hpp"
#include "server/ledger/digests.hpp"
#include "server/ledger/ledger.hpp"
#include "server/queue/sandbox.hpp"
#include "server/round/round.hpp"

#include "core/digest.hpp"
#include "core/render.hpp"

extern "C" {
PG_FUNCTION_INFO_V1(job_alerting_preview);
}

namespace job_alerting::server {

namespace {

// The first configured channel, if any. Without one, preview() shows what a new channel would be
// sent.
std::optional<ChannelKind> first_channel(const Settings &settings) {
    const std::vector<ChannelKind> kinds = configured_channels(settings);
    return kinds.empty() ? std::nullopt : std::optional(kinds[0]);
}

// The failure that a round would record for a queue that it cannot read; nullopt if a round has
// already recorded it, or would first try the queue a second time.
std::optional<core::Failure> failure_of_itself(const Queue &queue, const Unreadable &error) {
    if (queue.broken || is_limit(error.sqlstate))
        return std::nullopt;
    core::Failure failure;
    failure.queue = to_utf8(queue.name);
    failure.job_id = failure.status.emplace(core::unreadable);
    failure.error = to_utf8(error.words());
    return failure;
}

class Preview {
public:
    explicit Preview(const Settings &settings)
        : settings_(settings), channel_(first_channel(settings)), builder_(settings.max_listed) {}

    void show(Rows &rows);

private:
    void take_recorded();
    void scan(const Queue &queue);
    void take_unreadable(const Queue &queue, const Unreadable &error);
    void add_new(const core::Failure &failure);
    void add(const core::Failure &failure);
    core::Digest finish(Transaction &transaction);

    const Settings &settings_;
    const std::optional<ChannelKind> channel_;
    core::DigestBuilder builder_;
    std::vector<Queue> queues_;
    DigestRow digest_;
    std::int64_t count_ = 0;
    std::int64_t standing_ = 0;
};

void Preview::show(Rows &rows) {
    take_recorded();
    for (const Queue &queue : queues_)
        scan(queue);
    if (count_ == 0 && queues_.empty())
        throw NothingWatched();
    if (count_ == 0)
        return;
    Transaction transaction(lock_timeout_setting());
    const core::Mail mail =
        core::render(finish(transaction), settings_.max_listed, to_utf8(settings_.job_url));
    const Row row = {from_utf8(mail.subject), from_utf8(mail.text), from_utf8(mail.html)};
    transaction.commit();
    rows.add(row);
}

// Adds the failures that rounds have recorded but not yet sent.
void Preview::take_recorded() {
    Transaction transaction(lock_timeout_setting());
    queues_ = ledger::queues(transaction);
    digest_ = ledger::next_digest(transaction, channel_ ? to_string(*channel_) : "");
    ledger::failures_of(transaction, digest_, [&](const core::Failure &failure) { add(failure); });
    transaction.commit();
}

void Preview::scan(const Queue &queue) {
    try {
        Transaction transaction(lock_timeout_setting());
        standing_ += ledger::look_at(transaction, queue, scan_timeout_setting(), digest_,
                                     [&](const core::Failure &failure) { add_new(failure); });
        transaction.commit();
    } catch (const Unreadable &error) {
        take_unreadable(queue, error);
    }
}

// The failures of the queue that stood are assumed to stand still, as in a round.
void Preview::take_unreadable(const Queue &queue, const Unreadable &error) {
    Transaction transaction(lock_timeout_setting());
    standing_ += ledger::standing_before(transaction, digest_, queue.name);
    if (const auto failure = failure_of_itself(queue, error))
        add_new(*failure);
    transaction.commit();
}

// Only the newest digest includes the failures that a round would record now.
void Preview::add_new(const core::Failure &failure) {
    if (digest_.newest)
        add(failure);
}

void Preview::add(const core::Failure &failure) {
    builder_.add(failure);
    count_++;
}

core::Digest Preview::finish(Transaction &transaction) {
    core::Digest content = builder_.finish();
    content.id = digest_.id;
    content.database = to_utf8(ledger::database_name(transaction));
    content.cluster = to_utf8(cluster_name ? cluster_name : "");
    content.standing = standing_;
    if (channel_) {
        content.previous = ledger::last_accepted(transaction, *channel_);
        content.cleared = ledger::cleared_since(transaction, *channel_, digest_);
        mark_causes(transaction, *channel_, digest_, false, content);
        for (const std::string &note : digest_notes(transaction, *channel_, digest_, nullptr))
            content.notes.push_back(note);
    }
    return content;
}

} // namespace

void preview(Rows &rows) {
    guarded([] { pgstat_report_activity(STATE_RUNNING, "previewing the next digest"); });
    const Settings settings = current_settings();
    Preview(settings).show(rows);
}

} // namespace job_alerting::server

extern "C" Datum job_alerting_preview(PG_FUNCTION_ARGS) {
    using namespace job_alerting::server;

    require_worker("preview");
    run_in_worker(fcinfo, Task::preview, "preview()");
    return static_cast<Datum>(0);
}
