// What a digest says beyond its failures: sentences for Digest::notes.

#pragma once

#include <cstdint>
#include <string>

namespace job_alerting::core {

// It comes late, after so many attempts; `error`: what the last of them met.
std::string late_note(std::int64_t attempts, const std::string &error);

// It comes late, behind a digest that was in doubt; `since`: when its first failure was recorded.
std::string waited_note(std::int64_t digest, const std::string &since);

// It is the minimal form of a digest that was refused as it was; `error`: with which words.
std::string minimal_note(const std::string &error);

// An earlier digest, of so many failures, may not have arrived; `error`: why that is not known.
std::string doubt_note(std::int64_t digest, std::int64_t failures, const std::string &error);

// A queue of which an earlier digest says that it cannot be read can be read again.
std::string mended_note(const std::string &queue, const std::string &since);

// It is the first since this database became a copy of another.
std::string copy_note(const std::string &since);

// It does not say all that it could of earlier failures.
std::string unfinished_note();

// Some causes have no mark, since the digest was not compared with all that was told before.
std::string unmarked_note();

// It is the first since the server was promoted.
std::string promotion_note(const std::string &since);

} // namespace job_alerting::core
