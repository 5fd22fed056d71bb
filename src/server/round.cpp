#include "server/prelude.hpp"

#include "server/round.hpp"

#include "server/delivery.hpp"
#include "server/ledger.hpp"
#include "server/recording.hpp"

namespace job_alerting::server {

namespace {

std::vector<Queue> begin() {
    Transaction transaction(lock_timeout_setting());
    ledger::doubt_interrupted(transaction);
    std::vector<Queue> queues = ledger::queues(transaction);
    transaction.commit();
    for (const Queue &queue : queues)
        if (queue.never_ended)
            note_unended(queue);
    return queues;
}

// A queue whose last scan failed, or did not end, may take all its time again, or be the end of
// this process.
bool is_suspect(const Queue &queue) {
    return queue.broken || queue.never_ended;
}

// Records the suspect queues, or the others. Adds to `trouble` what cannot be read.
void record(const std::vector<Queue> &queues, bool suspect, std::string &trouble) {
    for (const Queue &queue : queues) {
        if (is_suspect(queue) != suspect)
            continue;
        const std::string wrong =
            queue.due ? record_queue(queue)
                      : "queue " + queue.name + " is left alone, since its scans do not end";
        if (!wrong.empty())
            trouble += (trouble.empty() ? "" : "; ") + wrong;
    }
}

std::vector<ChannelReport> channels(const Settings &settings) {
    std::vector<ChannelKind> kinds;
    std::string unknown;
    if (!parse_channels(settings.channels.c_str(), kinds, unknown))
        throw BadSetting("job_alerting.channels names \"" + unknown + "\", which is no channel");
    std::vector<ChannelReport> reports;
    for (const ChannelKind kind : kinds)
        reports.emplace_back(kind);
    return reports;
}

// What goes wrong with one channel is no other's. It is tried again by the next round.
void deliver_all(const Settings &settings, bool by_hand, RoundReport &report) {
    for (ChannelReport &channel : report.channels) {
        try {
            deliver(settings, by_hand, channel);
        } catch (const ServerError &error) {
            if (error.sqlstate == ERRCODE_QUERY_CANCELED)
                throw;
            report.ended = false;
            if (channel.outcome == "silent")
                channel.outcome = core::to_string(core::State::pending);
            channel.detail = error.what();
            warn(std::string("job_alerting cannot deliver through ") + to_string(channel.channel) +
                 ": " + error.what());
        }
    }
}

void tell_trouble(const std::string &trouble, RoundReport &report) {
    for (ChannelReport &channel : report.channels)
        if (!trouble.empty())
            channel.detail += (channel.detail.empty() ? "" : "; ") + trouble;
}

// What is not tidied up by this round is by another.
void tidy_up(const Settings &settings, RoundReport &report) {
    std::vector<ChannelKind> kinds;
    for (const ChannelReport &channel : report.channels)
        kinds.push_back(channel.channel);
    try {
        Transaction transaction(lock_timeout_setting());
        report.due_in = ledger::next_due(transaction, kinds, settings.hold_in_doubt);
        ledger::prune(transaction, kinds, settings.retention);
        transaction.commit();
    } catch (const ServerError &error) {
        warn(std::string("job_alerting cannot tidy up its tables: ") + error.what());
    }
}

bool is_silent(const RoundReport &report) {
    return std::all_of(report.channels.begin(), report.channels.end(),
                       [](const ChannelReport &channel) { return channel.outcome == "silent"; });
}

} // namespace

RoundReport run_round(bool by_hand) {
    const Settings settings = current_settings();
    std::string trouble;
    RoundReport report;

    const std::vector<Queue> queues = begin();
    record(queues, false, trouble);
    report.channels = channels(settings);
    deliver_all(settings, by_hand, report);

    // Suspect queues come when all that others are to hear has been sent. What was just tried is
    // not due again.
    if (std::any_of(queues.begin(), queues.end(), is_suspect)) {
        record(queues, true, trouble);
        deliver_all(settings, false, report);
    }

    tell_trouble(trouble, report);
    tidy_up(settings, report);
    // What the last queue had recorded is delivered even after it was unwatched.
    if (queues.empty() && is_silent(report))
        throw NothingWatched();
    return report;
}

} // namespace job_alerting::server
