// Failures and digests for the tests.

#pragma once

#include "core/digest.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace job_alerting::core {

inline Moment moment(std::int64_t micros) {
    return {micros, "2026-07-14T03:" + std::to_string(10 + micros % 50) + ":00+02:00"};
}

inline Failure sample_failure(std::int64_t id = 1) {
    Failure failure;
    failure.id = id;
    failure.queue = "research_jobs";
    failure.job_id = std::to_string(4710 + id);
    failure.source = "apple";
    failure.job_type = "refresh_catalog";
    failure.target_type = "album";
    failure.target_id = "6f2c1a52-0d8e-4c7f-9b1c-2f3f5c1f7a10";
    failure.status = "failed";
    failure.attempts = 3;
    failure.max_attempts = 3;
    failure.error = "HTTP 503 from upstream";
    failure.failed_at = moment(id);
    return failure;
}

inline Failure bare_failure(std::int64_t id = 1) {
    Failure failure;
    failure.id = id;
    failure.queue = "research_jobs";
    failure.job_id = std::to_string(4710 + id);
    return failure;
}

inline Failure unreadable_queue(const std::string &queue) {
    Failure failure;
    failure.queue = queue;
    failure.job_id = unreadable;
    failure.status = unreadable;
    failure.error = "permission denied for table " + queue;
    failure.failed_at = moment(7);
    return failure;
}

inline Digest named(Digest digest) {
    digest.id = 17;
    digest.database = "approachnote";
    return digest;
}

inline Digest digest_of(const std::vector<Failure> &failures, std::size_t max_listed = 50) {
    DigestBuilder builder(max_listed);
    for (const Failure &failure : failures)
        builder.add(failure);
    return named(builder.finish());
}

// A distinct name for every number, in letters only.
inline std::string kind(int number) {
    std::string name = "kind_";
    for (; number > 0; number /= 26)
        name += static_cast<char>('a' + number % 26);
    return name;
}

inline Failure of_kind(int number, std::int64_t id = 1) {
    Failure failure = sample_failure(id);
    failure.source.reset();
    failure.job_type = kind(number);
    return failure;
}

inline std::string repeated(std::string_view text, std::size_t times) {
    std::string all;
    for (std::size_t i = 0; i < times; ++i)
        all += text;
    return all;
}

inline std::size_t occurrences(std::string_view text, std::string_view of) {
    std::size_t count = 0;
    for (auto at = text.find(of); at != text.npos; at = text.find(of, at + of.size()))
        ++count;
    return count;
}

inline bool contains(std::string_view text, std::string_view part) {
    return text.find(part) != text.npos;
}

} // namespace job_alerting::core
