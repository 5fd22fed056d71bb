#include "server/base/prelude.hpp"

#include "server/round/round.hpp"

#include "server/coordination/shared.hpp"
#include "server/delivery/channel.hpp"
#include "server/delivery/delivery.hpp"
#include "server/ledger/digests.hpp"
#include "server/ledger/ledger.hpp"
#include "server/round/recording.hpp"

namespace job_alerting::server {

namespace {

// Empty when the list contains no valid channel.
std::vector<ChannelKind> known_channels(const Settings &settings) {
    std::vector<ChannelKind> kinds;
    std::string unknown;
    parse_channels(settings.channels.c_str(), kinds, unknown);
    return kinds;
}

// Marks the digests of an interrupted round as in doubt, detects a copy or a promotion, and returns
// the queues. Marks those whose last scan never ended.
std::vector<Queue> prepare_round(const Settings &settings) {
    const Installation here = find_installation();
    Transaction transaction(lock_timeout_setting());
    ledger::doubt_interrupted(transaction);
    std::vector<Queue> queues = ledger::queues(transaction);
    ledger::detect_copy(transaction, here, known_channels(settings));
    transaction.commit();
    for (const Queue &queue : queues)
        if (queue.never_ended)
            note_unended(queue);
    return queues;
}

// Whether the previous round did not finish.
bool was_cut_off(const Settings &settings) {
    const std::vector<ChannelKind> kinds = known_channels(settings);
    if (kinds.empty())
        return false; // nothing can be sent, but everything can be recorded
    // The count includes this round.
    shared::DatabaseState state = {};
    guarded([&] { shared::find(MyDatabaseId, &state); });
    if (state.unfinished > 1)
        return true;
    Transaction transaction(lock_timeout_setting());
    const bool uncomposed = ledger::has_uncomposed(transaction, kinds);
    transaction.commit();
    return uncomposed;
}

std::string settings_fault(const Settings &settings) {
    Problems all;
    all.add(channels_fault(settings));
    for (const SettingFault &fault : setting_faults())
        all.add(fault.what);
    return all.text();
}

std::vector<ChannelReport> empty_reports(const Settings &settings) {
    std::vector<ChannelReport> reports;
    for (const ChannelKind kind : configured_channels(settings))
        reports.emplace_back(kind);
    return reports;
}

// Returns the channels that have something to send. One statement finds them. If it fails, returns
// all: each channel then meets and reports the same error.
std::vector<ChannelKind> busy_channels(const RoundReport &report) {
    std::vector<ChannelKind> kinds;
    for (const ChannelReport &channel : report.channels)
        kinds.push_back(channel.channel);
    try {
        Transaction transaction(lock_timeout_setting());
        std::erase_if(kinds, [busy = ledger::busy_channels(transaction, kinds)](ChannelKind kind) {
            return std::find(busy.begin(), busy.end(), to_string(kind)) == busy.end();
        });
        transaction.commit();
    } catch (const ServerError &error) {
        if (error.sqlstate == ERRCODE_QUERY_CANCELED)
            throw;
    }
    return kinds;
}

void add_channel_problem(ChannelReport &channel, const std::string &problem, RoundReport &report) {
    channel.problems.add(problem);
    report.problems.add(problem, std::string("channel ") + to_string(channel.channel));
}

// A server error in one channel must not affect the others. The next round tries again.
void deliver_all(const Settings &settings, bool by_hand, RoundReport &report) {
    const std::vector<ChannelKind> busy = busy_channels(report);
    for (ChannelReport &channel : report.channels) {
        if (std::find(busy.begin(), busy.end(), channel.channel) == busy.end())
            continue;
        try {
            deliver(settings, by_hand, channel);
        } catch (const ServerError &error) {
            if (error.sqlstate == ERRCODE_QUERY_CANCELED)
                throw;
            report.ended = false;
            channel.failed = true;
            add_channel_problem(channel, error.words(), report);
            warn(std::string("job_alerting cannot deliver through ") + to_string(channel.channel) +
                 ": " + error.words());
        }
    }
}

void add_to_channels(const std::string &problem, RoundReport &report) {
    for (ChannelReport &channel : report.channels)
        channel.problems.add(problem);
}

bool is_silent(const ChannelReport &channel) {
    return channel.digests.empty() && !channel.failed;
}

bool is_silent(const RoundReport &report) {
    return std::all_of(report.channels.begin(), report.channels.end(),
                       [](const ChannelReport &channel) { return is_silent(channel); });
}

// For each channel without a digest in this round, reports a setting or file that would prevent
// delivery. Needs an open transaction, because it converts text from the database's encoding.
void examine_silent(const Settings &settings, RoundReport &report) {
    for (ChannelReport &channel : report.channels) {
        if (!is_silent(channel))
            continue;
        const std::string fault = channel_fault(channel.channel, settings);
        if (fault.empty())
            continue;
        add_channel_problem(channel, fault, report);
    }
}

std::string postponed_queues(const std::vector<const Queue *> &queues) {
    if (queues.empty())
        return {};
    return (queues.size() == 1 ? "1 queue was" : std::to_string(queues.size()) + " queues were") +
           " not scanned, because others used up the scan time: " + queues[0]->name +
           (queues.size() == 1 ? "" : " and others");
}

// report.problems gets only problems that no table shows. The row of a queue shows its problems,
// unless another session holds that row.
void report_recording(const Recording &recording, RoundReport &report) {
    const std::string postponed = postponed_queues(recording.postponed);
    report.read_all = recording.unread.empty() && recording.own.empty() && postponed.empty();
    add_to_channels(recording.own.text(), report);
    add_to_channels(recording.unread.text(), report);
    add_to_channels(postponed, report);
    report.problems.add(recording.own.text());
    report.problems.add(recording.unreported.text());
}

// Checks the channels without a digest, finds the time of the next attempt and prunes the tables.
// After an error, also a cancellation, the next round repeats it.
void finish(const Settings &settings, RoundReport &report) {
    std::vector<ChannelKind> kinds;
    for (const ChannelReport &channel : report.channels)
        kinds.push_back(channel.channel);
    try {
        Transaction transaction(lock_timeout_setting());
        examine_silent(settings, report);
        // Reading a table by an index before writing to it would deadlock with REINDEX.
        transaction.execute("LOCK TABLE job_alerting.failure, job_alerting.digest "
                            "IN ROW EXCLUSIVE MODE");
        // Due at once if an operator settled a blocking digest during this round.
        report.due_in = !is_silent(report) && ledger::can_compose(transaction, kinds)
                            ? 0
                            : ledger::next_due(transaction, kinds);
        report.all_reported = !ledger::has_open(transaction, kinds);
        ledger::prune(transaction, kinds, settings.retention);
        transaction.commit();
    } catch (const ServerError &error) {
        warn(std::string("job_alerting cannot tidy up its tables: ") + error.words());
        // A digest may be due before the interval is over.
        report.due_in = shared::short_pause;
    }
}

// Without a valid channel, delivery throws BadSetting and ends the round.
bool can_deliver(const Settings &settings) {
    return !known_channels(settings).empty() || channels_fault(settings).empty();
}

// At least short_pause, and as long as this round took, so that other databases get their turn.
double pause_before_postponed(TimestampTz start) {
    const double took =
        static_cast<double>(GetCurrentTimestamp() - start) / static_cast<double>(USECS_PER_SEC);
    return std::max<double>(shared::short_pause, took);
}

} // namespace

std::string channels_fault(const Settings &settings) {
    std::vector<ChannelKind> kinds;
    std::string unknown;
    if (parse_channels(settings.channels.c_str(), kinds, unknown))
        return {};
    // The name may be invalid in the database's encoding.
    return core::not_sent("job_alerting.channels names \"" + unknown + "\", which is no channel")
        .error;
}

std::vector<ChannelKind> configured_channels(const Settings &settings) {
    const std::vector<ChannelKind> kinds = known_channels(settings);
    const std::string fault = channels_fault(settings);
    if (kinds.empty() && !fault.empty())
        throw BadSetting(fault);
    return kinds;
}

RoundReport run_round(bool by_hand) {
    const TimestampTz start = GetCurrentTimestamp();
    const Settings settings = current_settings();
    RoundReport report;

    // A round by hand tries every waiting digest, but only once.
    bool tried = false;
    const auto deliver_now = [&] {
        if (report.channels.empty())
            report.channels = empty_reports(settings);
        deliver_all(settings, by_hand && !tried, report);
        tried = true;
    };

    const std::vector<Queue> queues = prepare_round(settings);
    // If the previous worker did not finish, a scan may have ended it and may end this one. Then
    // send the recorded failures before each scan.
    const bool cut_off = was_cut_off(settings);
    const auto before_each = [&] {
        if (cut_off)
            deliver_now();
    };
    Recording recording(queues);
    recording.record_prompt(before_each);
    if (recording.has_late()) {
        if (can_deliver(settings))
            deliver_now();
        recording.record_late(before_each);
    }
    deliver_now();

    report_recording(recording, report);
    const std::string fault = settings_fault(settings);
    add_to_channels(fault, report);
    report.problems.add(fault);
    finish(settings, report);
    if (!recording.postponed.empty())
        report.due_in =
            std::min(pause_before_postponed(start), report.due_in.value_or(interval_setting()));
    // Failures of the last queue are delivered even after it was unwatched.
    report.watched = !queues.empty() || !is_silent(report);
    return report;
}

} // namespace job_alerting::server
