// The channels by name.

#pragma once

#include <string>
#include <vector>

namespace job_alerting::server {

enum class ChannelKind { log, sendgrid, smtp, slack, webhook };

// All there are, in the order in which they are listed.
inline constexpr ChannelKind all_channels[] = {ChannelKind::log, ChannelKind::sendgrid,
                                               ChannelKind::smtp, ChannelKind::slack,
                                               ChannelKind::webhook};

const char *to_string(ChannelKind kind);

// Parses a comma-separated list of channels; keeps their order and drops duplicates. If the list
// names an unknown channel, returns false and sets `unknown` to the first such name.
bool parse_channels(const char *list, std::vector<ChannelKind> &channels, std::string &unknown);

} // namespace job_alerting::server
