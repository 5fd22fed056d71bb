#include "server/base/prelude.hpp"

#include "server/base/run_with_timeout.hpp"

namespace job_alerting::server {

namespace {

// A subtransaction with a time limit: cancelling a statement aborts only the subtransaction.
class Attempt {
public:
    explicit Attempt(int milliseconds) : milliseconds_(milliseconds) {
        guarded([&] {
            start_ = GetCurrentTimestamp();
            context_ = CurrentMemoryContext;
            resources_ = CurrentResourceOwner;
            BeginInternalSubTransaction(nullptr);
            MemoryContextSwitchTo(context_);
            enable_timeout_after(STATEMENT_TIMEOUT, milliseconds_);
        });
    }
    Attempt(const Attempt &) = delete;
    Attempt &operator=(const Attempt &) = delete;
    ~Attempt() { disable_timeout(STATEMENT_TIMEOUT, false); }

    void commit() {
        guarded([&] {
            disable_timeout(STATEMENT_TIMEOUT, false);
            // A cancellation that arrived last must not affect the next statement.
            CHECK_FOR_INTERRUPTS();
            ReleaseCurrentSubTransaction();
            restore();
        });
    }

    bool has_timed_out(const ServerError &error) const {
        return error.sqlstate == ERRCODE_QUERY_CANCELED &&
               TimestampDifferenceExceeds(start_, GetCurrentTimestamp(), milliseconds_);
    }

    void roll_back() {
        guarded([&] {
            disable_timeout(STATEMENT_TIMEOUT, false);
            QueryCancelPending = false;
            RollbackAndReleaseCurrentSubTransaction();
            restore();
        });
    }

private:
    void restore() const {
        MemoryContextSwitchTo(context_);
        CurrentResourceOwner = resources_;
    }

    const int milliseconds_;
    TimestampTz start_ = 0;
    MemoryContext context_ = nullptr;
    ResourceOwner resources_ = nullptr;
};

} // namespace

bool run_with_timeout(int milliseconds, const std::function<void()> &work) {
    Attempt attempt(milliseconds);
    try {
        work();
        attempt.commit();
        return true;
    } catch (const ServerError &error) {
        if (!attempt.has_timed_out(error))
            throw;
    }
    attempt.roll_back();
    return false;
}

} // namespace job_alerting::server
