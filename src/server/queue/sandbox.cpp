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

// Set in a worker only.
bool counts_messages = false;
emit_log_hook_type next_log_hook = nullptr;

// Whether a sandbox is open, and the messages below an error of the queue that was in the last one:
// a scan may run its query several times.
bool listening = false;
int64 messages = 0;
char *talker = nullptr;

bool met_limit(TimestampTz start, int time_limit) {
    return time_limit > 0 && TimestampDifferenceExceeds(start, GetCurrentTimestamp(), time_limit);
}

// An owner's error text travels through memory many times.
void clip(char *text) {
    constexpr int most = 4000;
    if (text)
        text[pg_mbcliplen(text, static_cast<int>(strlen(text)), most)] = '\0';
}

void clip_texts(ErrorData *error) {
    clip(error->message);
    clip(error->detail);
    clip(error->detail_log);
    clip(error->hint);
    clip(error->context);
    clip(error->internalquery);
}

// Whether a message tells of a statement, as those of auto_explain do. No function in SQL or
// another language can raise such a message.
bool tells_of_statement(const ErrorData *message) {
    return message->elevel == LOG && message->hide_stmt;
}

// A failure query can raise as many messages as it likes, at any level: one line of it is enough.
void hush(ErrorData *message) {
    if (listening && message->elevel < ERROR && !tells_of_statement(message)) {
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
    // Timestamps become text in identities.
    set_config_option("datestyle", "ISO, YMD", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
                      false);
    // So that a query that is tried in a session reads as it will in a round.
    set_config_option("standard_conforming_strings", "on", PGC_USERSET, PGC_S_SESSION,
                      GUC_ACTION_SAVE, true, 0, false);
    set_config_option("lock_timeout", limit, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
                      false);
    // So that row-level security hides rows from the owner as it does in a session of the owner's.
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

void listen_to(const char *queue) {
    if (talker && queue && strcmp(talker, queue) == 0)
        return;
    messages = 0;
    if (talker)
        pfree(talker);
    talker = queue ? MemoryContextStrdup(TopMemoryContext, queue) : nullptr;
}

// A failure query may itself call watch_query(), and so open a sandbox in its sandbox: that one
// hears nothing. Returns how many messages were there before; -1 in such a sandbox.
int64 begin_listening(const char *queue) {
    if (listening || !counts_messages)
        return -1;
    listen_to(queue);
    listening = true;
    return messages;
}

void end_listening(int64 before, const char *queue) {
    if (before < 0)
        return;
    listening = false;
    const int64 hushed = messages - Max(before, 1);
    if (hushed > 0)
        ereport(WARNING, (errmsg("%s raised %lld more messages, which are not logged",
                                 name_of_query(queue), static_cast<long long>(hushed))));
}

void release_leftovers(const List *locks, const char *queue) {
    const int released = release_advisory_locks(locks);
    if (released > 0)
        ereport(WARNING,
                (errmsg("%s left %d advisory locks to its session, which are released",
                        name_of_query(queue), released),
                 errhint("It must call no function like pg_advisory_lock() that locks for the "
                         "session.")));
}

// Where a connection was cut since the time was over, that is what is wrong, and nothing else.
void tell_limit(ErrorData *error) {
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
        // A limit that was met at the very end must not cancel what comes next.
        CHECK_FOR_INTERRUPTS();
    }
    PG_CATCH();
    {
        if (time_limit > 0)
            stop_cancelling();
        if (met_limit(start, time_limit))
            QueryCancelPending = false; // it is over
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
    emit_log_hook = hush;
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
    // Foreign servers are told, too, and may not answer: the limit lasts until they have.
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
        tell_limit(error);
    ReThrowError(error);
}

} // namespace job_alerting::server
