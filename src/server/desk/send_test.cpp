#include "server/base/prelude.hpp"

#include "server/desk/send_test.hpp"

#include "server/base/encoding.hpp"
#include "server/coordination/call.hpp"
#include "server/delivery/channel.hpp"
#include "server/ledger/content.hpp"
#include "server/round/round.hpp"

#include "core/test_message.hpp"

extern "C" {
PG_FUNCTION_INFO_V1(job_alerting_send_test);
}

namespace job_alerting::server {

namespace {

Message make_message(ChannelKind channel, const Settings &settings) {
    Transaction transaction(lock_timeout_setting());
    const core::Mail test = core::test_message(to_utf8(ledger::database_name(transaction)));
    const Message message = channel_of(channel).test_message(test, settings);
    transaction.commit();
    return message;
}

// As for a digest, no transaction is open while the message is sent.
core::Outcome try_channel(ChannelKind channel, const Settings &settings) {
    try {
        const Message message = make_message(channel, settings);
        guarded([&] {
            pgstat_report_activity(
                STATE_RUNNING, psprintf("sending a test message through %s", to_string(channel)));
        });
        return hand_over(channel, message, settings);
    } catch (const CannotSend &why) {
        return core::not_sent(why.what());
    }
}

} // namespace

void send_test(Rows &rows) {
    const Settings settings = current_settings();
    for (const ChannelKind channel : configured_channels(settings)) {
        const core::Outcome outcome = try_channel(channel, settings);
        const std::string detail = outcome.error.empty() ? core::note_of(outcome) : outcome.error;
        rows.add({to_string(channel), core::to_string(outcome.state),
                  detail.empty() ? Value() : Value(detail)});
    }
}

} // namespace job_alerting::server

extern "C" Datum job_alerting_send_test(PG_FUNCTION_ARGS) {
    using namespace job_alerting::server;

    require_worker("send_test");
    run_in_worker(fcinfo, Task::send_test, "send_test()");
    return static_cast<Datum>(0);
}
