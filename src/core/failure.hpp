// A failure as the ledger holds it: one final failure of one job.
// All text is as the job's owner wrote it: hostile, of any length, in whatever encoding the
// database allows. It is cleaned where it is put into a digest, not here.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace job_alerting::core {

// A point in time: a number to order by, and the words a digest prints for it (ISO 8601 in the
// database's time zone, with the offset; "infinity" is possible).
struct Moment {
    std::int64_t micros = 0;
    std::string text;
};

// The status and job_id of the failure that stands for a queue whose failure query does not run.
inline constexpr const char *unreadable = "unreadable";

struct Failure {
    std::int64_t id = 0; // its number in the ledger
    std::string queue;
    std::string job_id;
    std::optional<std::string> source;
    std::optional<std::string> job_type;
    std::optional<std::string> target_type;
    std::optional<std::string> target_id;
    std::optional<std::string> status;
    std::optional<int> attempts;
    std::optional<int> max_attempts;
    std::optional<std::string> error; // empty where none was recorded; none where none is known of
    std::optional<Moment> failed_at;
    std::optional<std::string> chain;
    std::vector<std::string> never_ran; // steps of its chain
    bool cleared = false;               // it was retried, or its job removed, since it was recorded

    // True for the failure of a queue itself, rather than of a job in it.
    bool is_unreadable_queue() const { return status == unreadable && job_id == unreadable; }
};

} // namespace job_alerting::core
