#include "server/prelude.hpp"

#include "server/sandbox.hpp"

#include "server/settings.hpp"
#include "server/time_limit.hpp"

namespace job_alerting::server {

namespace {

void confine(Oid owner) {
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
    SetUserIdAndSecContext(owner, SECURITY_RESTRICTED_OPERATION | SECURITY_LOCAL_USERID_CHANGE);
}

bool met_limit(TimestampTz start, int time_limit) {
    return time_limit > 0 && TimestampDifferenceExceeds(start, GetCurrentTimestamp(), time_limit);
}

// What an owner lets an error say travels through memory many times.
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

// Where a connection was cut since the time was over, that is what is wrong, and nothing else.
void tell_limit(ErrorData *error) {
    error->sqlerrcode = ERRCODE_QUERY_CANCELED;
    error->message = psprintf("the failure query took longer than job_alerting.scan_timeout "
                              "(%d ms)",
                              scan_timeout_setting());
    error->detail = nullptr;
    error->hint = nullptr;
}

} // namespace

bool is_limit(int sqlstate) {
    return sqlstate == ERRCODE_LOCK_NOT_AVAILABLE || sqlstate == ERRCODE_QUERY_CANCELED;
}

void sandboxed(Oid owner, int time_limit, void (*work)(void *), void *argument) {
    const MemoryContext context = CurrentMemoryContext;
    const ResourceOwner resources = CurrentResourceOwner;
    const TimestampTz start = GetCurrentTimestamp();
    ErrorData *volatile error = nullptr;

    BeginInternalSubTransaction(nullptr);
    PG_TRY();
    {
        confine(owner);
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
    // Foreign servers are told, too, and may not answer: the limit lasts until they have.
    RollbackAndReleaseCurrentSubTransaction();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = resources;
    if (time_limit > 0)
        stop_time_limit();

    if (!error)
        return;
    if (met_limit(start, time_limit) &&
        (error->sqlerrcode == ERRCODE_QUERY_CANCELED || has_cut_connections()))
        tell_limit(error);
    ReThrowError(error);
}

} // namespace job_alerting::server
