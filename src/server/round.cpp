#include "server/prelude.hpp"

#include "server/round.hpp"

#include "server/channel.hpp"
#include "server/delivery.hpp"
#include "server/digests.hpp"
#include "server/ledger.hpp"
#include "server/recording.hpp"
#include "server/shared.hpp"

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
    const Home here = find_home();
    Transaction transaction(lock_timeout_setting());
    ledger::doubt_interrupted(transaction);
    std::vector<Queue> queues = ledger::queues(transaction);
    ledger::move_in(transaction, here, known_channels(settings));
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

void add(std::string &trouble, const std::string &wrong) {
    if (!wrong.empty())
        trouble += (trouble.empty() ? "" : "; ") + wrong;
}

std::string settings_fault(const Settings &settings) {
    std::string all = channels_fault(settings);
    for (const SettingFault &fault : setting_faults())
        add(all, fault.what);
    return all;
}

// A queue whose last scan failed, or did not end, may take all its time again, or be the end of
// this process.
bool is_suspect(const Queue &queue) {
    return queue.broken || queue.never_ended;
}

// Records the queues one after the other. Adds to `trouble` what cannot be read, and returns those
// that are to come last: they are suspect, or somebody holds their rows.
std::vector<Queue> record(const std::vector<Queue> &queues,
                          const std::function<void()> &before_each, std::string &trouble) {
    std::vector<Queue> last;
    for (const Queue &queue : queues) {
        if (is_suspect(queue)) {
            last.push_back(queue);
            continue;
        }
        before_each();
        if (const std::optional<std::string> wrong = record_queue(queue, false))
            add(trouble, *wrong);
        else
            last.push_back(queue);
    }
    return last;
}

// Whoever holds many queues is waited for once, not once for each.
void record_last(const std::vector<Queue> &queues, const std::function<void()> &before_each,
                 std::string &trouble) {
    bool wait = true;
    for (const Queue &queue : queues) {
        if (!queue.due) {
            add(trouble, "queue " + queue.name + " is left alone, since its scans do not end");
            continue;
        }
        before_each();
        const std::optional<std::string> wrong = record_queue(queue, wait);
        if (!wrong)
            wait = false;
        add(trouble, wrong.value_or("queue " + queue.name +
                                    " cannot be read: another session holds its row"));
    }
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
            add(channel.trouble, error.words());
            add(report.trouble,
                std::string("channel ") + to_string(channel.channel) + ": " + error.words());
            warn(std::string("job_alerting cannot deliver through ") + to_string(channel.channel) +
                 ": " + error.words());
        }
    }
}

void tell_trouble(const std::string &trouble, RoundReport &report) {
    for (ChannelReport &channel : report.channels)
        add(channel.trouble, trouble);
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
        add(channel.trouble, fault);
        add(report.trouble, std::string("channel ") + to_string(channel.channel) + ": " + fault);
    }
}

// What is not tidied up by this round is by another. What is wrong with a queue stands in its row,
// unless another session holds that.
void tidy_up(const Settings &settings, const std::string &queue_trouble, RoundReport &report) {
    std::vector<ChannelKind> kinds;
    for (const ChannelReport &channel : report.channels)
        kinds.push_back(channel.channel);
    try {
        Transaction transaction(lock_timeout_setting());
        if (!queue_trouble.empty() && !ledger::has_broken(transaction))
            add(report.trouble, queue_trouble);
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
    const Settings settings = current_settings();
    std::string trouble;
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
    const std::vector<Queue> last = record(queues, before_each, trouble);
    deliver_now();
    if (!last.empty()) {
        record_last(last, before_each, trouble);
        deliver_now();
    }

    report.read_all = trouble.empty();
    tell_trouble(trouble, report);
    const std::string fault = settings_fault(settings);
    tell_trouble(fault, report);
    add(report.trouble, fault);
    tidy_up(settings, trouble, report);
    // What the last queue had recorded is delivered even after it was unwatched.
    report.watched = !queues.empty() || !is_silent(report);
    return report;
}

} // namespace job_alerting::server
