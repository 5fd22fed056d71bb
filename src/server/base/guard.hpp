// The boundary between C++ and the server.
//
// The server reports an error by jumping out of the frame it is in, over every destructor on the
// way. So there are two regimes, and guarded() is the door between them:
//
//   inside guarded(...)   C: call the server; create no object that has a destructor
//   outside               C++: call nothing of the server that can raise an error
//
// Code that works for a user's session (watch, run_digest, sandbox) is C throughout and lets
// errors pass to the server. A message that is no error is reported inside, too: reporting it
// serves interrupts.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

// An error of the server, as a C++ exception. The server's own state is clean when it is thrown,
// but for the transaction, which its owner must abort.
struct ServerError : std::runtime_error {
    int sqlstate;
    std::string detail;
    std::string hint;

    explicit ServerError(const ErrorData &data)
        : std::runtime_error(data.message ? data.message : "unknown error"),
          sqlstate(data.sqlerrcode), detail(data.detail ? data.detail : ""),
          hint(data.hint ? data.hint : "") {}

    // The message and its detail, for people.
    std::string words() const { return detail.empty() ? what() : what() + (". " + detail); }
};

// Puts the server's error handling back as it was, however the block is left.
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

// Runs `work` in the C regime. Throws ServerError when the server raises one; TopMemoryContext is
// then current. The context in which `work` began may be gone by then: SPI_finish() deletes it, and
// so does the end of a transaction.
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

// Reports a warning from C++. Throws ServerError when an interrupt was waiting.
inline void warn(const std::string &message) {
    guarded([&] { ereport(WARNING, (errmsg_internal("%s", message.c_str()))); });
}

} // namespace job_alerting::server
