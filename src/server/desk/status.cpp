// server_state(): the state of the rounds in shared memory, for the view job_alerting.status. C
// regime throughout.

#include "server/base/prelude.hpp"

#include "server/base/settings.hpp"
#include "server/coordination/shared.hpp"

extern "C" {
PG_FUNCTION_INFO_V1(job_alerting_server_state);
}

namespace job_alerting::server {

namespace {

// Converts a comma-separated list to a text array.
Datum words_of(const char *list) {
    List *words = NIL;
    if (!SplitGUCList(pstrdup(list), ',', &words))
        words = NIL;
    Datum *texts = static_cast<Datum *>(palloc0(sizeof(Datum) * Max(list_length(words), 1)));
    int count = 0;
    ListCell *cell;
    foreach (cell, words)
        texts[count++] = CStringGetTextDatum(static_cast<const char *>(lfirst(cell)));
    return PointerGetDatum(construct_array(texts, count, TEXTOID, -1, false, TYPALIGN_INT));
}

Datum seconds(int64 count) {
    Interval *interval = static_cast<Interval *>(palloc0(sizeof(Interval)));
    interval->time = count * USECS_PER_SEC;
    return IntervalPGetDatum(interval);
}

} // namespace

} // namespace job_alerting::server

extern "C" Datum job_alerting_server_state(PG_FUNCTION_ARGS) {
    using namespace job_alerting::server;

    TupleDesc columns;
    if (get_call_result_type(fcinfo, nullptr, &columns) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    shared::DatabaseState state = {};
    shared::find(MyDatabaseId, &state);
    const shared::LauncherState launcher = shared::launcher();
    // Before the first round, the channels are those of the setting.
    const char *channels = state.last_round != 0
                               ? state.channels
                               : GetConfigOption("job_alerting.channels", false, false);
    const char *awaited =
        OidIsValid(launcher.awaited) ? get_database_name(launcher.awaited) : nullptr;
    const int under_way = state.since != 0 ? 1 : 0;
    Datum values[] = {BoolGetDatum(shared::exists()),
                      Int32GetDatum(launcher.pid),
                      TimestampTzGetDatum(state.last_round),
                      TimestampTzGetDatum(state.due),
                      seconds(interval_setting()),
                      Int32GetDatum(Max(state.unfinished - under_way, 0)),
                      words_of(channels),
                      CStringGetTextDatum(state.problem),
                      TimestampTzGetDatum(state.since),
                      Int32GetDatum(state.worker),
                      BoolGetDatum(state.terminating != 0),
                      awaited ? CStringGetTextDatum(awaited) : static_cast<Datum>(0),
                      TimestampTzGetDatum(launcher.awaited_since)};
    bool nulls[] = {false,
                    launcher.pid == 0,
                    state.last_round == 0,
                    launcher.pid == 0 || state.absent || state.due == 0,
                    false,
                    false,
                    false,
                    state.problem[0] == '\0',
                    state.since == 0,
                    state.worker == 0,
                    false,
                    !awaited,
                    !awaited};
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(columns, values, nulls)));
}
