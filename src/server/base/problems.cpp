#include "server/base/prelude.hpp"

#include "server/base/problems.hpp"

namespace job_alerting::server {

void Problems::add(const std::string &what, const std::string &where) {
    if (what.empty())
        return;
    auto known = std::find_if(problems_.begin(), problems_.end(),
                              [&](const Problem &problem) { return problem.what == what; });
    if (known == problems_.end())
        known = problems_.insert(known, {.what = what, .where = {}});
    if (!where.empty() &&
        std::find(known->where.begin(), known->where.end(), where) == known->where.end())
        known->where.push_back(where);
}

std::string Problems::text() const {
    std::string line;
    for (const Problem &problem : problems_) {
        line += line.empty() ? "" : "; ";
        for (const std::string &where : problem.where)
            line += where + (&where == &problem.where.back() ? ": " : ", ");
        line += problem.what;
    }
    return line;
}

} // namespace job_alerting::server
