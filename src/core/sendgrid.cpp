#include "core/sendgrid.hpp"

#include "core/text.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <unordered_set>
#include <utility>

namespace job_alerting::core {

namespace {

using Json = nlohmann::ordered_json;

// RFC 5321, 4.5.3.1, and RFC 1035, 2.3.4.
constexpr std::size_t max_local_part = 64;
constexpr std::size_t max_email = 254;
constexpr std::size_t max_label = 63;

std::vector<std::string> split(std::string_view list);
Address parse_address(const std::string &item, std::size_t number, LocalPart local_part);
std::string lower_case(std::string text);
Json to_json(const Address &address);
bool is_control(char c);

} // namespace

std::vector<Address> parse_addresses(std::string_view list, LocalPart local_part) {
    if (std::any_of(list.begin(), list.end(), is_control))
        throw BadAddress("an address list must not contain control characters",
                         "it contains a control character");
    std::vector<Address> addresses;
    std::unordered_set<std::string> known;
    std::size_t number = 0;
    for (const std::string &item : split(list)) {
        Address address = parse_address(item, ++number, local_part);
        if (known.insert(lower_case(address.email)).second)
            addresses.push_back(std::move(address));
    }
    return addresses;
}

std::string thread_root_of(const std::string &message_id) {
    const std::size_t at = std::min(message_id.find('@'), message_id.size());
    return message_id.substr(0, at) + ".thread" + message_id.substr(at);
}

std::string sendgrid_body(const Mail &mail, const Envelope &envelope) {
    Json to = Json::array();
    for (const Address &address : envelope.to)
        to.push_back(to_json(address));
    const Json off = {{"enable", false}};
    const Json body = {
        {"personalizations",
         Json::array({{{"to", std::move(to)},
                       {"custom_args", {{"digest_id", std::to_string(envelope.digest_id)}}}}})},
        {"from", to_json(envelope.from)},
        {"subject", mail.subject},
        {"content", Json::array({{{"type", "text/plain"}, {"value", mail.text}},
                                 {{"type", "text/html"}, {"value", mail.html}}})},
        {"headers",
         {{"Message-ID", envelope.message_id},
          {"References", thread_root_of(envelope.message_id)},
          {"Date", envelope.date},
          {"Auto-Submitted", "auto-generated"}}},
        {"categories", Json::array({"job_alerting"})},
        // The account's defaults would rewrite links and add text.
        {"tracking_settings",
         {{"click_tracking", {{"enable", false}, {"enable_text", false}}},
          {"open_tracking", off},
          {"subscription_tracking", off},
          {"ganalytics", off}}},
        {"mail_settings", {{"footer", off}}},
    };
    return body.dump(-1, ' ', true, Json::error_handler_t::replace);
}

Request sendgrid_request(const std::string &endpoint, const std::string &key, std::string body) {
    if (key.empty() || std::any_of(key.begin(), key.end(), is_control))
        throw std::invalid_argument("the API key is empty or contains control characters");
    const std::size_t last = endpoint.find_last_not_of('/');
    Request request;
    request.url = endpoint.substr(0, last == std::string::npos ? 0 : last + 1) + "/v3/mail/send";
    request.headers = {"Authorization: Bearer " + key, "Content-Type: application/json",
                       "Accept: application/json"};
    request.body = std::move(body);
    return request;
}

namespace {

bool is_control(char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
}

// An error that quotes the address, and gives its number for unquoted().
BadAddress bad(const std::string &item, std::size_t number, const std::string &why) {
    return BadAddress("\"" + one_line(item, 100) + "\" is not a mail address: " + why,
                      "address " + std::to_string(number) + " is invalid: " + why);
}

// Splits at the commas outside quotes. Keeps the quotes.
std::vector<std::string> split(std::string_view list) {
    std::vector<std::string> items(1);
    bool quoted = false;
    for (std::size_t i = 0; i < list.size(); ++i) {
        if (list[i] == '"')
            quoted = !quoted;
        if (list[i] == ',' && !quoted) {
            items.emplace_back();
            continue;
        }
        items.back() += list[i];
        if (quoted && list[i] == '\\' && i + 1 < list.size())
            items.back() += list[++i];
    }
    if (quoted)
        throw bad(items.back(), items.size(), "a double quote is not closed");
    return items;
}

std::string trim(const std::string &text) {
    const std::size_t first = text.find_first_not_of(' ');
    const std::size_t last = text.find_last_not_of(' ');
    return first == std::string::npos ? std::string() : text.substr(first, last - first + 1);
}

// The name without its quotes.
std::string display_name(const std::string &written) {
    std::string name;
    for (std::size_t i = 0; i < written.size(); ++i)
        if (written[i] == '\\' && i + 1 < written.size())
            name += written[++i];
        else if (written[i] != '"')
            name += written[i];
    return one_line(name, 200);
}

// RFC 5322 treats parentheses as comments. Nobody intends them, and servers differ.
bool has_comment(std::string_view written) {
    bool quoted = false;
    for (std::size_t i = 0; i < written.size(); ++i) {
        if (written[i] == '\\')
            ++i;
        else if (written[i] == '"')
            quoted = !quoted;
        else if (!quoted && (written[i] == '(' || written[i] == ')'))
            return true;
    }
    return false;
}

bool is_letter_or_digit(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool is_local_character(char c) {
    return is_letter_or_digit(c) ||
           std::string_view("!#$%&'*+-/=?^_`{|}~.").find(c) != std::string_view::npos;
}

// The fault of the part before the @; nullptr if it is valid.
const char *local_part_fault(std::string_view part) {
    if (!std::all_of(part.begin(), part.end(), is_local_character))
        return "the part before its @ has an invalid character";
    if (part.size() > max_local_part)
        return "the part before its @ is longer than 64 characters";
    if (part.front() == '.' || part.back() == '.' || part.find("..") != part.npos)
        return "the part before its @ begins or ends with a dot, or has two in a row";
    return nullptr;
}

const char *label_fault(std::string_view label) {
    if (label.empty())
        return "its domain begins or ends with a dot, or has two in a row";
    if (label.size() > max_label)
        return "a part of its domain is longer than 63 characters";
    if (label.front() == '-' || label.back() == '-')
        return "a part of its domain begins or ends with a hyphen";
    const auto fits = [](char c) { return is_letter_or_digit(c) || c == '-'; };
    if (!std::all_of(label.begin(), label.end(), fits))
        return "its domain has an invalid character";
    return nullptr;
}

const char *domain_fault(std::string_view domain) {
    for (;;) {
        const std::size_t dot = domain.find('.');
        if (const char *fault = label_fault(domain.substr(0, dot)))
            return fault;
        if (dot == domain.npos)
            return nullptr;
        domain.remove_prefix(dot + 1);
    }
}

bool is_ascii(char c) {
    return static_cast<unsigned char>(c) < 0x80;
}

const char *email_fault(std::string_view email) {
    if (!std::all_of(email.begin(), email.end(), is_ascii))
        return "it is not ASCII (write a domain with other letters as xn--...)";
    if (email.find_first_of(" <>,;\"\\()") != email.npos)
        return "it has an invalid character";
    const std::size_t at = email.find('@');
    if (at == email.npos || email.find('@', at + 1) != email.npos)
        return "it must have exactly one @";
    if (at == 0 || at + 1 == email.size())
        return "the part before or after its @ is missing";
    if (email.size() > max_email)
        return "it is longer than 254 characters";
    const char *fault = local_part_fault(email.substr(0, at));
    return fault ? fault : domain_fault(email.substr(at + 1));
}

// The address with an ASCII letter for each byte that may stand before the @ and is not ASCII.
std::string in_ascii(std::string email, LocalPart local_part) {
    const std::size_t at = email.find('@');
    if (local_part == LocalPart::ascii || at == email.npos)
        return email;
    const std::string before = email.substr(0, at);
    if (clean_line(before) == before)
        std::replace_if(
            email.begin(), email.begin() + static_cast<std::ptrdiff_t>(at),
            [](char c) { return !is_ascii(c); }, 'x');
    return email;
}

Address parse_address(const std::string &item, std::size_t number, LocalPart local_part) {
    const std::string text = trim(item);
    if (text.empty())
        throw BadAddress("an address is missing in the list",
                         "address " + std::to_string(number) + " is missing");
    Address address;
    address.email = text;
    if (text.back() == '>') {
        const std::size_t open = text.rfind('<');
        if (open == std::string::npos)
            throw bad(item, number, "it has a > without a <");
        const std::string name = text.substr(0, open);
        if (has_comment(name))
            throw bad(item, number, "a name with parentheses must be in double quotes");
        address.name = display_name(name);
        address.email = trim(text.substr(open + 1, text.size() - open - 2));
    }
    if (const char *fault = email_fault(in_ascii(address.email, local_part)))
        throw bad(item, number, fault);
    return address;
}

std::string lower_case(std::string text) {
    for (char &c : text)
        c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    return text;
}

// SendGrid refuses a name with a comma or a semicolon, unless it is in quotes.
std::string sendable_name(std::string name) {
    if (name.find_first_of(",;") == name.npos)
        return name;
    std::replace(name.begin(), name.end(), '"', '\'');
    std::replace(name.begin(), name.end(), '\\', '/'); // a last one would escape the quote
    return '"' + name + '"';
}

Json to_json(const Address &address) {
    Json json = {{"email", address.email}};
    if (!address.name.empty())
        json["name"] = sendable_name(address.name);
    return json;
}

} // namespace

} // namespace job_alerting::core
