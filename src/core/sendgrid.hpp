// SendGrid's Web API v3 as a channel: the one file that knows it.

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
    std::string name; // empty where none was given
};

// The most recipients that SendGrid takes in one mail.
inline constexpr std::size_t max_recipients = 1000;

// An address list that cannot be used. what() quotes what is wrong in it, for whoever writes it;
// unquoted() says where that is, for those who may not see the list.
class BadAddress : public std::invalid_argument {
public:
    BadAddress(const std::string &quoting, std::string unquoted)
        : std::invalid_argument(quoting), unquoted_(std::move(unquoted)) {}

    const std::string &unquoted() const { return unquoted_; }

private:
    std::string unquoted_;
};

// "Name <address>" or "address", separated by commas. A name with a comma stands in double quotes.
// An address is ASCII; a domain with other letters is written as xn--... One given twice, in
// whatever case, is kept once, since SendGrid refuses repeats. Throws BadAddress when one is
// malformed or the list is empty.
std::vector<Address> parse_addresses(std::string_view list);

struct Envelope {
    std::int64_t digest_id = 0;
    Address from;
    std::vector<Address> to;
    std::string message_id; // "<left@domain>"
    std::string date;       // RFC 5322; kept on a re-send, so that receivers fold the copies
};

// The body of POST /v3/mail/send: JSON in pure ASCII, so it can be stored in any database
// encoding, and the same bytes for the same mail and envelope.
std::string sendgrid_body(const Mail &mail, const Envelope &envelope);

// The request around a stored body.
Request sendgrid_request(const std::string &endpoint, const std::string &key, std::string body);

} // namespace job_alerting::core
