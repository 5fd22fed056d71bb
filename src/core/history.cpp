#include "core/history.hpp"

namespace job_alerting::core {

History::History(Digest &digest) {
    for (Group &group : digest.groups)
        for (Cause &cause : group.causes)
            causes_[cause.identity()].push_back(&cause);
}

void History::take(const Failure &failure, const Report &report) {
    const auto same = causes_.find(cause_of(failure).identity());
    if (same == causes_.end())
        return;
    for (Cause *cause : same->second)
        cause->reported = report;
    causes_.erase(same);
}

void History::finish(bool complete) {
    for (const auto &[identity, causes] : causes_)
        for (Cause *cause : causes)
            cause->is_new = complete;
    causes_.clear();
}

} // namespace job_alerting::core
