#include "server/base/prelude.hpp"

#include "server/base/problems.hpp"

namespace job_alerting::server {

void Problems::add(const std::string &message, const std::string &part) {
    if (message.empty())
        return;
    auto known = std::find_if(problems_.begin(), problems_.end(),
                              [&](const Problem &problem) { return problem.message == message; });
    if (known == problems_.end())
        known = problems_.insert(known, {.message = message, .parts = {}});
    if (!part.empty() &&
        std::find(known->parts.begin(), known->parts.end(), part) == known->parts.end())
        known->parts.push_back(part);
}

std::string Problems::text() const {
    std::string line;
    for (const Problem &problem : problems_) {
        line += line.empty() ? "" : "; ";
        for (const std::string &part : problem.parts)
            line += part + (&part == &problem.parts.back() ? ": " : ", ");
        line += problem.message;
    }
    return line;
}

} // namespace job_alerting::server
