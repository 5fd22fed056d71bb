#include "core/layout.hpp"

#include <algorithm>
#include <utility>

namespace job_alerting::core {

namespace {

constexpr std::size_t max_blocks = 100;
constexpr std::size_t few_jobs = 5; // reduced() drops no cause while more are listed

std::vector<Section> sections_of(const Digest &digest);
bool has_ungrouped_failures(const Digest &digest);
void share_blocks(std::vector<Section> &sections, std::size_t budget);
void share_jobs(std::vector<Section> &sections, std::size_t budget);
void count_omitted(const std::vector<Block> &blocks, std::size_t from, Rest &rest);
std::vector<std::size_t> share(const std::vector<std::size_t> &wanted, std::size_t budget);

std::size_t scaled(std::size_t count, std::size_t size, std::size_t limit) {
    return count == 0 ? 0 : std::min(count - 1, count * limit / size);
}

} // namespace

Extent full_extent(const Digest &digest, std::size_t max_listed) {
    Extent all;
    for (const Group &group : digest.groups) {
        for (const Cause &cause : group.causes) {
            ++all.blocks;
            all.jobs += cause.unreadable_queue ? 0 : cause.listed.size();
        }
    }
    return {std::min(all.blocks, max_blocks), std::min({all.jobs, max_listed, listed_limit})};
}

Extent reduced(Extent extent, std::size_t size, std::size_t limit) {
    if (extent.jobs > few_jobs)
        return {extent.blocks, std::max(few_jobs, scaled(extent.jobs, size, limit))};
    if (extent.blocks > few_jobs)
        return {scaled(extent.blocks, size, limit), extent.jobs};
    return {scaled(extent.blocks, size, limit), scaled(extent.jobs, size, limit)};
}

Extent fewer_causes(Extent extent, std::size_t size, std::size_t limit) {
    if (extent.blocks == 0)
        return {0, 0};
    return {scaled(extent.blocks, size, limit), extent.jobs};
}

Layout layout_of(const Digest &digest, Extent extent) {
    std::vector<Section> sections = sections_of(digest);
    Layout layout;
    layout.rest.complete = !has_ungrouped_failures(digest);
    share_blocks(sections, extent.blocks);
    share_jobs(sections, extent.jobs);
    for (Section &section : sections) {
        if (section.blocks.empty()) {
            layout.rest.causes += section.rest.causes;
            layout.rest.failures += section.rest.failures;
            layout.rest.complete &= section.rest.complete;
        } else {
            layout.sections.push_back(std::move(section));
        }
    }
    return layout;
}

namespace {

void add(Section &section, const Cause &cause) {
    section.failures += cause.count;
    section.blocks.push_back({&cause, 0});
}

// The sections of the whole digest.
std::vector<Section> sections_of(const Digest &digest) {
    std::vector<Section> sections(1);
    sections.front().kind = Section::Kind::unreadable_queues;
    for (const Group &group : digest.groups) {
        Section section;
        section.chain = group.chain;
        if (!group.chain.empty())
            section.kind = Section::Kind::chain;
        section.broke = group.broke;
        section.never_ran = group.never_ran;
        for (const Cause &cause : group.causes)
            add(cause.unreadable_queue ? sections.front() : section, cause);
        section.failures += group.unnamed;
        section.rest.complete = group.unnamed == 0;
        sections.push_back(std::move(section));
    }
    return sections;
}

// True if the digest counts failures that are in no group.
bool has_ungrouped_failures(const Digest &digest) {
    std::int64_t in_groups = 0;
    for (const Group &group : digest.groups)
        in_groups += group.count;
    return in_groups < digest.count;
}

void share_blocks(std::vector<Section> &sections, std::size_t budget) {
    std::vector<std::size_t> wanted;
    for (const Section &section : sections)
        wanted.push_back(section.blocks.size());
    const std::vector<std::size_t> given = share(wanted, budget);
    for (std::size_t i = 0; i < sections.size(); ++i) {
        count_omitted(sections[i].blocks, given[i], sections[i].rest);
        sections[i].blocks.resize(given[i]);
    }
}

void share_jobs(std::vector<Section> &sections, std::size_t budget) {
    std::vector<Block *> blocks;
    std::vector<std::size_t> wanted;
    for (Section &section : sections) {
        for (Block &block : section.blocks) {
            blocks.push_back(&block);
            // The failure of a queue is not a job, and is always shown.
            wanted.push_back(block.cause->unreadable_queue ? 0 : block.cause->listed.size());
        }
    }
    const std::vector<std::size_t> given = share(wanted, budget);
    for (std::size_t i = 0; i < blocks.size(); ++i)
        blocks[i]->jobs = given[i];
}

void count_omitted(const std::vector<Block> &blocks, std::size_t from, Rest &rest) {
    for (std::size_t i = from; i < blocks.size(); ++i) {
        ++rest.causes;
        rest.failures += blocks[i].cause->count;
    }
}

// Gives one to each in turn, then a second to each that wants more, until the budget is spent.
std::vector<std::size_t> share(const std::vector<std::size_t> &wanted, std::size_t budget) {
    std::vector<std::size_t> given(wanted.size());
    for (bool gave = true; gave && budget > 0;) {
        gave = false;
        for (std::size_t i = 0; i < wanted.size() && budget > 0; ++i) {
            if (given[i] < wanted[i]) {
                ++given[i];
                --budget;
                gave = true;
            }
        }
    }
    return given;
}

} // namespace

} // namespace job_alerting::core
