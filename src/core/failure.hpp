// A failure as the ledger holds it: one final failure of one job.
// All text is hostile: the job's owner wrote it, in any length and in any encoding that the
// database allows. DigestBuilder cleans it, not this file.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace job_alerting::core {

// A point in time: a number for ordering, and the text that a digest prints (ISO 8601 in the
// database's time zone, with the offset, or "infinity").
struct Moment {
    std::int64_t micros = 0;
    std::string text;
};

// Status and job_id of the failure that reports a queue whose failure query cannot run.
inline constexpr const char *unreadable = "unreadable";

struct Failure {
    std::int64_t id = 0; // number in the ledger
    std::string queue;
    std::string job_id;
    std::optional<std::string> source;
    std::optional<std::string> job_type;
    std::optional<std::string> target_type;
    std::optional<std::string> target_id;
    std::optional<std::string> status;
    std::optional<int> attempts;
    std::optional<int> max_attempts;
    std::optional<std::string> error; // empty: none was recorded; nullopt: the queue has no errors
    std::optional<Moment> failed_at;
    std::optional<std::string> chain;
    std::vector<std::string> never_ran; // steps of its chain
    bool cleared = false;               // the job was retried or removed since the recording

    // True for the failure of a queue itself, as opposed to one of its jobs.
    bool is_unreadable_queue() const { return status == unreadable && job_id == unreadable; }
};

} // namespace job_alerting::core
