#include "server/base/prelude.hpp"

#include "server/queue/details.hpp"

#include "server/queue/sandbox.hpp"

namespace job_alerting::server {

namespace {

struct Reader {
    Attempt attempt;
    void *argument;
    int time_limit;
    TimestampTz start; // of what has that limit
};

// The time that is left; 0 where there is no limit.
int remaining(const Reader &reader) {
    if (reader.time_limit == 0)
        return 0;
    const long passed = TimestampDifferenceMilliseconds(reader.start, GetCurrentTimestamp());
    return reader.time_limit - static_cast<int>(std::min<long>(passed, reader.time_limit - 1));
}

bool is_over(const Reader &reader) {
    return reader.time_limit > 0 &&
           TimestampDifferenceExceeds(reader.start, GetCurrentTimestamp(), reader.time_limit);
}

// Returns the error that a try ended in, null when it did not.
ErrorData *error_of(const Reader &reader, const FailureColumns &wanted, Progress &progress) {
    const MemoryContext context = CurrentMemoryContext;
    ErrorData *volatile error = nullptr;
    progress = {};
    PG_TRY();
    { reader.attempt(reader.argument, wanted, remaining(reader), progress); }
    PG_CATCH();
    {
        MemoryContextSwitchTo(context);
        error = CopyErrorData();
        FlushErrorState();
    }
    PG_END_TRY();
    return error;
}

char *words_of(const ErrorData *error) {
    return error->detail ? psprintf("%s. %s", error->message, error->detail) : error->message;
}

void must_succeed(const Reader &reader, const FailureColumns &wanted) {
    Progress progress;
    if (ErrorData *error = error_of(reader, wanted, progress))
        ReThrowError(error);
}

FailureColumns all_columns() {
    FailureColumns columns;
    std::fill(std::begin(columns.present), std::end(columns.present), true);
    return columns;
}

// Whether a detail can be read, and in time; keeps why not.
bool can_read(const Reader &reader, const FailureColumns &wanted, char *&why) {
    if (is_over(reader))
        return false;
    Progress progress;
    ErrorData *error = error_of(reader, wanted, progress);
    if (!error)
        return true;
    if (error->sqlerrcode == ERRCODE_QUERY_CANCELED && !is_over(reader))
        ReThrowError(error);
    forget_sandbox_error();
    why = why ? why : words_of(error);
    return false;
}

// Adds one detail after the other to what can be read.
Omission read_one_by_one(const Reader &reader, const FailureColumns &columns) {
    StringInfoData omitted;
    initStringInfo(&omitted);
    char *why = nullptr;
    FailureColumns wanted = without_details(columns);
    must_succeed(reader, wanted);
    for (int i = 0; i < failure_column_count; i++) {
        if (wanted.present[i] == columns.present[i])
            continue;
        wanted.present[i] = true;
        wanted.present[i] = can_read(reader, wanted, why);
        if (!wanted.present[i])
            appendStringInfo(&omitted, "%s%s", omitted.len ? ", " : "", failure_columns[i].name);
    }
    return {.columns = omitted.len ? omitted.data : nullptr,
            .error = why ? why : pstrdup("there was no time for it")};
}

} // namespace

Omission read_details(Attempt attempt, void *argument, int left, int time_limit,
                      void (*before_again)(int time_limit)) {
    Reader reader = {.attempt = attempt,
                     .argument = argument,
                     .time_limit = left,
                     .start = GetCurrentTimestamp()};
    Progress progress;
    ErrorData *error = error_of(reader, all_columns(), progress);
    if (!error)
        return {};
    const bool cancelled = error->sqlerrcode == ERRCODE_QUERY_CANCELED;
    const bool in_time = !is_over(reader);
    if (!progress.in_details || (cancelled && (in_time || !has_steps(progress.columns))))
        ReThrowError(error);

    if (before_again)
        before_again(time_limit);
    reader.time_limit = time_limit;
    reader.start = GetCurrentTimestamp();
    if (!cancelled)
        return read_one_by_one(reader, progress.columns);
    must_succeed(reader, without_steps(progress.columns));
    return {.columns = pstrdup("never_ran"), .error = words_of(error)};
}

} // namespace job_alerting::server
