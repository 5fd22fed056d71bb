// The wait before a digest is tried again.

#pragma once

#include <cstdint>
#include <optional>

namespace job_alerting::core {

// Seconds to wait after `attempts` tries (at least 1) that were not accepted: the lesser of one
// minute and `interval` at first, doubled each time, at most the lesser of one hour and
// `interval`. `dice` in [0, 1) spreads it by up to a tenth upwards, within that limit, so that
// many databases do not come at once.
double backoff(std::int64_t attempts, double interval, double dice);

// The same where a provider has asked for a wait: that may lengthen the own one, never shorten it.
double backoff(std::int64_t attempts, double interval, double dice,
               std::optional<std::int64_t> asked);

// The longest wait that backoff() gives for this interval by itself. An attempt time farther away
// than that was set by a clock since put back: it counts as due.
double max_backoff(double interval);

} // namespace job_alerting::core
