#include "core/digest.hpp"

#include "core/text.hpp"
#include "core/trace.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

namespace job_alerting::core {

namespace {

// Separates the parts of a key. A cleaned line contains no line feed.
constexpr char separator = '\n';

std::string cleaned(std::string_view hostile) {
    return one_line(hostile, max_name);
}

std::string cleaned_or_empty(const std::optional<std::string> &hostile) {
    return hostile ? cleaned(*hostile) : std::string();
}

std::optional<std::string> cleaned_or_none(const std::optional<std::string> &hostile) {
    std::string text = cleaned_or_empty(hostile);
    return text.empty() ? std::nullopt : std::optional(std::move(text));
}

Failure cleaned_copy(const Failure &failure) {
    Failure kept;
    kept.id = failure.id;
    kept.queue = cleaned(failure.queue);
    kept.job_id = cleaned(failure.job_id);
    kept.source = cleaned_or_none(failure.source);
    kept.job_type = cleaned_or_none(failure.job_type);
    kept.target_type = cleaned_or_none(failure.target_type);
    kept.target_id = cleaned_or_none(failure.target_id);
    kept.status = cleaned_or_none(failure.status);
    kept.attempts = failure.attempts;
    kept.max_attempts = failure.max_attempts;
    kept.failed_at = failure.failed_at;
    kept.chain = cleaned_or_none(failure.chain);
    kept.cleared = failure.cleared;
    if (failure.error)
        kept.error = excerpt(*failure.error, max_error_lines, max_error);
    return kept;
}

void widen(std::optional<Moment> &first, std::optional<Moment> &last,
           const std::optional<Moment> &moment) {
    if (!moment)
        return;
    if (!first || moment->micros < first->micros)
        first = moment;
    if (!last || moment->micros > last->micros)
        last = moment;
}

std::string joined(const std::string &first, const char *between, const std::string &second) {
    return first + (first.empty() || second.empty() ? "" : between) + second;
}

// An unknown time precedes none.
bool is_before(const std::optional<Moment> &one, const std::optional<Moment> &other) {
    return one && (!other || one->micros < other->micros);
}

// The steps that fit, plus one when the list is longer, so that a later clip() marks the cut.
std::vector<std::string> shown_steps(const std::vector<std::string> &steps) {
    std::vector<std::string> fit;
    std::size_t length = 0;
    for (const std::string &hostile : steps) {
        std::string step = one_line(hostile, max_steps);
        if (length > max_steps)
            break;
        length += characters(step);
        if (!step.empty())
            fit.push_back(std::move(step));
    }
    return fit;
}

// The last failure of a chain has the newest list of steps that never ran.
void update_chain(Group &group, const Failure &failure) {
    if (!group.broke || is_earlier(failure, *group.broke))
        group.broke = break_at(failure);
    group.never_ran = shown_steps(failure.never_ran);
}

} // namespace

std::string Cause::kind() const {
    if (source.empty() && job_type.empty())
        return queue;
    return joined(source, "/", job_type);
}

std::string Cause::identity() const {
    std::string all = queue;
    (all += separator) += source;
    (all += separator) += job_type;
    all += separator;
    if (unreadable_queue)
        all += separator;
    if (is_lost_worker())
        (all += separator) += separator;
    return all += error;
}

Cause cause_of(const Failure &failure) {
    Cause cause;
    cause.queue = cleaned(failure.queue);
    cause.source = cleaned_or_empty(failure.source);
    cause.job_type = cleaned_or_empty(failure.job_type);
    cause.unreadable_queue = failure.is_unreadable_queue();
    cause.has_errors = failure.error.has_value();
    if (failure.error)
        cause.error = normalise_error(*failure.error);
    return cause;
}

Break break_at(const Failure &failure) {
    const Cause cause = cause_of(failure);
    return {.step = joined(cause.kind(), " ", cleaned_or_empty(failure.target_type)),
            .job_id = cleaned(failure.job_id),
            .error = failure.error ? clip(telling_line(*failure.error), max_name) : "",
            .lost_worker = cause.is_lost_worker(),
            .failed_at = failure.failed_at,
            .cleared = failure.cleared};
}

bool is_earlier(const Failure &failure, const Break &broke) {
    if (failure.cleared != broke.cleared)
        return broke.cleared;
    return is_before(failure.failed_at, broke.failed_at);
}

DigestBuilder::DigestBuilder(std::size_t max_listed)
    : max_listed_(std::min(max_listed, listed_limit)), keepers_(max_listed_) {}

void DigestBuilder::add(const Failure &failure) {
    ++digest_.count;
    widen(digest_.first, digest_.last, failure.failed_at);

    Cause its_cause = cause_of(failure);
    count_kind(its_cause);
    const Place place = place_of(failure, std::move(its_cause));
    if (!place.cause)
        ++digest_.unnamed;
    if (!place.group)
        return;
    Group &group = digest_.groups[*place.group];
    ++group.count;
    if (!group.chain.empty() && !failure.is_unreadable_queue())
        update_chain(group, failure);
    if (!place.cause) {
        ++group.unnamed;
        return;
    }
    Cause &cause = group.causes[*place.cause];
    ++cause.count;
    cause.cleared += failure.cleared ? 1 : 0;
    widen(cause.first, cause.last, failure.failed_at);
    keep(cause, failure);
}

void DigestBuilder::count_kind(const Cause &cause) {
    if (cause.unreadable_queue) {
        ++digest_.queue_failures;
        if (queues_.insert(cause.queue).second)
            digest_.queues.push_back(cause.queue);
        return;
    }
    std::string name = cause.kind();
    const auto known = kinds_.find(name);
    if (known == kinds_.end() && kinds_.size() >= max_kinds) {
        ++digest_.jobs_of_other_kinds;
        return;
    }
    const std::size_t place = known == kinds_.end() ? digest_.kinds.size() : known->second;
    if (known == kinds_.end()) {
        digest_.kinds.push_back({.name = name});
        kinds_.emplace(std::move(name), place);
    }
    ++digest_.kinds[place].count;
    digest_.kinds[place].lost += cause.is_lost_worker() ? 1 : 0;
}

// The group and cause that count the failure. max_causes does not apply to unreadable queues: there
// are few of them, and all must be shown.
DigestBuilder::Place DigestBuilder::place_of(const Failure &failure, Cause cause) {
    const std::string chain = cleaned_or_empty(failure.chain);
    std::string key = chain + separator + cause.identity();

    const auto known = causes_.find(key);
    if (known != causes_.end())
        return known->second;
    if (causes_.size() >= max_causes && !cause.unreadable_queue) {
        const auto group = groups_.find(chain);
        return {group == groups_.end() ? std::nullopt : std::optional(group->second), std::nullopt};
    }
    const std::size_t group = group_of(chain);
    std::vector<Cause> &causes = digest_.groups[group].causes;
    causes.push_back(std::move(cause));
    return causes_.emplace(std::move(key), Place{group, causes.size() - 1}).first->second;
}

std::size_t DigestBuilder::group_of(const std::string &chain) {
    const auto [position, is_new] = groups_.emplace(chain, digest_.groups.size());
    if (is_new)
        digest_.groups.emplace_back().chain = chain;
    return position->second;
}

// A rendering lists one job of each cause, then a second of each, until it has max_listed. So at
// most max_listed / k causes can list a k-th job, and only the first max_listed / k causes that
// reach a k-th failure keep it.
void DigestBuilder::keep(Cause &cause, const Failure &failure) {
    const std::size_t held = cause.listed.size();
    if (cause.unreadable_queue) {
        if (held == 0)
            cause.listed.push_back(cleaned_copy(failure));
    } else if (held < max_listed_ && keepers_[held] * (held + 1) < max_listed_) {
        ++keepers_[held];
        cause.listed.push_back(cleaned_copy(failure));
    }
}

Digest DigestBuilder::finish() {
    const auto without_chain = groups_.find(std::string());
    if (without_chain != groups_.end()) {
        const auto group =
            digest_.groups.begin() + static_cast<std::ptrdiff_t>(without_chain->second);
        std::rotate(group, group + 1, digest_.groups.end());
        // List lost workers first; they need a different investigation.
        std::vector<Cause> &causes = digest_.groups.back().causes;
        std::stable_partition(causes.begin(), causes.end(),
                              [](const Cause &cause) { return cause.is_lost_worker(); });
    }
    order_kinds();
    groups_.clear();
    causes_.clear();
    kinds_.clear();
    queues_.clear();
    keepers_.assign(max_listed_, 0);
    return std::exchange(digest_, Digest());
}

// Sorts the kinds in the order of the causes, followed by kinds without a cause.
void DigestBuilder::order_kinds() {
    std::vector<Kind> ordered;
    std::vector<bool> is_placed(digest_.kinds.size());
    const auto place = [&](std::size_t kind) {
        if (!is_placed[kind])
            ordered.push_back(std::move(digest_.kinds[kind]));
        is_placed[kind] = true;
    };
    for (const Group &group : digest_.groups)
        for (const Cause &cause : group.causes)
            if (const auto kind = kinds_.find(cause.kind());
                !cause.unreadable_queue && kind != kinds_.end())
                place(kind->second);
    for (std::size_t kind = 0; kind < is_placed.size(); kind++)
        place(kind);
    digest_.kinds = std::move(ordered);
}

Digest minimal(Digest digest) {
    digest.groups.clear();
    digest.unnamed = digest.count;
    digest.kinds.clear();
    digest.queues.assign(digest.queues.size(), std::string());
    return digest;
}

} // namespace job_alerting::core
