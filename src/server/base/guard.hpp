// The boundary between C++ and the server.
//
// The server reports an error with longjmp, which skips the destructors of all frames in between.
// Code is therefore written in one of two regimes, and guarded() separates them:
//
//   inside guarded(...)   C: call the server; create no object that has a destructor
//   outside               C++: call no server function that can raise an error
//
// Code that runs in a user's session (watch, run_digest, sandbox) is in the C regime throughout and
// lets errors propagate to the server. Report a warning or log message in the C regime, too:
// ereport() processes interrupts.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

// A server error as a C++ exception. The server's state is clean when it is thrown, except for the
// transaction, which its owner must abort.
struct ServerError : std::runtime_error {
    int sqlstate;
    std::string detail;
    std::string hint;

    explicit ServerError(const ErrorData &data)
        : std::runtime_error(data.message ? data.message : "unknown error"),
          sqlstate(data.sqlerrcode), detail(data.detail ? data.detail : ""),
          hint(data.hint ? data.hint : "") {}

    // The message and its detail, to be shown to a user.
    std::string words() const { return detail.empty() ? what() : what() + (". " + detail); }
};

// Restores the server's error handling on every exit from the block.
class ErrorHandling {
public:
    ErrorHandling() : jump_(PG_exception_stack), callbacks_(error_context_stack) {}
    ErrorHandling(const ErrorHandling &) = delete;
    ErrorHandling &operator=(const ErrorHandling &) = delete;
    ~ErrorHandling() { restore(); }

    void restore() const {
        PG_exception_stack = jump_;
        error_context_stack = callbacks_;
    }

private:
    sigjmp_buf *jump_;
    ErrorContextCallback *callbacks_;
};

// Runs `work` in the C regime. Throws ServerError if the server raises an error. The current memory
// context is then TopMemoryContext, because the one in which `work` began may be gone: SPI_finish()
// and the end of a transaction delete it.
template <typename Work> void guarded(Work &&work) {
    const ErrorHandling handling;
    sigjmp_buf jump;
    if (sigsetjmp(jump, 0) == 0) {
        PG_exception_stack = &jump;
        work();
        return;
    }
    handling.restore();
    MemoryContextSwitchTo(TopMemoryContext);
    ErrorData *data = CopyErrorData();
    FlushErrorState();
    ServerError error(*data);
    FreeErrorData(data);
    throw error;
}

// Reports a warning from the C++ regime. Throws ServerError if an interrupt was pending.
inline void warn(const std::string &message) {
    guarded([&] { ereport(WARNING, (errmsg_internal("%s", message.c_str()))); });
}

} // namespace job_alerting::server
