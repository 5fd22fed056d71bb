#include "core/retry.hpp"

#include <algorithm>
#include <cmath>

namespace job_alerting::core {

namespace {

constexpr double shortest = 60;
constexpr double longest = 3600;

} // namespace

double backoff(std::int64_t attempts, double interval, double dice) {
    // 2^12 minutes are beyond any limit; more doublings would only overflow.
    const auto doublings = static_cast<int>(std::clamp<std::int64_t>(attempts - 1, 0, 12));
    const double wait = std::ldexp(std::min(shortest, interval), doublings);
    return std::min(wait * (1 + dice / 10), max_backoff(interval));
}

double backoff(std::int64_t attempts, double interval, double dice,
               std::optional<std::int64_t> asked) {
    return std::max(backoff(attempts, interval, dice), static_cast<double>(asked.value_or(0)));
}

double max_backoff(double interval) {
    return std::min(longest, interval);
}

} // namespace job_alerting::core
