// The notes of a digest: sentences for Digest::notes.

#pragma once

#include <cstdint>
#include <string>

namespace job_alerting::core {

// The digest is late: `attempts` earlier attempts failed, the last with `error`.
std::string late_note(std::int64_t attempts, const std::string &error);

// The digest is late: it waited for `digest`, which was in doubt. Its first failure was recorded at
// `since`.
std::string waited_note(std::int64_t digest, const std::string &since);

// The provider refused the full digest with `error`; this is the minimal form.
std::string minimal_note(const std::string &error);

// An earlier digest is in doubt because of `error`.
std::string doubt_note(std::int64_t digest, std::int64_t failures, const std::string &error);

// A queue that an earlier digest reported as unreadable can be read again.
std::string recovered_note(const std::string &queue, const std::string &since);

// The digest is the first one since this database became a copy of another.
std::string copy_note(const std::string &since);

// The search for earlier failures ran out of time.
std::string unfinished_note();

// Some causes have no mark: the digest was not compared with all earlier failures.
std::string unmarked_note();

// The digest is the first one since the server was promoted.
std::string promotion_note(const std::string &since);

} // namespace job_alerting::core
