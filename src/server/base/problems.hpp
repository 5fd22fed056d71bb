// The problems of a round, each reported once.

#pragma once

#include <string>
#include <vector>

namespace job_alerting::server {

class Problems {
public:
    // Adds a problem, and the part of the round that it affects ("channel log"), if any. An empty
    // message is ignored.
    void add(const std::string &message, const std::string &part = "");

    bool empty() const { return problems_.empty(); }

    // All problems in one line, in the order added: "channel log, channel slack: refused; …".
    std::string text() const;

private:
    struct Problem {
        std::string message;
        std::vector<std::string> parts;
    };

    std::vector<Problem> problems_;
};

} // namespace job_alerting::server
