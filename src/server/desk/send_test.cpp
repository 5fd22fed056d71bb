#include "server/base/prelude.hpp"

#include "server/desk/send_test.hpp"

#include "server/delivery/channel.hpp"
#include "server/ledger/content.hpp"
#include "server/round/round.hpp"

namespace job_alerting::server {

namespace {

std::string make_request(ChannelKind channel, const Settings &settings) {
    Transaction transaction(lock_timeout_setting());
    const Message message =
        make_test_message(channel, ledger::database_name(transaction), settings);
    transaction.commit();
    return message.request;
}

// No transaction is open while it is on its way, as with a digest.
core::Outcome try_channel(ChannelKind channel, const Settings &settings) {
    try {
        const std::string request = make_request(channel, settings);
        guarded([&] {
            pgstat_report_activity(
                STATE_RUNNING, psprintf("sending a test message through %s", to_string(channel)));
        });
        return hand_over(channel, request, settings);
    } catch (const CannotSend &why) {
        return core::not_sent(why.what());
    }
}

} // namespace

void send_test(Rows &rows) {
    const Settings settings = current_settings();
    for (const ChannelKind channel : configured_channels(settings)) {
        const core::Outcome outcome = try_channel(channel, settings);
        rows.add({to_string(channel), core::to_string(outcome.state),
                  outcome.error.empty() ? Value() : Value(outcome.error)});
    }
}

} // namespace job_alerting::server
