// A round: one pass over this database. It records failures, composes digests, sends them and
// settles the answers.

#pragma once

#include "server/base/problems.hpp"
#include "server/base/settings.hpp"
#include "server/delivery/delivery.hpp"

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace job_alerting::server {

struct RoundReport {
    std::vector<ChannelReport> channels;
    std::optional<double> due_in; // seconds until a digest is due again, or a postponed queue
    bool read_all = true;         // false when a queue could not be read or recorded
    bool all_reported = false;    // no digest of these channels waits or is in doubt
    bool ended = true;            // false when a channel met an error and is retried soon
    bool watched = true; // false when there is no queue and nothing of a former one to report
    Problems problems;   // problems that prevent delivery and that no table shows
};

// An invalid setting leaves no channel to send through; what() names the setting.
struct BadSetting : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Returns the valid channels of the list. Throws BadSetting when the list has only invalid names.
std::vector<ChannelKind> configured_channels(const Settings &settings);

// Returns the fault of the list; empty when it has none.
std::string channels_fault(const Settings &settings);

// Runs a round. The caller holds the round lock; no transaction is open. `by_hand`: try every
// waiting digest at once, unless the provider requested a wait. Throws ExtensionGone, WrongVersion,
// BadSetting, ServerError and std::exception; committed work stays, and the next round continues
// from there.
RoundReport run_round(bool by_hand);

} // namespace job_alerting::server
