// Base64, by the server.

#pragma once

#include <optional>
#include <string>

namespace job_alerting::server {

std::string base64(const std::string &bytes);

// Returns nullopt if the text is not base64.
std::optional<std::string> from_base64(const std::string &text);

} // namespace job_alerting::server
