// A round: one pass over this database. Record what failed, compose it into digests, send them,
// settle what came of it.

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
    bool read_all = true;         // false when some queue could not be read, or recorded
    bool all_told = false;        // no digest of these channels waits, or is in doubt
    bool ended = true;   // false when a channel met an error and is to be tried again before long
    bool watched = true; // false when there is no queue, and nothing was told of a former one
    Problems problems;   // what keeps a mail from coming, as far as no table says it
};

// A setting makes it impossible to know where digests go; what() names it.
struct BadSetting : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Those of the list; a name in it that is no channel stops no other. Throws BadSetting where there
// are only such names.
std::vector<ChannelKind> configured_channels(const Settings &settings);

// What is wrong with the list; empty when nothing is.
std::string channels_fault(const Settings &settings);

// Runs a round. The caller holds the round lock; no transaction is open. `by_hand`: try at once
// all that waits, except where a provider asked for a wait. Throws ExtensionGone, WrongVersion,
// BadSetting, ServerError and std::exception; what is committed by then stays, and the next round
// goes on from there.
RoundReport run_round(bool by_hand);

} // namespace job_alerting::server
