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
    // From `file`, or, when that is empty, from the environment variable `variable`. The file must
    // be a regular one as the server wants ssl_key_file: the server user's with no access for
    // others, or root's with at most read access for the group. At most 4 KiB, one line, no control
    // characters. Throws BadSecret.
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
