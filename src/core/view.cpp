#include "core/view.hpp"

#include "core/headline.hpp"
#include "core/link.hpp"
#include "core/text.hpp"

#include <algorithm>
#include <initializer_list>
#include <sstream>
#include <utility>
#include <vector>

namespace job_alerting::core {

namespace {

using kainjow::mustache::data;
using kainjow::mustache::list;

constexpr std::size_t most_notes = 10;
constexpr std::size_t most_note = 500; // characters
constexpr std::size_t most_moment = 40;
constexpr std::size_t most_preheader = 150;

data or_nothing(const std::string &text);
std::string period(const std::optional<Moment> &first, const std::optional<Moment> &last);
std::string preheader(const Layout &layout);
void add_notes(data &view, const Digest &digest);
list section_views(const Layout &layout, const std::string &job_url);
std::string rest_of(const Rest &rest);
std::string unnamed(const Digest &digest);
void add_footer(data &view, const Digest &digest);

} // namespace

data view_of(const Digest &digest, Extent extent, const std::string &job_url) {
    const Layout layout = lay_out(digest, extent);
    const std::string when = period(digest.first, digest.last);
    data view;
    view["headline"] = headline(digest);
    view["preheader"] = preheader(layout);
    view["period"] = when.empty() ? "Without a time of failure." : "Failed " + when + ".";
    add_notes(view, digest);
    view["sections"] = section_views(layout, job_url);
    view["rest"] = or_nothing(rest_of(layout.rest));
    view["unnamed"] = or_nothing(unnamed(digest));
    add_footer(view, digest);
    return view;
}

namespace {

data section_view(const Section &section, bool chains, const std::string &job_url);
std::string section_title(const Section &section, bool chains);
data block_view(const Block &block, const std::string &job_url);
void describe_queue(data &view, const Cause &cause);
void describe_cause(data &view, const Block &block, const std::string &job_url);
data job_view(const Failure &job, const std::string &job_url);
std::string name_of(const Failure &job);
std::string facts_of(const Failure &job);
bool add_error(data &view, const std::optional<std::string> &error);

// Mustache takes an empty string for something to show.
data or_nothing(const std::string &text) {
    return text.empty() ? data(false) : data(text);
}

std::string words_of(const Moment &moment) {
    return one_line(moment.text, most_moment);
}

std::string period(const std::optional<Moment> &first, const std::optional<Moment> &last) {
    if (!first || !last)
        return {};
    if (first->micros == last->micros)
        return "at " + words_of(*first);
    return "from " + words_of(*first) + " to " + words_of(*last);
}

// What a list of mails shows after the subject: the first error.
std::string preheader(const Layout &layout) {
    for (const Section &section : layout.sections) {
        for (const Block &block : section.blocks) {
            if (!block.cause->listed.empty() && block.cause->listed.front().error) {
                const std::string &error = *block.cause->listed.front().error;
                return one_line(first_lines(error, 1, most_error), most_preheader);
            }
        }
    }
    return {};
}

void add_notes(data &view, const Digest &digest) {
    list notes;
    const std::size_t shown = std::min(digest.notes.size(), most_notes);
    for (std::size_t i = 0; i < shown; ++i)
        notes.push_back(data("note", one_line(digest.notes[i], most_note)));
    const auto more = static_cast<std::int64_t>(digest.notes.size() - shown);
    if (more > 0)
        notes.push_back(data("note", "And " + counted(more, "more note.", "more notes.")));
    view["notes"] = notes;
}

// Whether some jobs belong to a chain, shown or not.
bool has_chains(const Layout &layout) {
    return layout.rest.causes > 0 ||
           std::any_of(layout.sections.begin(), layout.sections.end(),
                       [](const Section &section) { return section.kind == Section::Kind::chain; });
}

list section_views(const Layout &layout, const std::string &job_url) {
    const bool chains = has_chains(layout);
    list views;
    for (const Section &section : layout.sections)
        views.push_back(section_view(section, chains, job_url));
    return views;
}

data section_view(const Section &section, bool chains, const std::string &job_url) {
    list blocks;
    for (const Block &block : section.blocks)
        blocks.push_back(block_view(block, job_url));
    data view;
    view["section_title"] = or_nothing(section_title(section, chains));
    view["blocks"] = blocks;
    view["section_rest"] = or_nothing(rest_of(section.rest));
    return view;
}

// Empty where the blocks say all, and where nothing belongs to a chain.
std::string section_title(const Section &section, bool chains) {
    if (section.kind == Section::Kind::chain) {
        return "Chain " + one_line(section.chain, most_name) + ": " +
               std::to_string(section.failures) + " of its jobs failed";
    }
    if (section.kind == Section::Kind::unreadable_queues || !chains)
        return {};
    return "Without a chain: " + counted(section.failures, "job", "jobs") + " failed";
}

data block_view(const Block &block, const std::string &job_url) {
    data view;
    if (block.cause->unreadable_queue)
        describe_queue(view, *block.cause);
    else
        describe_cause(view, block, job_url);
    return view;
}

void describe_queue(data &view, const Cause &cause) {
    const std::string when = period(cause.first, cause.last);
    list details;
    if (!cause.listed.empty()) {
        data detail;
        detail["job_name"] = false;
        detail["job_facts"] = false;
        detail["job_link"] = false;
        detail["no_error"] = false;
        add_error(detail, cause.listed.front().error);
        details.push_back(detail);
    }
    view["block_title"] = "queue " + one_line(cause.queue, most_name) + " could not be read";
    view["block_count"] =
        cause.count == 1 ? data(false) : data(counted(cause.count, "time", "times"));
    view["block_period"] = or_nothing(when);
    view["block_note"] = "Failures in it are not seen until this is mended.";
    view["jobs"] = details;
    view["block_rest"] = false;
}

void describe_cause(data &view, const Block &block, const std::string &job_url) {
    const Cause &cause = *block.cause;
    list jobs;
    for (std::size_t i = 0; i < block.jobs; ++i)
        jobs.push_back(job_view(cause.listed[i], job_url));
    const std::int64_t more = cause.count - static_cast<std::int64_t>(block.jobs);
    const bool has_rest = block.jobs > 0 && more > 0;
    view["block_title"] = one_line(cause.kind(), 2 * most_name + 1);
    view["block_count"] = counted(cause.count, "job failed", "jobs failed");
    view["block_period"] = or_nothing(period(cause.first, cause.last));
    view["block_note"] = false;
    view["jobs"] = jobs;
    view["block_rest"] =
        has_rest ? data("and " + std::to_string(more) + " more like this") : data(false);
}

data job_view(const Failure &job, const std::string &job_url) {
    data view;
    view["job_name"] = name_of(job);
    view["job_facts"] = or_nothing(facts_of(job));
    view["job_link"] = or_nothing(job_link(job_url, job));
    view["no_error"] = !add_error(view, job.error);
    return view;
}

// The parts that are not empty, with something between them.
std::string join(std::initializer_list<std::string> parts, const char *between) {
    std::string joined;
    for (const std::string &part : parts)
        if (!part.empty())
            joined += (joined.empty() ? "" : between) + part;
    return joined;
}

std::string shown(const std::optional<std::string> &text) {
    return text ? one_line(*text, most_name) : std::string();
}

std::string name_of(const Failure &job) {
    const std::string where =
        join({"job", one_line(job.job_id, most_name), "in", one_line(job.queue, most_name)}, " ");
    return join({where, join({shown(job.target_type), shown(job.target_id)}, "/")}, ", ");
}

std::string attempts_of(const Failure &job) {
    if (job.attempts && job.max_attempts) {
        return "attempts " + std::to_string(*job.attempts) + "/" +
               std::to_string(*job.max_attempts);
    }
    return job.attempts ? "attempts " + std::to_string(*job.attempts) : std::string();
}

std::string facts_of(const Failure &job) {
    const std::string when = job.failed_at ? words_of(*job.failed_at) : "at an unknown time";
    return join({shown(job.status), attempts_of(job), when}, ", ");
}

// Whether there is an error, and its lines.
bool add_error(data &view, const std::optional<std::string> &error) {
    const std::string text = error ? first_lines(*error, most_error_lines, most_error) : "";
    list lines;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);)
        lines.push_back(data("line", line));
    view["has_error"] = !lines.empty();
    view["lines"] = lines;
    return !lines.empty();
}

std::string rest_of(const Rest &rest) {
    if (rest.causes == 0)
        return {};
    return "And " + counted(rest.causes, "more cause", "more causes") + ", with " +
           counted(rest.failures, "failure", "failures") + ".";
}

std::string unnamed(const Digest &digest) {
    if (digest.unnamed == 0)
        return {};
    return counted(digest.unnamed, "failure is", "failures are") + " only counted here." +
           (digest.id > 0 ? " The query below lists all." : "");
}

void add_footer(data &view, const Digest &digest) {
    const std::string id = std::to_string(digest.id);
    const std::string cluster = one_line(digest.cluster, most_name);
    const std::string database = "database " + one_line(digest.database, most_name) +
                                 (cluster.empty() ? "" : " in cluster " + cluster);
    const bool recorded = digest.id > 0;
    view["origin"] = (recorded ? "Digest #" + id + " of " : "From ") + database + ".";
    view["query"] =
        recorded ? data("SELECT * FROM job_alerting.digest_failure WHERE digest_id = " + id + ";")
                 : data(false);
    view["standing"] = digest.standing == 0
                           ? "No failure reported earlier still stands."
                           : counted(digest.standing, "failure reported earlier still stands.",
                                     "failures reported earlier still stand.");
}

} // namespace

} // namespace job_alerting::core
