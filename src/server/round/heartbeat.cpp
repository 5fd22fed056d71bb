#include "server/base/prelude.hpp"

#include "server/round/heartbeat.hpp"

#include "server/base/guard.hpp"
#include "server/coordination/shared.hpp"
#include "server/delivery/route.hpp"
#include "server/delivery/secret.hpp"

#include "http/endpoint.hpp"

namespace job_alerting::server {

namespace {

constexpr int time_limit = 5000; // ms; the caller of run_digest() waits for it
constexpr std::string_view instead = "(address)";

SecretPlace place(const Settings &settings) {
    return {.kind = "heartbeat URL",
            .setting = "job_alerting.heartbeat_url_file",
            .file = settings.heartbeat_url_file,
            .variable = ""};
}

void check_url(const Secret &url) {
    const std::string fault = http::heartbeat_fault(url.text());
    if (!fault.empty())
        throw CannotSend("the URL in job_alerting.heartbeat_url_file cannot be used: " + fault);
}

// Returns why the request failed; empty when it succeeded.
std::string ask(const Settings &settings) {
    check_route(settings);
    const Secret url(place(settings));
    check_url(url);
    core::Answer answer = get(url.text(), settings, time_limit);
    if (answer.status >= 200 && answer.status < 300)
        return {};
    if (answer.status != 0)
        return "it answered HTTP " + std::to_string(answer.status);
    // libcurl's error may quote parts of the address.
    const auto [host, path] = http::parts_of(url.text());
    for (const std::string_view secret : {host, path})
        if (secret.size() > 1)
            conceal(answer, secret, instead);
    return answer.error.empty() ? "no answer" : answer.error;
}

std::string try_to_ask(const Settings &settings) {
    try {
        return ask(settings);
    } catch (const CannotSend &why) {
        return why.what();
    } catch (const BadSecret &bad) {
        return bad.what();
    }
}

} // namespace

bool did_all(const RoundReport &round) {
    return round.ended && round.watched && round.read_all && round.all_reported &&
           round.problems.empty();
}

std::string heartbeat_fault(const Settings &settings) {
    if (settings.heartbeat_url_file.empty())
        return {};
    try {
        check_route(settings);
        const Secret url(place(settings));
        check_url(url);
        return {};
    } catch (const CannotSend &why) {
        return why.what();
    } catch (const BadSecret &bad) {
        return bad.what();
    }
}

void send_heartbeat() {
    const Settings settings = current_settings();
    if (settings.heartbeat_url_file.empty())
        return;
    guarded([] { pgstat_report_activity(STATE_RUNNING, "sending the heartbeat"); });
    const std::string fault = try_to_ask(settings);
    bool news = false;
    guarded([&] { news = shared::heartbeat_ended(MyDatabaseId, !fault.empty()); });
    if (news && !fault.empty())
        warn("job_alerting cannot send its heartbeat: " + fault);
}

} // namespace job_alerting::server
