// Which part of a digest a mail shows; what it does not show, it counts.

#pragma once

#include "core/digest.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace job_alerting::core {

// How much is shown.
struct Extent {
    std::size_t blocks = 0; // causes
    std::size_t jobs = 0;   // jobs listed one by one in them

    bool is_nothing() const { return blocks == 0 && jobs == 0; }
};

// All that there is to show, as far as a mail can hold it.
Extent whole(const Digest &digest, std::size_t max_listed);

// Less, for a rendering of `size` bytes where `limit` are allowed: fewer jobs, and fewer causes
// only when few jobs are left, since nobody hears of a cause that is not shown. Gets to nothing in
// the end.
Extent less(Extent extent, std::size_t size, std::size_t limit);

// The same where only causes count towards the limit; at last no job either.
Extent fewer_causes(Extent extent, std::size_t size, std::size_t limit);

struct Block {
    const Cause *cause = nullptr;
    std::size_t jobs = 0; // of cause->listed
};

// What is left out.
struct Rest {
    std::int64_t causes = 0;
    std::int64_t failures = 0; // of these causes
    bool complete = true;      // else there are more causes, whose failures the digest only counts
};

struct Section {
    enum class Kind { unreadable_queues, chain, without_chain };

    Kind kind = Kind::without_chain;
    std::string chain;
    std::int64_t failures = 0;
    std::vector<Block> blocks;
    std::optional<Break> broke;         // of a chain
    std::vector<std::string> never_ran; // likewise
    Rest rest;
};

struct Layout {
    std::vector<Section> sections; // each with a block at least
    Rest rest;                     // of sections that are not shown at all
};

// Queues that could not be read come first, for what they make the mail silent about.
Layout lay_out(const Digest &digest, Extent extent);

} // namespace job_alerting::core
