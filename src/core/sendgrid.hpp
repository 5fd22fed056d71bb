// SendGrid's Web API v3 as a channel: the one file that knows it.

#pragma once

#include "core/message.hpp"
#include "core/render.hpp"

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace job_alerting::core {

struct Address {
    std::string email;
    std::string name; // empty where none was given
};

// An address list that cannot be used; what() names the setting's fault, for people.
class BadAddress : public std::invalid_argument {
    using std::invalid_argument::invalid_argument;
};

// "Name <address>" or "address", separated by commas (a name with a comma stands in double quotes).
// An address given twice, in whatever case, is kept once, since SendGrid refuses repeats.
// Throws BadAddress when one is malformed or the list is empty.
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
