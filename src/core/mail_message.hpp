// A mail as RFC 5322 and MIME write it, for channels that hand over a whole message.
//
// This file writes it because no library fits: libcurl renders a message only while it sends it,
// each time with another boundary; mimetic 0.9.8 knows no encoded words (RFC 2047), folds no header
// and encodes the line ends of a text that is not ASCII; VMime is under the GPL; GMime brings GLib
// into the worker. test/unit/mail_message_test.cpp has Python's `email` package judge what is
// written.

#pragma once

#include "core/render.hpp"
#include "core/sendgrid.hpp"

#include <string>

namespace job_alerting::core {

// The message: multipart/alternative of text and HTML, with the same headers as SendGrid gets.
// Lines end in CR LF and have at most 76 characters, unless one word of a header is longer (an
// address, the Message-ID). All of it is ASCII but for an address that is not, so it is as safe
// with a server that knows no 8BITMIME; and it has no backslash. The same mail and envelope give
// the same bytes.
std::string mail_message(const Mail &mail, const Envelope &envelope);

} // namespace job_alerting::core
