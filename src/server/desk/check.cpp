#include "server/base/prelude.hpp"

#include "server/desk/check.hpp"

#include "server/base/extension.hpp"
#include "server/coordination/call.hpp"
#include "server/coordination/shared.hpp"
#include "server/delivery/channel.hpp"
#include "server/desk/check_queue.hpp"
#include "server/ledger/ledger.hpp"
#include "server/round/heartbeat.hpp"
#include "server/round/round.hpp"

#include "core/link.hpp"

#include <cstdlib>

extern "C" {
PG_FUNCTION_INFO_V1(job_alerting_check);
}

namespace job_alerting::server {

namespace {

//
// In the session. C regime.
//

void add(ReturnSetInfo *result, const char *item, bool good, const char *detail, const char *hint) {
    Datum values[] = {CStringGetTextDatum(item), CStringGetTextDatum(good ? "ok" : "error"),
                      CStringGetTextDatum(detail), CStringGetTextDatum(hint)};
    bool nulls[] = {false, false, false, good};
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

void check_preload(ReturnSetInfo *result) {
    const bool good = shared::exists();
    add(result, "preload", good,
        good ? "the library is preloaded" : "the library is not preloaded: no round runs by itself",
        "Add job_alerting to shared_preload_libraries in postgresql.conf, and restart the server.");
}

void check_launcher(ReturnSetInfo *result) {
    const pid_t pid = shared::launcher().pid;
    add(result, "launcher", pid != 0,
        pid != 0 ? psprintf("it runs as process %d", static_cast<int>(pid)) : "it is not running",
        shared::exists() ? "Unless it is back in 10 seconds, see the server's log."
                         : "Preload the library: it starts the launcher.");
}

void check_worker_slot(ReturnSetInfo *result, bool good) {
    add(result, "worker slot", good,
        good ? "a worker slot is free" : "no background worker slot became free within 5 seconds",
        psprintf("ALTER SYSTEM SET max_worker_processes = %d; and restart the server. The other "
                 "checks need a worker and were skipped.",
                 max_worker_processes + 2));
}

// A failure query that cannot be stopped ends the worker; the findings until then are kept.
void read_findings(const Request &request, BackgroundWorkerHandle *handle, ReturnSetInfo *result) {
    receive_rows(shm_mq_attach(request.queue, request.segment, handle), result);
    if (await_end(handle, request.report))
        raise_worker_error(request.report, "check()");
    else
        add(result, "the rest", false,
            "the worker ended early: the checks after the last item here were skipped",
            "See the server's log. A failure query that cannot be cancelled ends its worker after "
            "job_alerting.scan_timeout.");
    dsm_detach(request.segment);
}

//
// In the worker
//

// Reports what a provider refused or left open: settings and files cannot show that beforehand.
Finding check_waiting(ChannelKind channel) {
    Transaction transaction(lock_timeout_setting());
    const Result waiting = transaction.execute(
        "SELECT d.id, d.state = 'pending', d.http_status IS NOT DISTINCT FROM 429, d.error, "
        "d.held IS NOT NULL "
        "FROM job_alerting.digest d WHERE d.channel = $1 AND d.error IS NOT NULL "
        "AND d.state IN ('pending', 'in_doubt') ORDER BY d.state = 'pending' DESC, d.id LIMIT 1",
        {to_string(channel)});
    const Result undelivered = transaction.execute(
        "SELECT n.id, n.refused FROM (SELECT d.id, d.refused FROM job_alerting.digest d "
        "WHERE d.channel = $1 AND d.state = 'accepted' ORDER BY d.last_failure DESC LIMIT 1) n "
        "WHERE n.refused IS NOT NULL",
        {to_string(channel)});
    transaction.commit();
    if (waiting.rows.empty() && !undelivered.rows.empty())
        return warning("digest " + undelivered.rows[0][0].value() + " was not delivered to " +
                           undelivered.rows[0][1].value(),
                       "Mend job_alerting.mail_to, or the mail server.");
    if (waiting.rows.empty())
        return ok("settings and files allow delivery; job_alerting.send_test() tries it");
    const Row &row = waiting.rows[0];
    const std::string digest = row[0].value();
    const std::string why = row[3].value();
    if (row[1] != "t")
        return warning("digest " + digest + " is in doubt: " + why,
                       "If it arrived: SELECT job_alerting.settle(" + digest + ", true); if not, " +
                           (row[4] == "t" ? "SELECT job_alerting.settle(" + digest + ", false);"
                                          : std::string("wait: it is sent again automatically.")));
    if (row[2] == "t")
        return warning(
            "digest " + digest + " could not be delivered: " + why,
            "Wait: it is retried automatically at the time that the provider requested.");
    return error("digest " + digest + " could not be delivered: " + why,
                 "Fix what it names (doc/settings.md), then retry at once: "
                 "SELECT * FROM job_alerting.run_digest();");
}

std::string fault_of(ChannelKind channel, const Settings &settings) {
    Transaction transaction(lock_timeout_setting());
    const std::string fault = channel_fault(channel, settings);
    transaction.commit();
    return fault;
}

// The fault names the setting to fix.
Finding check_channel(ChannelKind channel, const Settings &settings) {
    const std::string fault = fault_of(channel, settings);
    if (fault.empty())
        return check_waiting(channel);
    if (channel == ChannelKind::log)
        return error(fault, set_statement("log_min_messages", "warning"));
    return error(fault, "Fix what it names (doc/settings.md), then try it: "
                        "SELECT * FROM job_alerting.send_test();");
}

bool is_on(const std::vector<ChannelKind> &channels, ChannelKind channel) {
    return std::find(channels.begin(), channels.end(), channel) != channels.end();
}

std::string list_of(const std::vector<ChannelKind> &channels) {
    std::string list;
    for (const ChannelKind channel : channels)
        list += (list.empty() ? "" : ",") + std::string(to_string(channel));
    return list;
}

std::string with(ChannelKind channel, std::vector<ChannelKind> channels) {
    channels.insert(channels.begin(), channel);
    return list_of(channels);
}

// A key whose channel is not on is probably a mistake.
Finding check_unused_key(ChannelKind channel, const std::vector<ChannelKind> &channels,
                         const std::string &file, const char *variable) {
    const char *key = getenv(variable);
    const bool in_environment = key && *key;
    if (is_on(channels, channel))
        return ok("the channel is on");
    if (file.empty() && !in_environment)
        return ok("there is none, and the channel is not on");
    return warning((file.empty() ? std::string("the server's environment has ") + variable
                                 : std::string("a file is named for it")) +
                       ", but the channel is not on: nothing is sent through " + to_string(channel),
                   set_statement("job_alerting.channels", with(channel, channels)));
}

Finding check_list(const Settings &settings, const std::vector<ChannelKind> &channels) {
    if (const std::string fault = channels_fault(settings); !fault.empty())
        return error(fault, set_statement("job_alerting.channels", list_of(channels)));
    if (channels.empty())
        return error("failures are recorded, but sent nowhere",
                     set_statement("job_alerting.channels", "sendgrid"));
    return ok("on: " + list_of(channels));
}

void check_channels(const Settings &settings, Rows &rows) {
    std::vector<ChannelKind> channels;
    try {
        channels = configured_channels(settings);
    } catch (const BadSetting &bad) {
        add(rows, "channels", error(bad.what(), set_statement("job_alerting.channels", "log")));
        return;
    }
    add(rows, "channels", check_list(settings, channels));
    for (const ChannelKind channel : channels)
        add(rows, std::string("channel ") + to_string(channel), check_channel(channel, settings));
    add(rows, "key of sendgrid",
        check_unused_key(ChannelKind::sendgrid, channels, settings.sendgrid_api_key_file,
                         "SENDGRID_API_KEY"));
    if (!settings.smtp_url.empty() && !is_on(channels, ChannelKind::smtp))
        add(rows, "server of smtp",
            warning("job_alerting.smtp_url names one, but the channel is not on: nothing is sent "
                    "through smtp",
                    set_statement("job_alerting.channels", with(ChannelKind::smtp, channels))));
    if (!settings.webhook_url_file.empty() && !is_on(channels, ChannelKind::webhook))
        add(rows, "receiver of webhook",
            warning("a file names one, but the channel is not on: nothing is sent through webhook",
                    set_statement("job_alerting.channels", with(ChannelKind::webhook, channels))));
    add(rows, "key of slack",
        check_unused_key(ChannelKind::slack, channels, settings.slack_webhook_url_file,
                         "SLACK_WEBHOOK_URL"));
}

// A row for each setting that is wrong.
void check_settings(Rows &rows) {
    const std::vector<SettingFault> faults = setting_faults();
    for (const SettingFault &fault : faults)
        add(rows, std::string("setting ") + (strchr(fault.setting, '.') + 1),
            error(fault.what, set_statement(fault.setting, fault.initial)));
    if (faults.empty())
        add(rows, "settings", ok("every setting is valid"));
}

Finding check_job_url(const Settings &settings) {
    if (settings.job_url.empty())
        return ok("digests have no links: job_alerting.job_url is not set");
    const std::string fault = core::job_url_fault(settings.job_url);
    if (fault.empty())
        return ok("digests have a link for each job that they list");
    return warning(
        "digests have no links: job_alerting.job_url cannot be used: " + fault,
        set_statement("job_alerting.job_url", "https://admin.example.com/jobs/{job_id}"));
}

Finding check_heartbeat(const Settings &settings) {
    if (settings.heartbeat_url_file.empty())
        return ok("no heartbeat is sent: job_alerting.heartbeat_url_file is not set");
    const std::string fault = heartbeat_fault(settings);
    if (!fault.empty())
        return error(fault, "Fix the file that job_alerting.heartbeat_url_file names.");
    shared::DatabaseState state = {};
    guarded([&] { shared::find(MyDatabaseId, &state); });
    if (state.heartbeat_failed)
        return warning("the last heartbeat failed", "See the server's log for the reason.");
    return ok("a heartbeat is sent after each complete round");
}

Finding check_version() {
    Transaction transaction(lock_timeout_setting());
    const char *version = nullptr;
    transaction.run([&] { version = find_extension().version; });
    if (std::string_view(version) == newest_version())
        return ok(std::string("the SQL objects are of version ") + version);
    return warning(std::string("the SQL objects are of version ") + version +
                       ", and the library knows version " + newest_version(),
                   "ALTER EXTENSION job_alerting UPDATE;");
}

std::vector<Queue> queues() {
    Transaction transaction(lock_timeout_setting());
    std::vector<Queue> all = ledger::queues(transaction);
    transaction.commit();
    return all;
}

} // namespace

void check(Rows &rows) {
    guarded([] { pgstat_report_activity(STATE_RUNNING, "checking"); });
    const Settings settings = current_settings();
    const std::vector<Queue> watched = queues();
    add(rows, "version", check_version());
    check_channels(settings, rows);
    check_settings(rows);
    add(rows, "job_url", check_job_url(settings));
    add(rows, "heartbeat", check_heartbeat(settings));
    add(rows, "queues",
        watched.empty()
            ? error("no queue is watched", "SELECT job_alerting.watch('my_schema.my_jobs');")
            : ok("watched: " + std::to_string(watched.size())));
    for (const Queue &queue : watched)
        check_queue(queue, rows);
}

Finding ok(const std::string &detail) {
    return {.state = "ok", .detail = detail, .hint = ""};
}
Finding warning(const std::string &detail, const std::string &hint) {
    return {.state = "warning", .detail = detail, .hint = hint};
}
Finding error(const std::string &detail, const std::string &hint) {
    return {.state = "error", .detail = detail, .hint = hint};
}

void add(Rows &rows, const std::string &item, const Finding &finding) {
    rows.add({item, finding.state, finding.detail,
              finding.hint.empty() ? Value() : Value(finding.hint)});
}

std::string set_statement(const char *setting, const std::string &value) {
    Transaction transaction(lock_timeout_setting());
    const Result statement = transaction.execute(
        "SELECT CASE WHEN s.source LIKE 'database%' "
        "THEN format('ALTER DATABASE %I SET %s = %L;', current_database(), s.name, $2) "
        "ELSE format('ALTER SYSTEM SET %s = %L; SELECT pg_reload_conf();', s.name, $2) END "
        "FROM pg_settings s WHERE s.name = $1",
        {setting, value});
    transaction.commit();
    return statement.rows[0][0].value();
}

} // namespace job_alerting::server

extern "C" Datum job_alerting_check(PG_FUNCTION_ARGS) {
    using namespace job_alerting::server;

    require_worker("check");
    InitMaterializedSRF(fcinfo, 0);
    ReturnSetInfo *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    check_preload(result);
    check_launcher(result);
    const Request request = prepare_request(Task::check);
    BackgroundWorkerHandle *handle = try_to_start(request.order);
    check_worker_slot(result, handle != nullptr);
    if (handle)
        read_findings(request, handle, result);
    else
        dsm_detach(request.segment);
    return static_cast<Datum>(0);
}
