// A digest for a program: JSON, after the conventions of Standard Webhooks 1.0. Its form is that of
// doc/webhook.schema.json.

#pragma once

#include "core/digest.hpp"
#include "core/message.hpp"
#include "core/render.hpp"

#include <cstddef>
#include <cstdint>
#include <string>

namespace job_alerting::core {

// The largest body.
inline constexpr std::size_t max_webhook_bytes = 256 * 1000;

// Identifies a message.
struct WebhookEvent {
    std::string message_id; // only letters, digits, - and _
    std::string timestamp;  // when it was composed, ISO 8601 in UTC
};

// The body of the POST: the facts of the mail, in JSON of pure ASCII, so it can be stored in any
// database encoding, and the same bytes for the same digest and event. `max_listed` and `job_url`:
// as for render(). Items that do not fit are counted.
std::string webhook_body(const Digest &digest, const WebhookEvent &event, std::size_t max_listed,
                         const std::string &job_url);

// The body of a test message.
std::string webhook_test_body(const Mail &test, const WebhookEvent &event);

// The text that is signed for an attempt at `now`, in seconds since 1970.
std::string signed_text(const std::string &message_id, std::int64_t now, const std::string &body);

// The request of that attempt around a stored body. `signature`: the HMAC of signed_text() in
// base64; empty for none. The address is a secret.
Request webhook_request(const std::string &url, const std::string &message_id, std::int64_t now,
                        const std::string &signature, std::string body);

} // namespace job_alerting::core
