// core::parse_addresses() on any value of mail_to. It throws BadAddress with a message of one line,
// or returns at least one address, none of them twice, each fit for a mail: ASCII around one @, a
// name of one line. Written out and parsed again, they are the same.
//
// Input: the list.

#include "property.hpp"

#include "core/sendgrid.hpp"

#include <set>

using namespace job_alerting::core;
using namespace job_alerting::fuzz;

namespace {

std::string lower_case(std::string text) {
    for (char &c : text)
        c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    return text;
}

void check(const Address &address) {
    const std::string &email = address.email;
    const std::size_t at = email.find('@');
    require(is_printable_ascii(email), "an address is ASCII");
    require(at != email.npos && at == email.rfind('@'), "it has one @");
    require(at > 0 && at + 1 < email.size(), "and something on either side of it");
    require(email.find_first_of(" <>,;:[]\"\\()") == email.npos, "it needs no quotes");
    require(email.find("..") == email.npos && email.front() != '.' && email.back() != '.' &&
                email[at - 1] != '.' && email[at + 1] != '.',
            "a dot stands between two others");
    require(email[at + 1] != '-' && email.back() != '-' && email.find("-.", at) == email.npos &&
                email.find(".-", at) == email.npos,
            "a hyphen stands inside a part of the domain");
    require(email.size() <= 254 && at <= 64, "it is bounded");
    require(is_one_line(address.name), "a name is one line, fit to show");
    require(characters(address.name) <= 200, "a name is bounded");
}

std::string written_out(const std::vector<Address> &addresses) {
    std::string list;
    for (const Address &address : addresses) {
        list += list.empty() ? "\"" : ", \"";
        for (const char c : address.name)
            (list += c == '"' || c == '\\' ? "\\" : "") += c;
        list += "\" <" + address.email + ">";
    }
    return list;
}

bool same(const std::vector<Address> &a, const std::vector<Address> &b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto &x, const auto &y) {
        return x.email == y.email && x.name == y.name;
    });
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    std::vector<Address> addresses;
    try {
        addresses = parse_addresses(input_of(data, size));
    } catch (const BadAddress &bad) {
        require(*bad.what() != '\0' && is_one_line(bad.what()), "a fault is told in one line");
        require(!bad.unquoted().empty() && is_printable_ascii(bad.unquoted()),
                "and without a word of the list");
        return 0;
    }
    require(!addresses.empty(), "there is an address");
    std::set<std::string> emails;
    for (const Address &address : addresses) {
        check(address);
        require(emails.insert(lower_case(address.email)).second, "no address comes twice");
    }
    require(same(parse_addresses(written_out(addresses)), addresses), "written out, the same");
    return 0;
}
