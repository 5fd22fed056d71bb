// Slack's incoming webhooks. No other file knows them.

#pragma once

#include "core/digest.hpp"
#include "core/message.hpp"

#include <cstddef>
#include <string>

namespace job_alerting::core {

// Limit on the whole JSON of a message. Slack refuses messages above about 13,000 characters.
inline constexpr std::size_t max_slack_characters = 12000;
inline constexpr std::size_t max_slack_blocks = 50;

// The body of the POST: the facts of the mail as Block Kit. It is JSON in ASCII, so any database
// can store it. Equal digests give equal bytes. `max_listed` and `job_url` are as for render(). The
// message counts the jobs that exceed Slack's limits.
std::string slack_body(const Digest &digest, std::size_t max_listed, const std::string &job_url);

// The body of a plain message.
std::string slack_text(const std::string &text);

// The request for a stored body. The address is the secret.
Request slack_request(const std::string &webhook_url, std::string body);

} // namespace job_alerting::core
