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

// None where the list names nothing that is a channel.
std::vector<ChannelKind> known_channels(const Settings &settings) {
    std::vector<ChannelKind> kinds;
    std::string unknown;
    parse_channels(settings.channels.c_str(), kinds, unknown);
    return kinds;
}

std::vector<Queue> begin(const Settings &settings) {
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

// Whether the round before this one did not come to its end.
bool was_cut_off(const Settings &settings) {
    const std::vector<ChannelKind> kinds = known_channels(settings);
    if (kinds.empty())
        return false; // nothing can be sent, but all can be recorded
    // This round counts already.
    shared::DatabaseState state = {};
    guarded([&] { shared::find(MyDatabaseId, &state); });
    if (state.unended > 1)
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

std::vector<ChannelReport> channels(const Settings &settings) {
    std::vector<ChannelReport> reports;
    for (const ChannelKind kind : configured_channels(settings))
        reports.emplace_back(kind);
    return reports;
}

// Most rounds have nothing to tell, which one statement says for all channels.
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
        // Each channel meets it, and says so.
    }
    return kinds;
}

void tell_channel(ChannelReport &channel, const std::string &problem, RoundReport &report) {
    channel.problems.add(problem);
    report.problems.add(problem, std::string("channel ") + to_string(channel.channel));
}

// What goes wrong with one channel is no other's. It is tried again by the next round.
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
            tell_channel(channel, error.words(), report);
            warn(std::string("job_alerting cannot deliver through ") + to_string(channel.channel) +
                 ": " + error.words());
        }
    }
}

void tell_problem(const std::string &problem, RoundReport &report) {
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

// What would keep a digest from going out is told before there is one. In a transaction, as all
// that reads text in the database's encoding.
void examine_silent(const Settings &settings, RoundReport &report) {
    for (ChannelReport &channel : report.channels) {
        if (!is_silent(channel))
            continue;
        const std::string fault = channel_fault(channel.channel, settings);
        if (fault.empty())
            continue;
        tell_channel(channel, fault, report);
    }
}

std::string postponed_queues(const std::vector<const Queue *> &queues) {
    if (queues.empty())
        return {};
    return (queues.size() == 1 ? "1 queue was" : std::to_string(queues.size()) + " queues were") +
           " not scanned, because others used up the scan time: " + queues[0]->name +
           (queues.size() == 1 ? "" : " and others");
}

// What is wrong with a queue stands in its row, and so does that it was not reached; unless another
// session holds that.
void tell_recording(const Recording &recording, RoundReport &report) {
    const std::string postponed = postponed_queues(recording.postponed);
    report.read_all = recording.unread.empty() && recording.own.empty() && postponed.empty();
    tell_problem(recording.own.text(), report);
    tell_problem(recording.unread.text(), report);
    tell_problem(postponed, report);
    report.problems.add(recording.own.text());
    report.problems.add(recording.unreported.text());
}

// If the cleanup fails, the next round repeats it.
void tidy_up(const Settings &settings, RoundReport &report) {
    std::vector<ChannelKind> kinds;
    for (const ChannelReport &channel : report.channels)
        kinds.push_back(channel.channel);
    try {
        Transaction transaction(lock_timeout_setting());
        examine_silent(settings, report);
        // What reads a table by an index, and then writes to it, deadlocks with REINDEX.
        transaction.execute("LOCK TABLE job_alerting.failure, job_alerting.digest "
                            "IN ROW EXCLUSIVE MODE");
        // An operator may have settled what kept something back while the round went on.
        report.due_in = !is_silent(report) && ledger::can_compose(transaction, kinds)
                            ? 0
                            : ledger::next_due(transaction, kinds);
        report.all_told = !ledger::has_open(transaction, kinds);
        ledger::prune(transaction, kinds, settings.retention);
        transaction.commit();
    } catch (const ServerError &error) {
        warn(std::string("job_alerting cannot tidy up its tables: ") + error.words());
        // A digest may be due before the interval is over.
        report.due_in = shared::short_pause;
    }
}

// As long as this round took, so that others have their turn.
double wait_for_postponed(TimestampTz start) {
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
    // The name may be no text in the encoding of the database.
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

    // What was just tried is not due again.
    bool tried = false;
    const auto deliver_now = [&] {
        if (report.channels.empty())
            report.channels = channels(settings);
        deliver_all(settings, by_hand && !tried, report);
        tried = true;
    };

    const std::vector<Queue> queues = begin(settings);
    // A scan may be the end of this process, as it may have been that of the last: then what has
    // been recorded is sent before each.
    const bool cut_off = was_cut_off(settings);
    const auto before_each = [&] {
        if (cut_off)
            deliver_now();
    };
    Recording recording(queues);
    recording.record_prompt(before_each);
    deliver_now();
    if (recording.has_late()) {
        recording.record_late(before_each);
        deliver_now();
    }

    tell_recording(recording, report);
    const std::string fault = settings_fault(settings);
    tell_problem(fault, report);
    report.problems.add(fault);
    tidy_up(settings, report);
    if (!recording.postponed.empty())
        report.due_in =
            std::min(wait_for_postponed(start), report.due_in.value_or(interval_setting()));
    // What the last queue had recorded is delivered even after it was unwatched.
    report.watched = !queues.empty() || !is_silent(report);
    return report;
}

} // namespace job_alerting::server
