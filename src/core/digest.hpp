// The content of a digest, before rendering: failures grouped by chain, then by cause, with exact
// counts.
//
// A group is one chain, or all jobs without a chain. In a group, failures of the same queue,
// source, job type and normalised error form one cause. Each failure counts in exactly one cause,
// or as unnamed when there are too many causes. Each failure also counts in exactly one kind,
// independent of chain and error. A cause keeps only its first few failures for the list, so
// memory does not grow with the number of failures.

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

// An accepted digest, and the time of acceptance in the form of Moment::text.
struct EarlierDigest {
    std::int64_t digest = 0;
    std::string when;
};

struct Cause {
    std::string queue;
    std::string source;      // cleaned; empty if the job has none
    std::string job_type;    // likewise
    std::string error;       // normalised; empty if none was recorded
    bool has_errors = false; // the queue has a column for errors
    bool unreadable_queue = false;
    std::int64_t count = 0;
    std::int64_t cleared = 0; // of these
    // is_new: no earlier digest contains it. reported: the last one that does. Neither: not known.
    bool is_new = false;
    std::optional<EarlierDigest> reported;
    std::optional<Moment> first; // by failed_at; nullopt if no failure has a time
    std::optional<Moment> last;
    std::vector<Failure> listed; // the first failures, in ledger order

    // "source/job_type", or the one that is set, or the queue's name.
    std::string kind() const;

    // Equal for equal causes in different chains.
    std::string identity() const;

    // The job raised no error, so its worker probably died.
    bool is_lost_worker() const { return has_errors && error.empty() && !unreadable_queue; }
};

// The cause of a failure, with all counts 0.
Cause cause_of(const Failure &failure);

// The place where a chain broke: its first failure that still stands, or its first failure if all
// have cleared.
struct Break {
    std::string step; // kind of job and type of target
    std::string job_id;
    std::string error; // the telling line; empty if none was recorded
    bool lost_worker = false;
    std::optional<Moment> failed_at;
    bool cleared = false;
    std::optional<EarlierDigest> reported = {}; // the digest that contains it, if earlier
};

Break break_at(const Failure &failure);

// True if the failure, not `broke`, is the break of the chain. A failure that still stands precedes
// one that has cleared.
bool is_earlier(const Failure &failure, const Break &broke);

// The failed jobs of one source and type, across chains and errors.
struct Kind {
    std::string name;
    std::int64_t count = 0;
    std::int64_t lost = 0; // of these, jobs without an error
};

struct Group {
    std::string chain; // cleaned; empty for the jobs without a chain
    std::int64_t count = 0;
    std::int64_t unnamed = 0; // of these, failures beyond max_causes
    std::vector<Cause> causes;
    std::optional<Break> broke = {};         // only for a chain
    std::vector<std::string> never_ran = {}; // steps that had not run at the last failure
};

struct Digest {
    std::int64_t id = 0;
    std::string database;
    std::string cluster;                   // cluster_name; empty if not set
    std::int64_t count = 0;                // number of failures
    std::optional<Moment> first;           // earliest failed_at
    std::optional<Moment> last;            // latest failed_at
    std::vector<Group> groups;             // chains in ledger order, then the jobs without a chain
    std::int64_t unnamed = 0;              // failures beyond max_causes
    std::vector<Kind> kinds;               // in the order of the causes
    std::int64_t jobs_of_other_kinds = 0;  // jobs beyond max_kinds
    std::vector<std::string> queues;       // unreadable queues; names are empty in a minimal digest
    std::int64_t queue_failures = 0;       // failures that report an unreadable queue
    std::int64_t standing = 0;             // earlier failures that still stand
    std::int64_t cleared = 0;              // earlier failures cleared since the previous digest
    std::optional<EarlierDigest> previous; // the last accepted digest before this one
    std::vector<std::string> notes;        // further facts, one to three sentences each
};

// Limits on the text of a job in a digest, in characters.
inline constexpr std::size_t max_name = 100; // a queue, an id, a type, a chain
inline constexpr std::size_t max_error_lines = 6;
inline constexpr std::size_t max_error = 600;
inline constexpr std::size_t max_steps = 300; // all steps of a chain that never ran

// Limits on distinct causes and kinds.
inline constexpr std::size_t max_causes = 10000;
inline constexpr std::size_t max_kinds = 10000;

// More jobs than any mail can list.
inline constexpr std::size_t listed_limit = 1000;

// Builds a digest from its failures, one by one, in ledger order.
class DigestBuilder {
public:
    // `max_listed` limits the jobs that a rendering lists. No cause keeps more.
    explicit DigestBuilder(std::size_t max_listed);

    void add(const Failure &failure);

    // Returns the digest and empties the builder. The caller fills in id, database and history.
    Digest finish();

private:
    // Indexes; nullopt beyond max_causes.
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
    std::unordered_map<std::string, Place> causes_;       // by chain and identity
    std::unordered_map<std::string, std::size_t> kinds_;  // by name
    std::unordered_set<std::string> queues_;              // unreadable ones
    std::vector<std::size_t> keepers_; // [k]: number of causes that hold more than k failures
};

// The same digest with counts only, without text of its jobs.
Digest minimal(Digest digest);

} // namespace job_alerting::core
