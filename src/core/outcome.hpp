// Interprets the answer to a digest. No other file interprets a status code.

#pragma once

#include "core/message.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace job_alerting::core {

// The states of a digest. `sending` lasts from the commit before a request to the commit of its
// answer. A later round that finds it knows that the sender died.
enum class State { pending, sending, in_doubt, accepted };

const char *to_string(State state);

// All text is one line of ASCII, so any database can store it.
struct Outcome {
    State state = State::pending;     // accepted, pending (surely not accepted) or in_doubt
    int http_status = 0;              // 0: none
    std::string provider_id;          // the provider's id of the message; may be empty
    std::string error;                // why it is not accepted; empty if it is
    std::optional<std::int64_t> wait; // seconds that the provider requests, 1 to 3600
    bool content_refused = false;     // pending because of its content: a smaller digest may pass
    std::string refused;              // recipients refused of an accepted message, and the replies
};

// Interprets SendGrid's answer to a mail. `now`, in seconds since 1970, turns times into waits.
Outcome interpret_sendgrid(const Answer &answer, std::int64_t now);

// Interprets the answer of Slack's incoming webhook to a message.
Outcome interpret_slack(const Answer &answer, std::int64_t now);

// Interprets the answer of another receiver to the JSON of the channel webhook.
Outcome interpret_webhook(const Answer &answer, std::int64_t now);

// The outcome of a try without a request, because a setting or a key was unusable.
Outcome not_sent(std::string why);

// The remark about recipients that were refused; empty if there are none.
std::string note_of(const Outcome &outcome);

// Text from the network as one line of ASCII. It may not fit the database's encoding, but the
// outcome must be stored.
std::string ascii_line(std::string_view hostile, std::size_t max_length);

} // namespace job_alerting::core
