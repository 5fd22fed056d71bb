// Keys, and URLs that are secret, are read when they are needed. They are never stored in a
// setting, a table or a log.

#pragma once

#include <stdexcept>
#include <string>

namespace job_alerting::server {

// A secret cannot be used; what() says why, without any part of the secret or the path of its file.
struct BadSecret : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Where a secret is read from.
struct SecretPlace {
    const char *kind;     // for messages: "key"
    const char *setting;  // the setting that names its file
    std::string file;     // value of that setting; may be empty
    const char *variable; // environment variable of the server, used if there is no file
};

// A secret in memory; overwritten when it goes out of scope.
class Secret {
public:
    // Reads the secret. For the rules on file and text, see http/key.hpp. Throws BadSecret.
    explicit Secret(const SecretPlace &place);
    Secret(const Secret &) = delete;
    Secret &operator=(const Secret &) = delete;
    ~Secret();

    const std::string &text() const { return text_; }

private:
    std::string text_;
};

// A user and a password, on two lines of a file; wiped when it goes out of scope. The rules stand
// in http/key.hpp. Throws BadSecret.
class Login {
public:
    explicit Login(const SecretPlace &place);
    Login(const Login &) = delete;
    Login &operator=(const Login &) = delete;
    ~Login();

    const std::string &user() const { return user_; }
    const std::string &password() const { return password_; }

private:
    std::string user_;
    std::string password_;
};

// Overwrites a text that contained a secret.
void wipe(std::string &text);

} // namespace job_alerting::server
