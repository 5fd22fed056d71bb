// Selects the part of a digest that a message shows, and counts the rest.

#pragma once

#include "core/digest.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace job_alerting::core {

// The amount that a message shows.
struct Extent {
    std::size_t blocks = 0; // causes
    std::size_t jobs = 0;   // jobs listed one by one under these causes

    bool is_nothing() const { return blocks == 0 && jobs == 0; }
};

// The whole digest, within the limits of a mail.
Extent full_extent(const Digest &digest, std::size_t max_listed);

// A smaller extent, after a rendering had `size` bytes instead of `limit`. Drops jobs first, and
// causes only when few jobs are left: a cause that is not shown goes unnoticed. Repeated calls
// end at nothing.
Extent reduced(Extent extent, std::size_t size, std::size_t limit);

// The same if only causes count towards the limit.
Extent fewer_causes(Extent extent, std::size_t size, std::size_t limit);

struct Block {
    const Cause *cause = nullptr;
    std::size_t jobs = 0; // of cause->listed
};

// The omitted part.
struct Rest {
    std::int64_t causes = 0;
    std::int64_t failures = 0; // of these causes
    bool complete = true;      // false: the digest has unnamed failures of further causes
};

struct Section {
    enum class Kind { unreadable_queues, chain, without_chain };

    Kind kind = Kind::without_chain;
    std::string chain;
    std::int64_t failures = 0;
    std::vector<Block> blocks;
    std::optional<Break> broke;         // only for a chain
    std::vector<std::string> never_ran; // likewise
    Rest rest;
};

struct Layout {
    std::vector<Section> sections; // each has at least one block
    Rest rest;                     // of the omitted sections
};

// Unreadable queues come first: the digest cannot report failures in them.
Layout layout_of(const Digest &digest, Extent extent);

} // namespace job_alerting::core
