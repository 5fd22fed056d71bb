#include "server/base/prelude.hpp"

#include "server/queue/sandbox.hpp"

#include "server/base/settings.hpp"
#include "server/base/time_limit.hpp"
#include "server/queue/advisory_locks.hpp"

namespace job_alerting::server {

namespace {

bool last_failed = false;
bool last_met_limit = false;
double milliseconds = 0;

// Set only in a worker.
bool counts_messages = false;
emit_log_hook_type next_log_hook = nullptr;

// Whether a sandbox is open. A scan may run its query in several sandboxes, so the messages below
// level ERROR are counted per queue.
bool listening = false;
int64 messages = 0;
char *counted_queue = nullptr;

bool met_limit(TimestampTz start, int time_limit) {
    return time_limit > 0 && TimestampDifferenceExceeds(start, GetCurrentTimestamp(), time_limit);
}

// Limits the length of an error text, which is copied many times.
void clip(char *text) {
    constexpr int max_bytes = 4000;
    if (text)
        text[pg_mbcliplen(text, static_cast<int>(strlen(text)), max_bytes)] = '\0';
}

void clip_texts(ErrorData *error) {
    clip(error->message);
    clip(error->detail);
    clip(error->detail_log);
    clip(error->hint);
    clip(error->context);
    clip(error->internalquery);
}

// Whether a message logs a statement, as auto_explain does. Functions in SQL or a procedural
// language cannot raise such a message.
bool logs_statement(const ErrorData *message) {
    return message->elevel == LOG && message->hide_stmt;
}

// Log hook: suppresses all but the first message of a failure query, which can raise any number of
// messages at any level.
void limit_messages(ErrorData *message) {
    if (listening && message->elevel < ERROR && !logs_statement(message)) {
        if (messages++ > 0) {
            message->output_to_server = false;
            return;
        }
        clip_texts(message);
    }
    if (next_log_hook)
        next_log_hook(message);
}

void confine(const char *owner) {
    char limit[16];
    pg_snprintf(limit, sizeof(limit), "%d", lock_timeout_setting());
    set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
                      GUC_ACTION_SAVE, true, 0, false);
    // Identities contain timestamps as text.
    set_config_option("datestyle", "ISO, YMD", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
                      false);
    // A query that is tried in a session must be parsed as in a round.
    set_config_option("standard_conforming_strings", "on", PGC_USERSET, PGC_S_SESSION,
                      GUC_ACTION_SAVE, true, 0, false);
    set_config_option("lock_timeout", limit, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
                      false);
    // Row-level security must apply to the owner as in the owner's own session.
    set_config_option("row_security", "on", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
                      false);
    XactReadOnly = true;
    SetUserIdAndSecContext(get_role_oid(owner, false),
                           SECURITY_RESTRICTED_OPERATION | SECURITY_LOCAL_USERID_CHANGE);
}

double milliseconds_since(instr_time start) {
    instr_time now;
    INSTR_TIME_SET_CURRENT(now);
    INSTR_TIME_SUBTRACT(now, start);
    return INSTR_TIME_GET_MILLISEC(now);
}

const char *name_of_query(const char *queue) {
    return queue ? psprintf("the failure query of queue \"%s\"", queue) : "the failure query";
}

void count_for(const char *queue) {
    if (counted_queue && queue && strcmp(counted_queue, queue) == 0)
        return;
    messages = 0;
    if (counted_queue)
        pfree(counted_queue);
    counted_queue = queue ? MemoryContextStrdup(TopMemoryContext, queue) : nullptr;
}

// Starts counting messages. Returns the number counted before, or -1 in a nested sandbox, which
// does not count: a failure query may itself call watch_query().
int64 begin_listening(const char *queue) {
    if (listening || !counts_messages)
        return -1;
    count_for(queue);
    listening = true;
    return messages;
}

void end_listening(int64 before, const char *queue) {
    if (before < 0)
        return;
    listening = false;
    const int64 suppressed = messages - Max(before, 1);
    if (suppressed > 0)
        ereport(WARNING, (errmsg("%s raised %lld more messages, which are not logged",
                                 name_of_query(queue), static_cast<long long>(suppressed))));
}

void release_leftovers(const List *locks, const char *queue) {
    const int released = release_advisory_locks(locks);
    if (released > 0)
        ereport(WARNING,
                (errmsg("%s left %d session-level advisory locks, which were released",
                        name_of_query(queue), released),
                 errhint("A failure query must not call pg_advisory_lock() or another function "
                         "that takes a session-level lock.")));
}

// Replaces the error by that of an exceeded time limit: the error of a connection that the limit
// has shut down would mislead.
void report_limit(ErrorData *error) {
    error->sqlerrcode = ERRCODE_QUERY_CANCELED;
    error->message = psprintf("the failure query took longer than job_alerting.scan_timeout "
                              "(%d ms)",
                              scan_timeout_setting());
    error->detail = nullptr;
    error->hint = nullptr;
}

// Runs the work in the subtransaction that was begun. Returns the error that it raised, in
// `context`; null for none.
ErrorData *run_confined(const Confinement &confinement, void (*work)(void *), void *argument,
                        TimestampTz start, MemoryContext context) {
    const int time_limit = confinement.time_limit;
    ErrorData *volatile error = nullptr;
    PG_TRY();
    {
        confine(confinement.owner);
        if (time_limit > 0)
            start_time_limit(time_limit);
        work(argument);
        if (time_limit > 0)
            stop_cancelling();
        // A cancellation that arrived last must not affect the next statement.
        CHECK_FOR_INTERRUPTS();
    }
    PG_CATCH();
    {
        if (time_limit > 0)
            stop_cancelling();
        if (met_limit(start, time_limit))
            QueryCancelPending = false; // the cancelled statement has ended
        MemoryContextSwitchTo(context);
        error = CopyErrorData();
        clip_texts(error);
        FlushErrorState();
    }
    PG_END_TRY();
    return error;
}

} // namespace

void prepare_sandboxes() {
    counts_messages = true;
    next_log_hook = emit_log_hook;
    emit_log_hook = limit_messages;
}

bool last_sandbox_failed() {
    return last_failed;
}

void forget_sandbox_error() {
    last_failed = false;
}

bool last_sandbox_met_limit() {
    return last_met_limit;
}

double time_in_sandboxes() {
    return milliseconds;
}

bool is_limit(int sqlstate) {
    return sqlstate == ERRCODE_LOCK_NOT_AVAILABLE || sqlstate == ERRCODE_QUERY_CANCELED;
}

void sandboxed(const Confinement &confinement, void (*work)(void *), void *argument) {
    const int time_limit = confinement.time_limit;
    const MemoryContext context = CurrentMemoryContext;
    const ResourceOwner resources = CurrentResourceOwner;
    const TimestampTz start = GetCurrentTimestamp();
    instr_time clock;
    INSTR_TIME_SET_CURRENT(clock);
    const List *locks = held_advisory_locks();
    const int64 messages_before = begin_listening(confinement.queue);

    BeginInternalSubTransaction(nullptr);
    ErrorData *error = run_confined(confinement, work, argument, start, context);
    // The rollback may wait for foreign servers, so the time limit is still active.
    RollbackAndReleaseCurrentSubTransaction();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = resources;
    if (time_limit > 0)
        stop_time_limit();
    end_listening(messages_before, confinement.queue);
    release_leftovers(locks, confinement.queue);
    last_failed = error != nullptr;
    last_met_limit = error && met_limit(start, time_limit) &&
                     (error->sqlerrcode == ERRCODE_QUERY_CANCELED || has_cut_connections());
    milliseconds += milliseconds_since(clock);

    if (!error)
        return;
    if (last_met_limit)
        report_limit(error);
    ReThrowError(error);
}

} // namespace job_alerting::server
