// What an answer means for a digest. The one place that interprets a status code.

#pragma once

#include "core/message.hpp"

#include <cstdint>
#include <optional>
#include <string>

namespace job_alerting::core {

// The states of a digest. `sending` lasts from the commit before a request to the commit of its
// answer; who finds it later knows that its sender died.
enum class State { pending, sending, in_doubt, accepted };

const char *to_string(State state);

// All text in it is one line of ASCII, so that it can be stored in any database.
struct Outcome {
    State state = State::pending;     // accepted, pending (surely not accepted) or in_doubt
    int http_status = 0;              // 0 for none
    std::string provider_id;          // the provider's name for the message, where it gave one
    std::string error;                // why it is not accepted, for people; else empty
    std::optional<std::int64_t> wait; // the provider asks for; seconds, 1 to 3600
    bool content_refused = false;     // pending for what it says: a smaller digest may pass
};

// SendGrid's answer to a mail. `now`: seconds since 1970, to read X-RateLimit-Reset by.
Outcome interpret_sendgrid(const Answer &answer, std::int64_t now);

// The answer of Slack's incoming webhook to a message.
Outcome interpret_slack(const Answer &answer, std::int64_t now);

// A try that ended before any request, for want of a setting or a key.
Outcome not_sent(std::string why);

} // namespace job_alerting::core
