// One unit of work of a worker: a transaction with SPI, as the extension's owner.

#pragma once

#include "server/base/guard.hpp"

namespace job_alerting::server {

// The database does not have the extension, or no longer. Nothing is left to do.
struct ExtensionGone : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Its SQL objects are of a version that this library does not work with; what() says so.
struct WrongVersion : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// A value of a row, as text; nothing for NULL.
using Value = std::optional<std::string>;
using Row = std::vector<Value>;

// What a statement returned, and how many rows it touched.
struct Result {
    std::vector<Row> rows;
    std::uint64_t touched = 0;
};

// Rolls back when it goes out of scope uncommitted. Parameters travel as text; the statement
// casts them. All statements run with search_path = pg_catalog, pg_temp.
class Transaction {
public:
    // Waits for locks at most `lock_timeout` milliseconds (0: for ever). Throws ExtensionGone,
    // WrongVersion or ServerError.
    explicit Transaction(int lock_timeout);
    Transaction(const Transaction &) = delete;
    Transaction &operator=(const Transaction &) = delete;
    ~Transaction();

    // Throws ServerError; the transaction can then only be left.
    Result execute(const char *statement, const std::vector<Value> &parameters = {});

    // Runs a query and gives its rows to `take`, a batch at a time, so that memory stays flat.
    void stream(const char *query, const std::vector<Value> &parameters,
                const std::function<void(const Row &)> &take);

    // Runs server code of the C regime in this transaction. Throws ServerError.
    template <typename Work> void run(Work &&work) { guarded(work); }

    // Durable on this machine when it returns, whatever synchronous_commit says; waits for no
    // standby.
    void commit();

private:
    void begin(int lock_timeout);
    void roll_back() noexcept;

    bool open_ = false;
};

// Values as the statements' parameters want them.
Value value(std::int64_t number);
Value value(std::optional<std::int64_t> number);

// Reads a number that the statement promised.
std::int64_t number(const Value &value);

// Reads a truth value; false for NULL.
bool flag(const Value &value);

} // namespace job_alerting::server
