// Sending of HTTP requests, independent of their content.

#pragma once

#include "server/base/settings.hpp"

#include "core/conceal.hpp"
#include "core/message.hpp"
#include "http/smtp.hpp"

#include <stdexcept>
#include <string_view>

namespace job_alerting::server {

// A missing or invalid setting prevents a request; what() names it.
struct CannotSend : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Checks the settings that concern every request. Throws CannotSend.
void check_route(const Settings &settings);

// Sends a POST request. No transaction may be open. Throws ServerError if it is interrupted.
core::Answer post(const core::Request &request, const Settings &settings);

// Hands a mail to a mail server, under the same conditions.
core::SmtpAnswer submit(const core::Submission &submission, const http::MailServer &server,
                        const Settings &settings);

// Sends a GET request. The timeout is the lesser of `time_limit` (milliseconds) and http_timeout.
core::Answer get(const std::string &url, const Settings &settings, int time_limit);

// The current time in seconds since 1970, for the interpretation of an answer.
std::int64_t seconds_now();

// Replaces parts of a secret in an answer, because an answer can quote the request and is stored
// and logged. See core/conceal.hpp.
void conceal(core::Answer &answer, std::string_view secret, std::string_view instead,
             std::size_t least = core::min_run);

} // namespace job_alerting::server
