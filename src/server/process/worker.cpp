// A worker: one round over one database, or another task in it, then it ends.

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

// One for each digest that was tried or waits; where there is none, one for the channel. What is
// wrong with the channel stands in its last.
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

// The round is over, and its caller may have gone: nothing waits for him for long.
bool answer(dsm_segment *segment, const RoundReport &round) {
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

void report_nothing(WorkerReport &report) {
    report_error(report, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "no queue is watched",
                 "A round sees what is committed.",
                 "Call job_alerting.watch('my_schema.my_jobs'), and commit.");
}

double due_in(std::optional<double> retry) {
    const double interval = static_cast<double>(interval_setting());
    return std::min(interval, std::max(1.0, retry.value_or(interval)));
}

void tell_launcher(const RoundReport &round) {
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

// Runs the round, and tells its end to the launcher and to its caller, if it has one.
void work_round(bool by_hand, dsm_segment *segment, WorkerReport &report) {
    try {
        const RoundReport round = run_round(by_hand);
        tell_launcher(round);
        report.did_all = did_all(round);
        report.only_callers = true;
        if (!round.watched)
            report_nothing(report);
        else if (segment && !answer(segment, round))
            report_error(report, ERRCODE_OPERATOR_INTERVENTION,
                         "the rows of the round were not read in time",
                         "The round is over, and what it committed stays.");
    } catch (const ExtensionGone &gone) {
        report.only_callers = true;
        report_error(report, ERRCODE_UNDEFINED_OBJECT, gone.what());
        guarded([] { shared::extension_absent(MyDatabaseId); });
    }
}

// Does what a session asked for that is no round, and returns its rows.
void work_aside(Task task, dsm_segment *segment, WorkerReport &report) {
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
        report_nothing(report);
    }
}

// The last of all, so that nothing depends on it. No exception and no error leaves it.
void send_heartbeat_guarded() noexcept {
    try {
        send_heartbeat();
    } catch (const std::exception &) {
        // The watchdog will notice.
    } catch (...) {
    }
}

// No exception and no error of the server leaves it.
void work_guarded(const WorkOrder &order, dsm_segment *segment, WorkerReport &report) noexcept {
    try {
        if (order.task == Task::round)
            work_round(order.by_hand, segment, report);
        else
            work_aside(order.task, segment, report);
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

// A round is under way: it does what this one would, and tells the launcher.
[[noreturn]] void leave_out(const WorkOrder &order) {
    shared::round_skipped(order.database);
    proc_exit(0);
}

const char *database_name() {
    return MyBgworkerEntry->bgw_name + strlen("job_alerting worker for ");
}

// Somebody may hold the database itself, so that no session begins in it.
[[noreturn]] void tell_held_database(Oid database) {
    const char *why =
        "no session can begin in the database, since a lock is held on it, as by ALTER "
        "DATABASE ... RENAME (see pg_locks)";
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
            tell_held_database(order.database);
        PG_RE_THROW();
    }
    PG_END_TRY();
}

// From here on the caller, when it goes, ends this process; unless it has gone already.
void serve_caller(WorkerReport *report) {
    report->worker = MyProcPid;
    pg_memory_barrier();
    if (pg_atomic_read_u32(&report->stage) == stage_abandoned)
        proc_exit(0);
}

// Takes the lock of the rounds. A round that has begun is finished, caller or none.
void begin_round(const WorkOrder &order, WorkerReport *report) {
    if (!take_round_lock(order.by_hand))
        leave_out(order);
    if (!move_to(report, stage_fixed))
        proc_exit(0);
    shared::round_begins(order.database, order.by_hand);
}

// What the status will say of it. Returns whether it is another failure than that of the round
// before.
bool round_failed(const WorkerReport &report) {
    char *problem = psprintf("the round failed: %s%s%s", report.message, report.hint[0] ? ": " : "",
                             report.hint);
    const size_t length = strlen(problem);
    if (problem[length - 1] == '.')
        problem[length - 1] = '\0'; // more is said after it
    return shared::round_failed(MyDatabaseId, problem);
}

} // namespace

} // namespace job_alerting::server

// C regime, but for the call of work_guarded().
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
        leave_out(order);
    connect(order);
    prepare_time_limits();
    prepare_sandboxes();

    static WorkerReport own;
    dsm_segment *segment = order.report ? dsm_attach(order.report) : nullptr;
    if (order.report && !segment)
        proc_exit(0); // the caller has not waited
    WorkerReport *report =
        segment ? static_cast<WorkerReport *>(dsm_segment_address(segment)) : &own;
    serve_caller(report);
    if (is_round)
        begin_round(order, report);
    work_guarded(order, segment, *report);
    pg_write_barrier();
    report->finished = true;
    move_to(report, stage_fixed);
    if (report->did_all)
        send_heartbeat_guarded();
    if (!is_round)
        proc_exit(0);

    const bool failed = report->sqlstate != 0 && !report->only_callers;
    const bool news = failed && round_failed(*report);
    // What its caller is told, or what was told before, needs no line in the log.
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
