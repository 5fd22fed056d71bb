// A mail server as a channel: its request and the interpretation of its answer.

#pragma once

#include "core/message.hpp"
#include "core/outcome.hpp"
#include "core/render.hpp"
#include "core/sendgrid.hpp"

#include <optional>
#include <string>

namespace job_alerting::core {

// The request that a digest stores and re-sends byte for byte: the commands that name sender and
// recipients, DATA, and the message. It is ASCII, so any database can store it: another byte of an
// address is written as \C3. Equal mails and envelopes give equal bytes.
std::string smtp_request(const Mail &mail, const Envelope &envelope);

// Parses a stored request. Returns nothing if it is invalid.
std::optional<Submission> submission_of(const std::string &request);

// Interprets the answer of a mail server.
Outcome interpret_smtp(const SmtpAnswer &answer, const Submission &submission);

} // namespace job_alerting::core
