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

// Records the queues whose last scan ended, or those whose last scan did not. Adds to `trouble`
// what cannot be read.
void record(const std::vector<Queue> &queues, bool never_ended, std::string &trouble) {
    for (const Queue &queue : queues) {
        if (queue.never_ended != never_ended)
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

void end(RoundReport &report, const Settings &settings, const std::string &trouble) {
    std::vector<ChannelKind> kinds;
    for (ChannelReport &channel : report.channels) {
        kinds.push_back(channel.channel);
        if (!trouble.empty())
            channel.detail += (channel.detail.empty() ? "" : "; ") + trouble;
    }
    Transaction transaction(lock_timeout_setting());
    ledger::prune(transaction, kinds, settings.retention);
    report.due_in = ledger::next_due(transaction, kinds, settings.hold_in_doubt);
    transaction.commit();
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
    for (ChannelReport &channel : report.channels)
        deliver(settings, by_hand, channel);

    // A scan that did not end may be the end of this process again: it comes when all that others
    // are to hear has been sent.
    if (std::any_of(queues.begin(), queues.end(),
                    [](const Queue &queue) { return queue.never_ended; })) {
        record(queues, true, trouble);
        for (ChannelReport &channel : report.channels)
            deliver(settings, by_hand, channel);
    }

    end(report, settings, trouble);
    // What the last queue had recorded is delivered even after it was unwatched.
    if (queues.empty() && is_silent(report))
        throw NothingWatched();
    return report;
}

} // namespace job_alerting::server
