// Marks the causes that earlier digests reported, and the chains that broke in an earlier digest.

#pragma once

#include "core/digest.hpp"

#include <string>
#include <unordered_map>
#include <vector>

namespace job_alerting::core {

// Takes failures of earlier digests, newest first, and marks the causes of `digest` that they
// share, in any chain. The digest must outlive the History.
class History {
public:
    explicit History(Digest &digest);

    void take(const Failure &failure, const EarlierDigest &report);

    // The names of the digest's chains.
    std::vector<std::string> chains() const;

    // Takes a failure that still stands in one of these chains. If it is earlier than those of this
    // digest, the chain broke there.
    void take_break(const Failure &failure, const EarlierDigest &report);

    // `complete` means that all earlier failures were taken, so a cause without a match is new.
    // Returns true if every cause has a mark.
    bool finish(bool complete);

private:
    std::unordered_map<std::string, std::vector<Cause *>> causes_; // by identity
    std::unordered_map<std::string, Group *> chains_;              // by name
};

} // namespace job_alerting::core
