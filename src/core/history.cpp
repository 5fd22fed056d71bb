#include "core/history.hpp"

namespace job_alerting::core {

History::History(Digest &digest) {
    for (Group &group : digest.groups) {
        for (Cause &cause : group.causes)
            causes_[cause.identity()].push_back(&cause);
        if (group.broke)
            chains_[group.chain] = &group;
    }
}

void History::take(const Failure &failure, const EarlierDigest &report) {
    const auto same = causes_.find(cause_of(failure).identity());
    if (same == causes_.end())
        return;
    for (Cause *cause : same->second)
        cause->reported = report;
    causes_.erase(same);
}

std::vector<std::string> History::chains() const {
    std::vector<std::string> names;
    for (const auto &[name, group] : chains_)
        names.push_back(name);
    return names;
}

void History::take_break(const Failure &failure, const EarlierDigest &report) {
    const auto chain = chains_.find(failure.chain.value_or(""));
    if (chain == chains_.end() || !is_earlier(failure, *chain->second->broke))
        return;
    chain->second->broke = break_at(failure);
    chain->second->broke->reported = report;
}

bool History::finish(bool complete) {
    const bool marks_all = complete || causes_.empty();
    for (const auto &[identity, causes] : causes_)
        for (Cause *cause : causes)
            cause->is_new = complete;
    causes_.clear();
    return marks_all;
}

} // namespace job_alerting::core
