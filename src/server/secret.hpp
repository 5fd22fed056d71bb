// Keys are read when they are needed, and never stand in a setting, a table or a log.

#pragma once

#include <stdexcept>
#include <string>

namespace job_alerting::server {

// A key that cannot be used; what() says why, and never holds any of it.
struct BadSecret : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// A secret in memory; wiped when it goes out of scope.
class Secret {
public:
    // From `file`, or, when that is empty, from the environment variable `variable`; what they have
    // to be is said in http/key.hpp. A line end is not part of it. Throws BadSecret.
    Secret(const std::string &file, const char *variable);
    Secret(const Secret &) = delete;
    Secret &operator=(const Secret &) = delete;
    ~Secret();

    const std::string &text() const { return text_; }

private:
    std::string text_;
};

// Overwrites a text that held a secret.
void wipe(std::string &text);

} // namespace job_alerting::server
