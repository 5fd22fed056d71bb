#include "server/base/prelude.hpp"

#include "server/base/within.hpp"

namespace job_alerting::server {

namespace {

// A statement that is cancelled takes a subtransaction with it, and no more.
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

    void keep() {
        guarded([&] {
            disable_timeout(STATEMENT_TIMEOUT, false);
            // A limit that was met at the very end must not cancel what comes next.
            CHECK_FOR_INTERRUPTS();
            ReleaseCurrentSubTransaction();
            restore();
        });
    }

    bool is_over(const ServerError &error) const {
        return error.sqlstate == ERRCODE_QUERY_CANCELED &&
               TimestampDifferenceExceeds(start_, GetCurrentTimestamp(), milliseconds_);
    }

    void give_up() {
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

bool within(int milliseconds, const std::function<void()> &work) {
    Attempt attempt(milliseconds);
    try {
        work();
        attempt.keep();
        return true;
    } catch (const ServerError &error) {
        if (!attempt.is_over(error))
            throw;
    }
    attempt.give_up();
    return false;
}

} // namespace job_alerting::server
