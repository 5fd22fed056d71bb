// A worker: connects to one database, runs one round or another task there, and exits.

#include "server/base/prelude.hpp"

#include "server/coordination/work_order.hpp"

#include "server/base/encoding.hpp"
#include "server/base/extension.hpp"
#include "server/base/guard.hpp"
#include "server/base/session.hpp"
#include "server/base/time_limit.hpp"
#include "server/base/transaction.hpp"
#include "server/coordination/round_lock.hpp"
#include "server/coordination/rows.hpp"
#include "server/coordination/shared.hpp"
#include "server/desk/check.hpp"
#include "server/desk/preview.hpp"
#include "server/desk/send_test.hpp"
#include "server/queue/sandbox.hpp"
#include "server/round/heartbeat.hpp"
#include "server/round/round.hpp"

extern "C" PGDLLEXPORT void job_alerting_worker_main(Datum);

namespace job_alerting::server {

namespace {

std::string joined(const std::string &one, const std::string &other) {
    return one + (one.empty() || other.empty() ? "" : "; ") + other;
}

Row row_of(ChannelKind channel, const Value &digest, std::int64_t failures, const char *outcome,
           const std::string &detail) {
    return {to_string(channel), digest, value(failures), outcome,
            detail.empty() ? std::nullopt : Value(detail)};
}

// Returns one row for each digest that was tried or waits, or one row for a channel without any.
// The last row includes the problems of the channel.
std::vector<Row> rows_of(const ChannelReport &channel) {
    if (channel.digests.empty())
        return {row_of(channel.channel, std::nullopt, 0,
                       channel.failed ? core::to_string(core::State::pending) : "silent",
                       channel.problems.text())};
    std::vector<Row> rows;
    for (const DigestReport &digest : channel.digests)
        rows.push_back(row_of(channel.channel, value(digest.digest_id), digest.failures,
                              core::to_string(digest.state),
                              &digest == &channel.digests.back()
                                  ? joined(digest.detail, channel.problems.text())
                                  : digest.detail));
    return rows;
}

// Sends the rows of a finished round to its caller. The caller may be gone, so the wait for it is
// limited.
bool send_rows(dsm_segment *segment, const RoundReport &round) {
    Rows rows(segment);
    for (const ChannelReport &channel : round.channels)
        for (const Row &row : rows_of(channel))
            if (!rows.offer(row))
                return false;
    return true;
}

void report_error(WorkerReport &report, int sqlstate, const char *message, const char *detail = "",
                  const char *hint = "") {
    report.sqlstate = sqlstate;
    copy_text(report.message, sizeof(report.message), message);
    copy_text(report.detail, sizeof(report.detail), detail);
    copy_text(report.hint, sizeof(report.hint), hint);
}

void report_no_queue(WorkerReport &report) {
    report_error(report, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "no queue is watched",
                 "A background worker sees only committed data.",
                 "Call job_alerting.watch('my_schema.my_jobs') and commit.");
}

double due_in(std::optional<double> retry) {
    const double interval = static_cast<double>(interval_setting());
    return std::min(interval, std::max(1.0, retry.value_or(interval)));
}

void report_to_launcher(const RoundReport &round) {
    std::string channels;
    for (const ChannelReport &channel : round.channels)
        channels += (channels.empty() ? "" : ",") + std::string(to_string(channel.channel));
    guarded([&] {
        if (round.ended)
            shared::round_ended(MyDatabaseId, due_in(round.due_in), channels.c_str(),
                                round.problems.text().c_str());
        else
            shared::round_failed(MyDatabaseId, round.problems.text().c_str());
    });
}

// Runs the round and reports its result to the launcher and to the caller, if there is one.
void work_round(bool by_hand, dsm_segment *segment, WorkerReport &report) {
    try {
        const RoundReport round = run_round(by_hand);
        report_to_launcher(round);
        report.complete = did_all(round);
        report.only_callers = true;
        if (!round.watched)
            report_no_queue(report);
        else if (segment && !send_rows(segment, round))
            report_error(report, ERRCODE_OPERATOR_INTERVENTION,
                         "the calling session did not read the rows of the round in time",
                         "The round has finished, and its results are committed.");
    } catch (const ExtensionGone &gone) {
        report.only_callers = true;
        report_error(report, ERRCODE_UNDEFINED_OBJECT, gone.what());
        guarded([] { shared::extension_absent(MyDatabaseId); });
    }
}

// Runs a task other than a round and returns its rows.
void work_task(Task task, dsm_segment *segment, WorkerReport &report) {
    try {
        Rows rows(segment);
        switch (task) {
        case Task::preview:
            preview(rows);
            break;
        case Task::send_test:
            send_test(rows);
            break;
        case Task::check:
            check(rows);
            break;
        case Task::round:
            break;
        }
    } catch (const ExtensionGone &gone) {
        report_error(report, ERRCODE_UNDEFINED_OBJECT, gone.what());
    } catch (const NothingWatched &) {
        report_no_queue(report);
    }
}

// Runs after everything else, because a round must not depend on the heartbeat. No exception and no
// error leaves it.
void send_heartbeat_guarded() noexcept {
    try {
        send_heartbeat();
    } catch (const std::exception &) {
        // The watchdog notices the missing heartbeat.
    } catch (...) {
    }
}

// No exception and no error of the server leaves it.
void work_guarded(const WorkOrder &order, dsm_segment *segment, WorkerReport &report) noexcept {
    try {
        if (order.task == Task::round)
            work_round(order.by_hand, segment, report);
        else
            work_task(order.task, segment, report);
    } catch (const ServerError &error) {
        report_error(report, error.sqlstate, error.what(), error.detail.c_str(),
                     error.hint.c_str());
    } catch (const WrongVersion &wrong) {
        report_error(report, version_sqlstate, wrong.what(), "", version_hint);
    } catch (const BadSetting &bad) {
        report_error(report, ERRCODE_INVALID_PARAMETER_VALUE, bad.what());
    } catch (const std::exception &error) {
        report_error(report, ERRCODE_INTERNAL_ERROR, error.what());
    } catch (...) {
        report_error(report, ERRCODE_INTERNAL_ERROR, "unknown exception");
    }
}

// Exits because another round is running, which makes this one unnecessary.
[[noreturn]] void skip_round(const WorkOrder &order) {
    shared::round_skipped(order.database);
    proc_exit(0);
}

const char *database_name() {
    return MyBgworkerEntry->bgw_name + strlen("job_alerting worker for ");
}

// Reports that another session holds a lock on the database itself, and exits.
[[noreturn]] void report_locked_database(Oid database) {
    const char *why = "cannot connect to the database: another session has locked it, as ALTER "
                      "DATABASE ... RENAME does (see pg_locks)";
    LWLockReleaseAll();
    FlushErrorState();
    if (shared::round_failed(database, why))
        ereport(WARNING,
                (errmsg("job_alerting round in database \"%s\": %s", database_name(), why)));
    proc_exit(0);
}

void connect(const WorkOrder &order) {
    PG_TRY();
    { connect_session(order.database); }
    PG_CATCH();
    {
        if (order.report == 0 && geterrcode() == ERRCODE_LOCK_NOT_AVAILABLE)
            report_locked_database(order.database);
        PG_RE_THROW();
    }
    PG_END_TRY();
}

// Publishes the pid, so that the caller's detach callback can end this process. Exits if the caller
// has already detached.
void attach_to_caller(WorkerReport *report) {
    report->worker = MyProcPid;
    pg_memory_barrier();
    if (pg_atomic_read_u32(&report->stage) == stage_abandoned)
        proc_exit(0);
}

// Takes the round lock. From here on the round is independent of its caller.
void begin_round(const WorkOrder &order, WorkerReport *report) {
    if (!take_round_lock(order.by_hand))
        skip_round(order);
    if (!move_to(report, stage_independent))
        proc_exit(0);
    shared::round_begins(order.database, order.by_hand);
}

// Stores the error for the view status. Returns false if the round before failed with the same
// error.
bool store_error(const WorkerReport &report) {
    char *problem = psprintf("the round failed: %s%s%s", report.message, report.hint[0] ? ": " : "",
                             report.hint);
    const size_t length = strlen(problem);
    if (problem[length - 1] == '.')
        problem[length - 1] = '\0'; // status continues the sentence
    return shared::round_failed(MyDatabaseId, problem);
}

} // namespace

} // namespace job_alerting::server

// C regime, except for work_guarded() and send_heartbeat_guarded().
extern "C" void job_alerting_worker_main(Datum) {
    using namespace job_alerting::server;

    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();

    WorkOrder order;
    memcpy(&order, MyBgworkerEntry->bgw_extra, sizeof(order));
    const bool is_round = order.task == Task::round;
    shared::announce_worker();
    if (is_round && !order.by_hand && !shared::worker_starts(order.database))
        skip_round(order);
    connect(order);
    prepare_time_limits();
    prepare_sandboxes();

    static WorkerReport own;
    dsm_segment *segment = order.report ? dsm_attach(order.report) : nullptr;
    if (order.report && !segment)
        proc_exit(0); // the caller is gone
    WorkerReport *report =
        segment ? static_cast<WorkerReport *>(dsm_segment_address(segment)) : &own;
    attach_to_caller(report);
    if (is_round)
        begin_round(order, report);
    work_guarded(order, segment, *report);
    pg_write_barrier();
    report->finished = true;
    move_to(report, stage_independent);
    if (report->complete)
        send_heartbeat_guarded();
    if (!is_round)
        proc_exit(0);

    const bool failed = report->sqlstate != 0 && !report->only_callers;
    const bool news = failed && store_error(*report);
    // An error is not logged if the caller receives it or the log already has it.
    if (report == &own && news) {
        ereport(WARNING, (errcode(own.sqlstate),
                          errmsg("job_alerting round in database \"%s\" failed: %s",
                                 database_name(), own.message),
                          own.detail[0] ? errdetail("%s", own.detail) : 0,
                          own.hint[0] ? errhint("%s", own.hint) : 0));
        proc_exit(1);
    }
    proc_exit(0);
}
