// Which causes of a digest were reported before, and when last; and which of its chains had broken
// before.

#pragma once

#include "core/digest.hpp"

#include <string>
#include <unordered_map>
#include <vector>

namespace job_alerting::core {

// Takes failures of earlier digests, the newest first, and marks the causes that they share with
// `digest`, whatever the chain.
class History {
public:
    explicit History(Digest &digest);

    void take(const Failure &failure, const EarlierDigest &report);

    // The names of the digest's chains.
    std::vector<std::string> chains() const;

    // Takes a failure of an earlier digest that still stands in one of them: if it is sooner than
    // those of this digest, the chain broke there.
    void take_break(const Failure &failure, const EarlierDigest &report);

    // `complete`: nothing was left out, so a cause that was not met is new. Returns whether each
    // cause has a mark now.
    bool finish(bool complete);

private:
    std::unordered_map<std::string, std::vector<Cause *>> causes_; // by all that makes one
    std::unordered_map<std::string, Group *> chains_;              // by name
};

} // namespace job_alerting::core
