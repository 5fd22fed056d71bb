#include "server/base/prelude.hpp"

#include "server/base/troubles.hpp"

namespace job_alerting::server {

void Troubles::add(const std::string &what, const std::string &where) {
    if (what.empty())
        return;
    auto known = std::find_if(troubles_.begin(), troubles_.end(),
                              [&](const Trouble &trouble) { return trouble.what == what; });
    if (known == troubles_.end())
        known = troubles_.insert(known, {.what = what, .where = {}});
    if (!where.empty() &&
        std::find(known->where.begin(), known->where.end(), where) == known->where.end())
        known->where.push_back(where);
}

std::string Troubles::text() const {
    std::string line;
    for (const Trouble &trouble : troubles_) {
        line += line.empty() ? "" : "; ";
        for (const std::string &where : trouble.where)
            line += where + (&where == &trouble.where.back() ? ": " : ", ");
        line += trouble.what;
    }
    return line;
}

} // namespace job_alerting::server
