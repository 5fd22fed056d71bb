// SendGrid's Web API v3. No other file knows it.

#pragma once

#include "core/message.hpp"
#include "core/render.hpp"

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace job_alerting::core {

struct Address {
    std::string email;
    std::string name; // may be empty
};

// SendGrid's limit for one mail.
inline constexpr std::size_t max_recipients = 1000;

// An invalid address list. what() quotes the invalid address, for users who may see the list.
// unquoted() only gives its position.
class BadAddress : public std::invalid_argument {
public:
    BadAddress(const std::string &quoting, std::string unquoted)
        : std::invalid_argument(quoting), unquoted_(std::move(unquoted)) {}

    const std::string &unquoted() const { return unquoted_; }

private:
    std::string unquoted_;
};

// The characters that may precede the @ of an address. Mail servers with SMTPUTF8 (RFC 6531) accept
// UTF-8; SendGrid does not.
enum class LocalPart { ascii, utf8 };

// Parses "Name <address>" or "address", separated by commas. A name with a comma must be in double
// quotes. A domain must be ASCII, with xn--... for other letters. Drops repeats,
// compared without case, because SendGrid refuses them. Throws BadAddress if an address is invalid
// or the list is empty.
std::vector<Address> parse_addresses(std::string_view list,
                                     LocalPart local_part = LocalPart::ascii);

struct Envelope {
    std::int64_t digest_id = 0;
    Address from;
    std::vector<Address> to;
    std::string message_id; // "<left@domain>"
    std::string date;       // RFC 5322; a re-send keeps it
};

// A Message-ID to refer to, of a mail that was never sent. Mail clients group mails that refer to
// the same mail. The copies of a digest share a root. Each digest has its own: a new alert must not
// hide in an old thread.
std::string thread_root_of(const std::string &message_id);

// The body of POST /v3/mail/send. It is JSON in ASCII, so any database can store it. Equal mails
// and envelopes give equal bytes.
std::string sendgrid_body(const Mail &mail, const Envelope &envelope);

// The request for a stored body.
Request sendgrid_request(const std::string &endpoint, const std::string &key, std::string body);

} // namespace job_alerting::core
