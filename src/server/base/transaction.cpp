#include "server/base/prelude.hpp"

#include "server/base/transaction.hpp"

#include "server/base/extension.hpp"
#include "server/base/settings.hpp"
#include "server/base/statement.hpp"
#include "server/base/time_limit.hpp"

namespace job_alerting::server {

namespace {

constexpr long stream_batch = 1000;

// Rows in palloc'd memory: a C string for each value, null for NULL.
struct RawRows {
    uint64 rows;
    int columns;
    char **values;
};

RawRows copy_rows(SPITupleTable *table) {
    RawRows raw = {};
    if (!table)
        return raw;
    raw.rows = table->numvals;
    raw.columns = table->tupdesc->natts;
    raw.values = static_cast<char **>(MemoryContextAllocHuge(
        CurrentMemoryContext, sizeof(char *) * Max(raw.rows * raw.columns, 1)));
    for (uint64 row = 0; row < raw.rows; row++)
        for (int column = 0; column < raw.columns; column++)
            raw.values[row * raw.columns + column] =
                SPI_getvalue(table->vals[row], table->tupdesc, column + 1);
    return raw;
}

Row row_of(const RawRows &raw, uint64 index) {
    Row row(raw.columns);
    for (int column = 0; column < raw.columns; column++)
        if (const char *text = raw.values[index * raw.columns + column])
            row[column] = text;
    return row;
}

// Null for NULL. They point into the values.
std::vector<const char *> c_strings(const std::vector<Value> &values) {
    std::vector<const char *> strings;
    for (const Value &value : values)
        strings.push_back(value ? value->c_str() : nullptr);
    return strings;
}

} // namespace

Transaction::Transaction(int lock_timeout) {
    try {
        begin(lock_timeout);
    } catch (...) {
        roll_back();
        throw;
    }
}

Transaction::~Transaction() {
    roll_back();
}

void Transaction::begin(int lock_timeout) {
    Extension extension = {};
    const char *fault = nullptr;
    char limit[16];
    pg_snprintf(limit, sizeof(limit), "%d", lock_timeout);
    open_ = true;
    guarded([&] {
        SetConfigOption("lock_timeout", limit, PGC_SUSET, PGC_S_OVERRIDE);
        SetCurrentStatementStartTimestamp();
        StartTransactionCommand();
        PushActiveSnapshot(GetTransactionSnapshot());
        extension = hold_extension();
        if (OidIsValid(extension.oid)) {
            fault = version_fault(extension);
            SetUserIdAndSecContext(extension.owner, SECURITY_LOCAL_USERID_CHANGE);
        }
        SPI_connect();
    });
    if (!OidIsValid(extension.oid))
        throw ExtensionGone("the database does not have the extension");
    if (fault)
        throw WrongVersion(fault);
}

void Transaction::roll_back() noexcept {
    if (!open_)
        return;
    open_ = false;
    try {
        guarded([] {
            start_connection_limit(lock_timeout_setting());
            AbortOutOfAnyTransaction();
            stop_time_limit();
            pgstat_report_stat(false);
            pgstat_report_activity(STATE_IDLE, nullptr);
        });
    } catch (...) {
        // The state of a process is undefined after a failed abort.
        proc_exit(1);
    }
}

Result Transaction::execute(const char *statement, const std::vector<Value> &parameters) {
    const std::vector<const char *> given = c_strings(parameters);
    RawRows raw = {};
    Result result;
    guarded([&] {
        pgstat_report_activity(STATE_RUNNING, statement);
        SPITupleTable *table =
            server::execute(statement, texts(given.data(), static_cast<int>(given.size())));
        result.touched = SPI_processed;
        raw = copy_rows(table);
        SPI_freetuptable(table);
    });
    for (uint64 row = 0; row < raw.rows; row++)
        result.rows.push_back(row_of(raw, row));
    return result;
}

void Transaction::stream(const char *query, const std::vector<Value> &parameters,
                         const std::function<void(const Row &)> &take) {
    const std::vector<const char *> given = c_strings(parameters);
    Portal portal = nullptr;
    MemoryContext batch = nullptr;
    guarded([&] {
        pgstat_report_activity(STATE_RUNNING, query);
        SPIParseOpenOptions options = {};
        options.params = texts(given.data(), static_cast<int>(given.size()));
        options.read_only = true;
        portal = SPI_cursor_parse_open(nullptr, query, &options);
        batch = AllocSetContextCreate(CurrentMemoryContext, "job_alerting stream",
                                      ALLOCSET_DEFAULT_SIZES);
    });
    for (;;) {
        RawRows raw = {};
        guarded([&] {
            MemoryContextReset(batch);
            SPI_cursor_fetch(portal, true, stream_batch);
            SPITupleTable *table = SPI_tuptable;
            const MemoryContext before = MemoryContextSwitchTo(batch);
            raw = copy_rows(table);
            MemoryContextSwitchTo(before);
            SPI_freetuptable(table);
        });
        for (uint64 row = 0; row < raw.rows; row++)
            take(row_of(raw, row));
        if (raw.rows < stream_batch)
            break;
    }
    guarded([&] {
        SPI_cursor_close(portal);
        MemoryContextDelete(batch);
    });
}

void Transaction::commit() {
    guarded([] {
        SPI_finish();
        PopActiveSnapshot();
        SetUserIdAndSecContext(GetSessionUserId(), 0);
        start_connection_limit(lock_timeout_setting());
        CommitTransactionCommand();
        stop_time_limit();
        pgstat_report_stat(false);
        pgstat_report_activity(STATE_IDLE, nullptr);
    });
    open_ = false;
}

Value value(std::int64_t number) {
    return std::to_string(number);
}

Value value(std::optional<std::int64_t> number) {
    return number ? value(*number) : std::nullopt;
}

std::int64_t number(const Value &value) {
    return std::stoll(value.value());
}

bool flag(const Value &value) {
    return value == "t";
}

} // namespace job_alerting::server
