// A digest before it is words: failures grouped by chain, then by cause, counted exactly.
//
// A group is one chain (the jobs that say they belong together), or the jobs of no chain. In a
// group, failures of the same queue, source, job type and normalised error are one cause. Every
// failure is counted in exactly one cause, or as unnamed when there are too many causes; and in
// exactly one kind, whatever its chain and error. Only the first few of each cause are kept to be
// listed, so the memory needed does not grow with the failures.

#pragma once

#include "core/failure.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace job_alerting::core {

// A digest that was accepted, and when, as Moment::text.
struct EarlierDigest {
    std::int64_t digest = 0;
    std::string when;
};

struct Cause {
    std::string queue;
    std::string source;       // cleaned, empty where the job has none
    std::string job_type;     // likewise
    std::string error;        // normalised; empty where none was recorded
    bool tells_error = false; // whether an error would be known of
    bool unreadable_queue = false;
    std::int64_t count = 0;
    std::int64_t cleared = 0; // of them
    bool is_new = false;      // no earlier digest has it
    std::optional<EarlierDigest>
        reported;                // the last earlier digest that has it; neither: not known
    std::optional<Moment> first; // by failed_at; none when no failure of it has a time
    std::optional<Moment> last;
    std::vector<Failure> listed; // the first of them, in the order of the ledger

    // "source/job_type", or what there is of it, or the queue's name.
    std::string kind() const;

    // All that makes it one cause, in whatever chain.
    std::string identity() const;

    // Nothing was raised: whoever worked on it is gone.
    bool is_lost_worker() const { return tells_error && error.empty() && !unreadable_queue; }
};

// The cause of a failure, of which nothing is counted yet.
Cause cause_of(const Failure &failure);

// Where a chain broke: the job of it that failed first, of those that still stand; of those that
// cleared, where none does.
struct Break {
    std::string step; // what kind of job, and on what kind of target
    std::string job_id;
    std::string error; // its telling line; empty where none was recorded
    bool lost_worker = false;
    std::optional<Moment> failed_at;
    bool cleared = false;
    std::optional<EarlierDigest> reported = {}; // the digest that has it, if that is an earlier one
};

Break break_at(const Failure &failure);

// Whether the chain rather broke at this failure.
bool is_sooner(const Failure &failure, const Break &broke);

// The jobs of one source and type that failed, whatever the chain and the error.
struct Kind {
    std::string name;
    std::int64_t count = 0;
    std::int64_t lost = 0; // of them without an error
};

struct Group {
    std::string chain; // cleaned; empty for the group of jobs without a chain
    std::int64_t count = 0;
    std::int64_t unnamed = 0; // of them, beyond the causes that are told apart
    std::vector<Cause> causes;
    std::optional<Break> broke = {};         // only of a chain
    std::vector<std::string> never_ran = {}; // its steps that did not run, when it was last seen
};

struct Digest {
    std::int64_t id = 0;
    std::string database;
    std::string cluster;         // cluster_name, empty where not set
    std::int64_t count = 0;      // failures in it
    std::optional<Moment> first; // the earliest failed_at in it
    std::optional<Moment> last;  // the latest
    std::vector<Group> groups;   // chains in the order of the ledger, then the jobs without one
    std::int64_t unnamed = 0;    // failures beyond the causes that are told apart
    std::vector<Kind> kinds;     // of jobs, in the order of the causes
    std::int64_t jobs_of_other_kinds = 0;  // jobs beyond the kinds that are told apart
    std::vector<std::string> queues;       // that could not be read; no name in a minimal digest
    std::int64_t queue_failures = 0;       // of them
    std::int64_t standing = 0;             // failures reported earlier that still stand
    std::int64_t cleared = 0;              // and such as were cleared since the last digest
    std::optional<EarlierDigest> previous; // the last digest before this one that was accepted
    std::vector<std::string> notes;        // what else the reader must know, a sentence each
};

// How much of a job's text a digest holds, in characters.
inline constexpr std::size_t max_name = 100; // a queue, an id, a type, a chain
inline constexpr std::size_t max_error_lines = 6;
inline constexpr std::size_t max_error = 600;
inline constexpr std::size_t max_steps = 300; // of all steps of a chain that never ran

// How many causes are told apart, and how many kinds.
inline constexpr std::size_t max_causes = 10000;
inline constexpr std::size_t max_kinds = 10000;

// More jobs than fit into a mail, whatever they are.
inline constexpr std::size_t listed_limit = 1000;

// Takes the failures of a digest one by one, in the order of the ledger.
class DigestBuilder {
public:
    // `max_listed`: how many jobs a rendering will list in all; no cause keeps more.
    explicit DigestBuilder(std::size_t max_listed);

    void add(const Failure &failure);

    // The digest, with id, database and the like left for the caller to fill in. Leaves the
    // builder empty.
    Digest finish();

private:
    // Neither is known where it would be one too many.
    struct Place {
        std::optional<std::size_t> group;
        std::optional<std::size_t> cause;
    };

    Place place_of(const Failure &failure, Cause cause);
    std::size_t group_of(const std::string &chain);
    void count_kind(const Cause &cause);
    void order_kinds();
    void keep(Cause &cause, const Failure &failure);

    std::size_t max_listed_;
    Digest digest_;
    std::unordered_map<std::string, std::size_t> groups_; // by chain
    std::unordered_map<std::string, Place> causes_;       // by all that makes a cause
    std::unordered_map<std::string, std::size_t> kinds_;  // by name
    std::unordered_set<std::string> queues_;              // that could not be read
    std::vector<std::size_t> keepers_; // [k]: causes that hold more than k failures
};

// The same digest without a word of its jobs: how many, where, and how to see more.
Digest minimal(Digest digest);

} // namespace job_alerting::core
