// Keys, and addresses that are keys, are read when they are needed, and never stand in a setting, a
// table or a log.

#pragma once

#include <stdexcept>
#include <string>

namespace job_alerting::server {

// A secret that cannot be used; what() says why, and holds neither any of it nor its file's path.
struct BadSecret : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Where a secret is looked for.
struct SecretPlace {
    const char *what;     // it is, for people: "key"
    const char *setting;  // that names its file
    std::string file;     // as that setting says; empty for none
    const char *variable; // of the server's environment, where no file is named
};

// A secret in memory; wiped when it goes out of scope.
class Secret {
public:
    // The rules for file and text stand in http/key.hpp. Throws BadSecret.
    explicit Secret(const SecretPlace &place);
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
