#include "server/base/prelude.hpp"

#include "server/queue/details.hpp"

#include "server/queue/sandbox.hpp"

namespace job_alerting::server {

namespace {

struct Limit {
    int milliseconds; // 0 for none
    TimestampTz start;
};

Limit limit_of(int milliseconds) {
    return {.milliseconds = milliseconds, .start = GetCurrentTimestamp()};
}

// The time that is left; 0 without a limit.
int remaining(const Limit &limit) {
    if (limit.milliseconds == 0)
        return 0;
    const long passed = TimestampDifferenceMilliseconds(limit.start, GetCurrentTimestamp());
    return limit.milliseconds - static_cast<int>(std::min<long>(passed, limit.milliseconds - 1));
}

bool is_over(const Limit &limit) {
    return limit.milliseconds > 0 &&
           TimestampDifferenceExceeds(limit.start, GetCurrentTimestamp(), limit.milliseconds);
}

// Returns the error that the work raised; null for none.
template <typename Work> ErrorData *error_of(Work &&work) {
    const MemoryContext context = CurrentMemoryContext;
    ErrorData *volatile error = nullptr;
    PG_TRY();
    { work(); }
    PG_CATCH();
    {
        MemoryContextSwitchTo(context);
        error = CopyErrorData();
        FlushErrorState();
    }
    PG_END_TRY();
    return error;
}

struct Reader {
    Attempt attempt;
    void *argument;
    Limit limit;
};

ErrorData *try_to_read(const Reader &reader, const FailureColumns &wanted, Progress &progress) {
    progress = {};
    return error_of(
        [&] { reader.attempt(reader.argument, wanted, remaining(reader.limit), progress); });
}

void must_read(const Reader &reader, const FailureColumns &wanted) {
    Progress progress;
    if (ErrorData *error = try_to_read(reader, wanted, progress))
        ReThrowError(error);
}

FailureColumns all_columns() {
    FailureColumns columns;
    std::fill(std::begin(columns.present), std::end(columns.present), true);
    return columns;
}

char *words_of(const ErrorData *error) {
    return error->detail ? psprintf("%s. %s", error->message, error->detail) : error->message;
}

// The failures can do without the detail that this error comes from, unless somebody cancelled it.
void omit(const char *name, ErrorData *error, const Limit &limit, Omission &omission) {
    if (error && error->sqlerrcode == ERRCODE_QUERY_CANCELED && !is_over(limit))
        ReThrowError(error);
    forget_sandbox_error();
    omission.columns =
        omission.columns ? psprintf("%s, %s", omission.columns, name) : pstrdup(name);
    if (!omission.error)
        omission.error = error ? words_of(error) : pstrdup("there was no time for it");
}

Omission read_one_by_one(const Reader &reader, const FailureColumns &columns) {
    Omission omission = {};
    FailureColumns wanted = without_details(columns);
    must_read(reader, wanted);
    for (int i = 0; i < failure_row_columns; i++) {
        if (wanted.present[i] == columns.present[i])
            continue;
        wanted.present[i] = true;
        Progress progress;
        ErrorData *error = nullptr;
        if (!is_over(reader.limit)) {
            error = try_to_read(reader, wanted, progress);
            if (!error)
                continue;
        }
        wanted.present[i] = false;
        omit(failure_columns[i].name, error, reader.limit, omission);
    }
    return omission;
}

} // namespace

Omission read_details(Attempt attempt, void *argument, int left, int time_limit,
                      void (*before_again)(int time_limit)) {
    Reader reader = {.attempt = attempt, .argument = argument, .limit = limit_of(left)};
    Progress progress;
    ErrorData *error = try_to_read(reader, all_columns(), progress);
    if (!error)
        return {};
    if (!progress.in_details || error->sqlerrcode == ERRCODE_QUERY_CANCELED)
        ReThrowError(error);

    if (before_again)
        before_again(time_limit);
    reader.limit = limit_of(time_limit);
    return read_one_by_one(reader, progress.columns);
}

bool read_detail(const char *name, void (*work)(void *), void *argument, int time_limit,
                 Omission &omission) {
    const Limit limit = limit_of(time_limit);
    ErrorData *error = error_of([&] { work(argument); });
    if (error)
        omit(name, error, limit, omission);
    return !error;
}

} // namespace job_alerting::server
