#include "core/phrases.hpp"

#include "core/headline.hpp"
#include "core/lines.hpp"
#include "core/link.hpp"
#include "core/text.hpp"

#include <algorithm>
#include <initializer_list>
#include <optional>

namespace job_alerting::core {

namespace {

constexpr std::size_t max_note = 500; // characters
constexpr std::size_t max_moment = 40;
constexpr std::size_t max_preheader = 150;

std::string period(const std::optional<Moment> &first, const std::optional<Moment> &last);
std::string preheader(const Layout &layout);
std::vector<std::string> notes_of(const Digest &digest, std::size_t max);
std::vector<SectionPhrases> sections_of(const Layout &layout, const std::string &job_url);
std::string rest_of(const Rest &rest);
std::string unnamed(const Digest &digest);
std::string origin(const Digest &digest);
std::string previous(const Digest &digest);
std::string standing(const Digest &digest);
std::string query(const Digest &digest);

} // namespace

Phrases phrases_of(const Digest &digest, Extent extent, const std::string &job_url,
                   std::size_t notes) {
    const Layout layout = layout_of(digest, extent);
    const std::string when = period(digest.first, digest.last);
    Phrases phrases;
    phrases.headline = headline(digest);
    phrases.preheader = preheader(layout);
    phrases.period = when.empty() ? "The time of failure is not known." : "Failed " + when + ".";
    phrases.notes = notes_of(digest, notes);
    phrases.sections = sections_of(layout, job_url);
    phrases.rest = rest_of(layout.rest);
    phrases.unnamed = unnamed(digest);
    phrases.origin = origin(digest);
    phrases.previous = previous(digest);
    phrases.standing = standing(digest);
    phrases.query = query(digest);
    return phrases;
}

namespace {

SectionPhrases section_of(const Section &section, bool chains, const std::string &job_url);
std::string section_title(const Section &section, bool chains);
std::string break_of(const Section &section);
std::string never_ran(const Section &section);
CausePhrases queue_of(const Cause &cause);
CausePhrases cause_of(const Block &block, const std::string &job_url);
JobPhrases job_of(const Failure &job, const std::string &job_url);
std::string name_of(const Failure &job);
std::string facts_of(const Failure &job);
std::vector<std::string> error_of(const Failure &failure);

std::string words_of(const Moment &moment) {
    return one_line(moment.text, max_moment);
}

std::string period(const std::optional<Moment> &first, const std::optional<Moment> &last) {
    if (!first || !last)
        return {};
    if (first->micros == last->micros || first->text == last->text)
        return "at " + words_of(*first);
    return "from " + words_of(*first) + " to " + words_of(*last);
}

std::string first_error_of(const Cause &cause) {
    if (cause.listed.empty() || !cause.listed.front().error)
        return cause.error;
    return first_lines(*cause.listed.front().error, 1, max_error);
}

// Mail clients show the preheader after the subject, often cut after some fifty characters. It
// names the first cause and its error.
std::string preheader(const Layout &layout) {
    if (layout.sections.empty())
        return {};
    const Section &section = layout.sections.front();
    const Cause &cause = *section.blocks.front().cause;
    const bool broke = section.broke && !section.broke->reported;
    const std::string name = broke ? section.broke->step : cause.kind();
    const std::string error = broke ? section.broke->error : first_error_of(cause);
    const bool lost = broke ? section.broke->lost_worker : cause.is_lost_worker();
    const std::string why = error.empty() && lost ? "worker lost" : error;
    return one_line(name + (why.empty() ? "" : ": " + why), max_preheader);
}

std::vector<std::string> notes_of(const Digest &digest, std::size_t max) {
    std::vector<std::string> notes;
    const std::size_t shown = std::min(digest.notes.size(), max);
    for (std::size_t i = 0; i < shown; ++i)
        notes.push_back(one_line(digest.notes[i], max_note));
    const auto more = static_cast<std::int64_t>(digest.notes.size() - shown);
    if (more > 0)
        notes.push_back("And " + counted(more, "more note.", "more notes."));
    return notes;
}

// True if the digest has chains, shown or not.
bool has_chains(const Layout &layout) {
    return layout.rest.causes > 0 ||
           std::any_of(layout.sections.begin(), layout.sections.end(),
                       [](const Section &section) { return section.kind == Section::Kind::chain; });
}

std::vector<SectionPhrases> sections_of(const Layout &layout, const std::string &job_url) {
    const bool chains = has_chains(layout);
    std::vector<SectionPhrases> sections;
    for (const Section &section : layout.sections)
        sections.push_back(section_of(section, chains, job_url));
    return sections;
}

SectionPhrases section_of(const Section &section, bool chains, const std::string &job_url) {
    SectionPhrases phrases;
    phrases.title = section_title(section, chains);
    phrases.broke = break_of(section);
    phrases.broke_before = section.broke && section.broke->reported;
    phrases.never_ran = never_ran(section);
    for (const Block &block : section.blocks)
        phrases.causes.push_back(block.cause->unreadable_queue ? queue_of(*block.cause)
                                                               : cause_of(block, job_url));
    phrases.rest = rest_of(section.rest);
    return phrases;
}

// Empty for unreadable queues, and if the digest has no chains.
std::string section_title(const Section &section, bool chains) {
    if (section.kind == Section::Kind::chain) {
        return "Chain " + one_line(section.chain, max_name) + ": " +
               std::to_string(section.failures) + " of its jobs failed";
    }
    if (section.kind == Section::Kind::unreadable_queues || !chains)
        return {};
    return "Not in a chain: " + counted(section.failures, "job", "jobs") + " failed";
}

std::string break_of(const Section &section) {
    if (!section.broke)
        return {};
    const Break &broke = *section.broke;
    return "Broke at " + one_line(broke.step, 2 * max_name + 1) + " (job " +
           one_line(broke.job_id, max_name) + ")" +
           (broke.failed_at ? " at " + words_of(*broke.failed_at) : "") +
           (broke.reported ? ", reported in digest #" + std::to_string(broke.reported->digest)
                           : "");
}

std::string never_ran(const Section &section) {
    std::string steps;
    for (const std::string &step : section.never_ran)
        (steps += steps.empty() ? "" : ", ") += step;
    return steps.empty() ? steps : "Never ran: " + clip(steps, max_steps);
}

// Sets no mark if the history of the cause is not known.
void mark(CausePhrases &phrases, const Cause &cause) {
    if (cause.reported) {
        phrases.mark = "AGAIN";
        phrases.reported = "last reported " + one_line(cause.reported->when, max_moment) +
                           " in digest #" + std::to_string(cause.reported->digest);
    } else if (cause.is_new) {
        phrases.mark = "NEW";
    }
}

CausePhrases queue_of(const Cause &cause) {
    CausePhrases phrases;
    mark(phrases, cause);
    phrases.title = "queue " + one_line(cause.queue, max_name) + " could not be read";
    if (cause.count != 1)
        phrases.count = counted(cause.count, "time", "times");
    phrases.period = period(cause.first, cause.last);
    phrases.note = cause.cleared == cause.count
                       ? "The queue can be read again."
                       : "Failures in this queue go undetected until this is fixed.";
    if (!cause.listed.empty())
        phrases.jobs.emplace_back().error = error_of(cause.listed.front());
    return phrases;
}

std::string count_of(const Cause &cause) {
    const std::string failed =
        cause.is_lost_worker()
            ? counted(cause.count, "job", "jobs") + " failed without an error (worker lost)"
            : counted(cause.count, "job failed", "jobs failed");
    if (cause.cleared == 0)
        return failed;
    const std::string which = cause.count == 1 ? "" : std::to_string(cause.cleared) + " of them ";
    return failed + ", " + which + "cleared since";
}

CausePhrases cause_of(const Block &block, const std::string &job_url) {
    const Cause &cause = *block.cause;
    CausePhrases phrases;
    phrases.title = one_line(cause.kind(), 2 * max_name + 1);
    phrases.count = count_of(cause);
    mark(phrases, cause);
    phrases.period = period(cause.first, cause.last);
    if (cause.count > 1 || block.jobs == 0)
        phrases.error = one_line(cause.error, max_error);
    for (std::size_t i = 0; i < block.jobs; ++i)
        phrases.jobs.push_back(job_of(cause.listed[i], job_url));
    const std::int64_t more = cause.count - static_cast<std::int64_t>(block.jobs);
    if (block.jobs > 0 && more > 0)
        phrases.rest = "and " + std::to_string(more) + " more like this";
    return phrases;
}

JobPhrases job_of(const Failure &job, const std::string &job_url) {
    JobPhrases phrases;
    phrases.name = name_of(job);
    phrases.facts = facts_of(job);
    phrases.link = job_link(job_url, job);
    phrases.error = error_of(job);
    if (phrases.error.empty() && job.error)
        phrases.no_error = "No error was recorded: the worker probably died.";
    return phrases;
}

// Joins the parts that are not empty.
std::string join(std::initializer_list<std::string> parts, const char *between) {
    std::string joined;
    for (const std::string &part : parts)
        if (!part.empty())
            joined += (joined.empty() ? "" : between) + part;
    return joined;
}

std::string shown(const std::optional<std::string> &text) {
    return text ? one_line(*text, max_name) : std::string();
}

std::string name_of(const Failure &job) {
    const std::string where =
        join({"job", one_line(job.job_id, max_name), "in", one_line(job.queue, max_name)}, " ");
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
    const std::string when = job.failed_at ? words_of(*job.failed_at) : "time unknown";
    return join({shown(job.status), attempts_of(job), when, job.cleared ? "cleared since" : ""},
                ", ");
}

std::vector<std::string> error_of(const Failure &failure) {
    const std::string shown = first_lines(failure.error.value_or(""), max_error_lines, max_error);
    const auto lines = lines_of(shown);
    return {lines.begin(), lines.end()};
}

std::string rest_of(const Rest &rest) {
    if (rest.causes == 0)
        return {};
    return (rest.complete ? "And " : "And at least ") +
           counted(rest.causes, "more cause", "more causes") + ", with " +
           counted(rest.failures, "failure", "failures") + ".";
}

// A preview has no number, and no query lists its failures.
bool is_recorded(const Digest &digest) {
    return digest.id > 0;
}

std::string unnamed(const Digest &digest) {
    if (digest.unnamed == 0)
        return {};
    return counted(digest.unnamed, "failure is", "failures are") + " only counted here." +
           (is_recorded(digest) ? " The query below lists all." : "");
}

std::string origin(const Digest &digest) {
    const std::string cluster = one_line(digest.cluster, max_name);
    return (is_recorded(digest) ? "Digest #" + std::to_string(digest.id) : "The next digest") +
           " of database " + one_line(digest.database, max_name) +
           (cluster.empty() ? "." : " in cluster " + cluster + ".");
}

std::string previous(const Digest &digest) {
    if (digest.previous)
        return "The previous digest, #" + std::to_string(digest.previous->digest) +
               ", was accepted at " + one_line(digest.previous->when, max_moment) + ".";
    return is_recorded(digest) ? "No earlier digest was accepted." : "";
}

std::string standing(const Digest &digest) {
    const std::string standing =
        digest.standing == 0 ? "No failure reported earlier still stands"
                             : counted(digest.standing, "failure reported earlier still stands",
                                       "failures reported earlier still stand");
    if (digest.cleared == 0)
        return standing + ".";
    return standing + ". " + counted(digest.cleared, "failure has", "failures have") +
           " been cleared since the previous digest.";
}

std::string query(const Digest &digest) {
    if (!is_recorded(digest))
        return {};
    return "SELECT * FROM job_alerting.digest_failure WHERE digest_id = " +
           std::to_string(digest.id) + ";";
}

} // namespace

} // namespace job_alerting::core
