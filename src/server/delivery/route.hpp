// The way of a request out of the server, whatever it carries.

#pragma once

#include "server/base/settings.hpp"

#include "core/conceal.hpp"
#include "core/message.hpp"

#include <stdexcept>
#include <string_view>

namespace job_alerting::server {

// A request cannot be made, for want of a setting; what() says which.
struct CannotSend : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Throws CannotSend when no request could go out by what the settings say.
void check_route(const Settings &settings);

// Sends a request, with no transaction open. Throws ServerError when it is interrupted.
core::Answer post(const core::Request &request, const Settings &settings);

// Asks for an address; within so many milliseconds, or http_timeout where that is less.
core::Answer get(const std::string &url, const Settings &settings, int time_limit);

// By which an answer is interpreted: seconds since 1970.
std::int64_t seconds_now();

// An answer can quote its request, and what it says is stored and logged: puts other words in the
// place of what it has of a secret. See core/conceal.hpp.
void conceal(core::Answer &answer, std::string_view secret, std::string_view instead,
             std::size_t least = core::min_run);

} // namespace job_alerting::server
