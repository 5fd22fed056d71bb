#include "core/headline.hpp"

#include "core/text.hpp"

#include <vector>

namespace job_alerting::core {

namespace {

constexpr std::size_t max_name_in_subject = 60;   // characters
constexpr std::size_t max_names_in_subject = 120; // characters; does not limit the first name

std::string counts_of(const Digest &digest);
std::string place_of(const Digest &digest);
std::string names_of(const Digest &digest);

} // namespace

std::string headline(const Digest &digest) {
    return counts_of(digest) + place_of(digest);
}

std::string subject(const Digest &digest) {
    std::string text = headline(digest);
    if (const std::string names = names_of(digest); !names.empty())
        text += ": " + names;
    if (digest.id > 0)
        text += " [#" + std::to_string(digest.id) + "]";
    return text;
}

std::string counted(std::int64_t count, const char *one, const char *many) {
    return std::to_string(count) + ' ' + (count == 1 ? one : many);
}

namespace {

std::string counts_of(const Digest &digest) {
    const auto count = static_cast<std::int64_t>(digest.queues.size());
    std::string queues;
    if (count == 1 && !digest.queues.front().empty())
        queues = "queue " + one_line(digest.queues.front(), max_name_in_subject);
    else if (count > 0)
        queues = counted(count, "queue", "queues");
    if (!queues.empty())
        queues += " could not be read";
    const std::int64_t failed = digest.count - digest.queue_failures;
    if (failed == 0 && !queues.empty())
        return queues;
    const std::string jobs = counted(failed, "job", "jobs") + " failed";
    return queues.empty() ? jobs : jobs + " and " + queues;
}

std::string place_of(const Digest &digest) {
    const std::string cluster = one_line(digest.cluster, max_name);
    const std::string database = one_line(digest.database, max_name);
    return " in " + (cluster.empty() ? database : cluster + "/" + database);
}

// The count in parentheses, and whether the workers were lost.
std::string detail_of(const Kind &kind) {
    std::string detail = kind.count > 1 ? std::to_string(kind.count) : "";
    if (kind.lost > 0 && kind.lost == kind.count)
        detail += detail.empty() ? "worker lost" : ", worker lost";
    return detail.empty() ? detail : " (" + detail + ")";
}

// The names that fit, and the number of others. Without `complete` that number is a minimum.
std::string list_of(const std::vector<Kind> &kinds, bool complete) {
    std::string list;
    std::size_t named = 0;
    for (const Kind &kind : kinds) {
        const std::string item = one_line(kind.name, max_name_in_subject) + detail_of(kind);
        if (named > 0 && list.size() + item.size() > max_names_in_subject)
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

// The kinds of jobs. If only queues failed, the names of the queues, unless the headline has them.
std::string names_of(const Digest &digest) {
    if (digest.count > digest.queue_failures)
        return list_of(digest.kinds, digest.jobs_of_other_kinds == 0);
    std::vector<Kind> queues;
    for (const std::string &name : digest.queues)
        if (!name.empty())
            queues.push_back({.name = name});
    return queues.size() > 1 ? list_of(queues, true) : std::string();
}

} // namespace

} // namespace job_alerting::core
