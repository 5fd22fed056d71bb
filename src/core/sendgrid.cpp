#include "core/sendgrid.hpp"

#include "core/text.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <utility>

namespace job_alerting::core {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t most_email = 320;

std::vector<std::string> split(std::string_view list);
Address parse_address(const std::string &item);
bool has_email(const std::vector<Address> &addresses, const std::string &email);
Json to_json(const Address &address);
bool is_control(char c);
std::string root_of(const std::string &message_id);

} // namespace

std::vector<Address> parse_addresses(std::string_view list) {
    if (std::any_of(list.begin(), list.end(), is_control))
        throw BadAddress("an address list must not contain control characters");
    std::vector<Address> addresses;
    for (const std::string &item : split(list)) {
        Address address = parse_address(item);
        if (!has_email(addresses, address.email))
            addresses.push_back(std::move(address));
    }
    return addresses;
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
          {"References", root_of(envelope.message_id)},
          {"Date", envelope.date},
          {"Auto-Submitted", "auto-generated"}}},
        {"categories", Json::array({"job_alerting"})},
        // An account's defaults would rewrite the links and add to the text.
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

// A second copy stands beside the first where both refer to the same mail, even one that was never
// sent. The next digest refers to another: a new alert must not hide in an old thread.
std::string root_of(const std::string &message_id) {
    const std::size_t at = std::min(message_id.find('@'), message_id.size());
    return message_id.substr(0, at) + ".thread" + message_id.substr(at);
}

// The message of a fault in an address, which is quoted so that it can be found in the list.
std::string fault(const std::string &item, const char *what) {
    return "\"" + one_line(item, 100) + "\" is not a mail address: " + what;
}

// At the commas that stand in no quotes. The quotes stay.
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
        throw BadAddress(fault(items.back(), "a double quote is not closed"));
    return items;
}

std::string trim(const std::string &text) {
    const std::size_t first = text.find_first_not_of(' ');
    const std::size_t last = text.find_last_not_of(' ');
    return first == std::string::npos ? std::string() : text.substr(first, last - first + 1);
}

// A name as it is shown: without its quotes, and without what SendGrid refuses in a name.
std::string display_name(const std::string &written) {
    std::string name;
    for (std::size_t i = 0; i < written.size(); ++i)
        if (written[i] == '\\' && i + 1 < written.size())
            name += written[++i];
        else if (written[i] != '"')
            name += written[i];
    std::replace(name.begin(), name.end(), ',', ' ');
    std::replace(name.begin(), name.end(), ';', ' ');
    return one_line(name, 200);
}

bool is_address_character(char c) {
    return c > ' ' && c < 0x7F && std::string_view("<>,;\"\\()").find(c) == std::string_view::npos;
}

void check_email(const std::string &item, const std::string &email) {
    if (!std::all_of(email.begin(), email.end(), is_address_character))
        throw BadAddress(fault(item, "it holds a character that an address cannot have"));
    const std::size_t at = email.find('@');
    if (at == std::string::npos || email.find('@', at + 1) != std::string::npos)
        throw BadAddress(fault(item, "it must have one @"));
    if (at == 0 || at + 1 == email.size())
        throw BadAddress(fault(item, "something is missing before or after its @"));
    if (email.size() > most_email)
        throw BadAddress(fault(item, "it is longer than 320 characters"));
}

Address parse_address(const std::string &item) {
    const std::string text = trim(item);
    if (text.empty())
        throw BadAddress("an address is missing in the list");
    Address address;
    address.email = text;
    if (text.back() == '>') {
        const std::size_t open = text.rfind('<');
        if (open == std::string::npos)
            throw BadAddress(fault(item, "it has a > without a <"));
        address.name = display_name(text.substr(0, open));
        address.email = trim(text.substr(open + 1, text.size() - open - 2));
    }
    check_email(item, address.email);
    return address;
}

char to_lower(char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool has_email(const std::vector<Address> &addresses, const std::string &email) {
    const auto same = [](char a, char b) { return to_lower(a) == to_lower(b); };
    return std::any_of(addresses.begin(), addresses.end(), [&](const Address &address) {
        return std::equal(address.email.begin(), address.email.end(), email.begin(), email.end(),
                          same);
    });
}

Json to_json(const Address &address) {
    Json json = {{"email", address.email}};
    if (!address.name.empty())
        json["name"] = address.name;
    return json;
}

} // namespace

} // namespace job_alerting::core
