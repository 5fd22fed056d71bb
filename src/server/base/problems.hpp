// The faults of a round, each said once.

#pragma once

#include <string>
#include <vector>

namespace job_alerting::server {

class Problems {
public:
    // Adds that `what` is wrong, with a channel, say; `where` is empty when it needs no name.
    void add(const std::string &what, const std::string &where = "");

    bool empty() const { return problems_.empty(); }

    // All of it in one line, in the order of coming: "channel log, channel slack: refused; …".
    std::string text() const;

private:
    struct Problem {
        std::string what;
        std::vector<std::string> where;
    };

    std::vector<Problem> problems_;
};

} // namespace job_alerting::server
