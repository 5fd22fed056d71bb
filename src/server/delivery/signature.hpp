// The signature of a message, by the server.

#pragma once

#include <string>

namespace job_alerting::server {

// The HMAC-SHA256 of a text in base64. Throws ServerError, or CannotSend where the
// cryptographic library refuses.
std::string signature_of(const std::string &text, const std::string &key);

} // namespace job_alerting::server
