#include "http/endpoint.hpp"

#include <arpa/inet.h>
#include <curl/curl.h>

#include <algorithm>
#include <cctype>
#include <memory>

namespace job_alerting::http {

namespace {

// A parsed URL. An absent part is empty.
class Url {
public:
    explicit Url(const std::string &text) : url_(curl_url(), curl_url_cleanup) {
        valid_ = url_ && curl_url_set(url_.get(), CURLUPART_URL, text.c_str(), 0) == CURLUE_OK;
    }

    bool valid() const { return valid_; }

    std::string part(CURLUPart which) const {
        char *text = nullptr;
        if (curl_url_get(url_.get(), which, &text, 0) != CURLUE_OK)
            return {};
        const std::unique_ptr<char, decltype(&curl_free)> owned(text, curl_free);
        return owned.get();
    }

private:
    std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> url_;
    bool valid_ = false;
};

bool has_control_or_space(const std::string &text) {
    for (const unsigned char c : text)
        if (c <= ' ' || c == 0x7f)
            return true;
    return false;
}

// An address of this machine. Any name but localhost could resolve to another machine, even one
// that begins with 127.
bool is_loopback(const std::string &host) {
    in_addr address;
    const bool is_ipv4 = inet_pton(AF_INET, host.c_str(), &address) == 1;
    return host == "localhost" || host == "[::1]" ||
           (is_ipv4 && ntohl(address.s_addr) >> 24 == 127);
}

// The fault of an address that receives a secret, or is one.
std::string address_fault(const std::string &text, const char *example) {
    if (has_control_or_space(text))
        return "it contains a space or a control character";
    const Url url(text);
    if (!url.valid())
        return std::string("it is not a URL such as ") + example;
    const std::string scheme = url.part(CURLUPART_SCHEME);
    const std::string host = url.part(CURLUPART_HOST);
    if (scheme == "http") {
        if (!is_loopback(host))
            return "plain http is allowed only to this machine (127.0.0.1, [::1], localhost)";
    } else if (scheme != "https") {
        return "its scheme is not https";
    }
    if (!url.part(CURLUPART_USER).empty() || !url.part(CURLUPART_PASSWORD).empty())
        return "it contains a user name or a password";
    return {};
}

// The same for an address that gets a path appended, or a POST.
std::string bare_address_fault(const std::string &text, const char *example) {
    const std::string fault = address_fault(text, example);
    // Even an empty query would swallow an appended path.
    if (fault.empty() && text.find_first_of("?#") != text.npos)
        return "it has a query or a fragment";
    return fault;
}

} // namespace

std::string endpoint_fault(const std::string &text) {
    return bare_address_fault(text, "https://api.sendgrid.com");
}

std::string heartbeat_fault(const std::string &text) {
    return address_fault(text, "https://hc-ping.com/...");
}

std::string receiver_fault(const std::string &text) {
    return address_fault(text, "https://hooks.example.com/...");
}

std::string mail_server_fault(const std::string &text) {
    if (has_control_or_space(text))
        return "it contains a space or a control character";
    const Url url(text);
    if (!url.valid() || url.part(CURLUPART_HOST).empty())
        return "it is not a URL such as smtp://mail.example.com:587";
    const std::string scheme = url.part(CURLUPART_SCHEME);
    if (scheme != "smtp" && scheme != "smtps")
        return "its scheme is neither smtp nor smtps";
    if (!url.part(CURLUPART_USER).empty() || !url.part(CURLUPART_PASSWORD).empty() ||
        !url.part(CURLUPART_OPTIONS).empty())
        return "it names a user or a password; these stand in the file of smtp_credentials_file";
    if (text.find_first_of("?#") != text.npos)
        return "it has a query or a fragment";
    // The name with which this machine greets.
    const std::string name = url.part(CURLUPART_PATH).erase(0, 1);
    const auto fits = [](unsigned char c) { return isalnum(c) || c == '.' || c == '-'; };
    if (!std::all_of(name.begin(), name.end(), fits))
        return "its path is not the name of a host";
    return {};
}

bool is_plain_mail(const std::string &text) {
    const Url url(text);
    return url.valid() && url.part(CURLUPART_SCHEME) == "smtp" &&
           is_loopback(url.part(CURLUPART_HOST));
}

std::string webhook_fault(const std::string &text) {
    const std::string fault = bare_address_fault(text, "https://hooks.slack.com/services/...");
    if (fault.empty() && Url(text).part(CURLUPART_PATH) == "/")
        return "it has no path";
    return fault;
}

bool is_plain(const std::string &text) {
    const Url url(text);
    return url.valid() && url.part(CURLUPART_SCHEME) == "http";
}

UrlParts parts_of(std::string_view url) {
    const std::size_t host = std::min(url.find_first_not_of(":/", url.find(':')), url.size());
    const bool is_ipv6 = url.substr(host).starts_with('[');
    std::size_t end = std::min(url.find_first_of(is_ipv6 ? "]" : ":/?#", host), url.size());
    if (is_ipv6 && end < url.size())
        ++end;
    const std::size_t path = std::min(url.find_first_of("/?#", end), url.size());
    return {.host = url.substr(host, end - host), .path = url.substr(path)};
}

std::string proxy_fault(const std::string &text) {
    if (text.empty())
        return {};
    if (has_control_or_space(text))
        return "it contains a space or a control character";
    const Url url(text);
    if (!url.valid())
        return "it is not a URL such as http://proxy.example.com:3128";
    const std::string scheme = url.part(CURLUPART_SCHEME);
    if (scheme != "http" && scheme != "https")
        return "its scheme is neither http nor https";
    if (!url.part(CURLUPART_USER).empty() || !url.part(CURLUPART_PASSWORD).empty())
        return "it contains a user name or a password, which every role could read";
    return {};
}

} // namespace job_alerting::http
