#include "core/headline.hpp"

#include "core/text.hpp"

#include <algorithm>
#include <unordered_map>
#include <vector>

namespace job_alerting::core {

namespace {

constexpr std::size_t most_name_in_subject = 60;   // characters
constexpr std::size_t most_names_in_subject = 120; // characters of all names, beyond the first

struct Kind {
    std::string name;
    std::int64_t count = 0;
    std::int64_t lost = 0; // of them without an error
};

// A digest's failures by what failed, in the order of first appearance.
struct Tally {
    std::int64_t jobs = 0;
    std::vector<Kind> kinds;  // of jobs
    std::vector<Kind> queues; // that could not be read
};

Tally tally_of(const Digest &digest);
std::string what_happened(const Tally &tally);
std::string place_of(const Digest &digest);
std::string list_of(const std::vector<Kind> &kinds, bool complete);

} // namespace

std::string headline(const Digest &digest) {
    return what_happened(tally_of(digest)) + place_of(digest);
}

std::string subject(const Digest &digest) {
    const Tally tally = tally_of(digest);
    const bool names_queues = tally.kinds.empty() && tally.queues.size() > 1;
    const std::vector<Kind> &kinds = names_queues ? tally.queues : tally.kinds;
    std::string text = what_happened(tally) + place_of(digest);
    if (!kinds.empty())
        text += ": " + list_of(kinds, digest.unnamed == 0);
    if (digest.id > 0)
        text += " [#" + std::to_string(digest.id) + "]";
    return text;
}

std::string counted(std::int64_t count, const char *one, const char *many) {
    return std::to_string(count) + ' ' + (count == 1 ? one : many);
}

namespace {

class Kinds {
public:
    void add(const std::string &name, std::int64_t count, bool lost = false) {
        const auto [position, is_new] = positions_.emplace(name, kinds_.size());
        if (is_new)
            kinds_.push_back({.name = name});
        kinds_[position->second].count += count;
        kinds_[position->second].lost += lost ? count : 0;
    }

    std::vector<Kind> take() { return std::move(kinds_); }

private:
    std::vector<Kind> kinds_;
    std::unordered_map<std::string, std::size_t> positions_;
};

Tally tally_of(const Digest &digest) {
    Tally tally;
    Kinds kinds;
    Kinds queues;
    tally.jobs = digest.count;
    for (const Group &group : digest.groups) {
        for (const Cause &cause : group.causes) {
            if (cause.unreadable_queue) {
                tally.jobs -= cause.count;
                queues.add(one_line(cause.queue, most_name_in_subject), 1);
            } else {
                kinds.add(one_line(cause.kind(), most_name_in_subject), cause.count,
                          cause.is_lost_worker());
            }
        }
    }
    tally.kinds = kinds.take();
    tally.queues = queues.take();
    return tally;
}

std::string what_happened(const Tally &tally) {
    std::string queues;
    if (tally.queues.size() == 1)
        queues = "queue " + tally.queues.front().name + " could not be read";
    else if (tally.queues.size() > 1)
        queues = std::to_string(tally.queues.size()) + " queues could not be read";
    if (tally.jobs == 0 && !queues.empty())
        return queues;
    const std::string jobs = counted(tally.jobs, "job", "jobs") + " failed";
    return queues.empty() ? jobs : jobs + " and " + queues;
}

std::string place_of(const Digest &digest) {
    const std::string cluster = one_line(digest.cluster, most_name);
    const std::string database = one_line(digest.database, most_name);
    return " in " + (cluster.empty() ? database : cluster + "/" + database);
}

// In parentheses, what its name leaves open.
std::string detail_of(const Kind &kind) {
    std::string detail = kind.count > 1 ? std::to_string(kind.count) : "";
    if (kind.lost > 0 && kind.lost == kind.count)
        detail += detail.empty() ? "worker lost" : ", worker lost";
    return detail.empty() ? detail : " (" + detail + ")";
}

// As many as fit, and how many more there are. Without `complete` there may be others still.
std::string list_of(const std::vector<Kind> &kinds, bool complete) {
    std::string list;
    std::size_t named = 0;
    for (const Kind &kind : kinds) {
        const std::string item = kind.name + detail_of(kind);
        if (named > 0 && list.size() + item.size() > most_names_in_subject)
            break;
        list += (named > 0 ? ", " : "") + item;
        ++named;
    }
    if (const std::size_t rest = kinds.size() - named; rest > 0) {
        list += complete ? " and " : " and at least ";
        list += counted(static_cast<std::int64_t>(rest), "more kind", "more kinds");
    }
    return list;
}

} // namespace

} // namespace job_alerting::core
