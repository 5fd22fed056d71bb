// A transaction of a worker, with SPI connected, run as the extension's owner.

#pragma once

#include "server/base/guard.hpp"

namespace job_alerting::server {

// The extension is not, or no longer, installed in the database.
struct ExtensionGone : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// This library does not support the version of the extension's SQL objects; what() says which.
struct WrongVersion : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// A column value as text; nullopt for NULL.
using Value = std::optional<std::string>;
using Row = std::vector<Value>;

// The rows that a statement returned and the number of rows that it processed.
struct Result {
    std::vector<Row> rows;
    std::uint64_t touched = 0;
};

// Rolls back when it goes out of scope uncommitted. Parameters are of type text; the statement
// casts them. All statements run with search_path = pg_catalog, pg_temp.
class Transaction {
public:
    // `lock_timeout` is in milliseconds; 0 means no limit. Throws ExtensionGone, WrongVersion or
    // ServerError.
    explicit Transaction(int lock_timeout);
    Transaction(const Transaction &) = delete;
    Transaction &operator=(const Transaction &) = delete;
    ~Transaction();

    // Throws ServerError; the transaction is then unusable and must go out of scope.
    Result execute(const char *statement, const std::vector<Value> &parameters = {});

    // Runs a query and passes its rows to `take`, fetching them in batches to bound memory.
    void stream(const char *query, const std::vector<Value> &parameters,
                const std::function<void(const Row &)> &take);

    // Runs code of the C regime in this transaction. Throws ServerError.
    template <typename Work> void run(Work &&work) { guarded(work); }

    // Commits. On return the commit is durable on this machine, whatever synchronous_commit says;
    // it does not wait for a standby.
    void commit();

private:
    void begin(int lock_timeout);
    void roll_back() noexcept;

    bool open_ = false;
};

// Conversions to parameter values.
Value value(std::int64_t number);
Value value(std::optional<std::int64_t> number);

// Converts a result column that is a non-null integer.
std::int64_t number(const Value &value);

// Converts a boolean result column; false for NULL.
bool flag(const Value &value);

} // namespace job_alerting::server
