// http::endpoint_fault() on any value of sendgrid_url. For libcurl, an accepted value with the path
// that core appends is a URL of exactly that path, https or http to this machine, without a user,
// so that the key goes nowhere else. Plain http is recognised where TLS and proxy are decided. A
// fault is one line. The same for the promises of proxy_fault().
//
// Input: the URL.

#include "property.hpp"

#include "core/sendgrid.hpp"
#include "http/endpoint.hpp"

#include <curl/curl.h>

using namespace job_alerting;
using namespace job_alerting::fuzz;

namespace {

struct Url {
    bool valid = false;
    std::string scheme, user, password, host, path, query, fragment;
};

std::string part(CURLU *handle, CURLUPart which) {
    char *text = nullptr;
    if (curl_url_get(handle, which, &text, 0) != CURLUE_OK)
        return {};
    const std::string result = text;
    curl_free(text);
    return result;
}

Url parsed(const std::string &text) {
    CURLU *handle = curl_url();
    Url url;
    url.valid = curl_url_set(handle, CURLUPART_URL, text.c_str(), 0) == CURLUE_OK;
    url.scheme = part(handle, CURLUPART_SCHEME);
    url.user = part(handle, CURLUPART_USER);
    url.password = part(handle, CURLUPART_PASSWORD);
    url.host = part(handle, CURLUPART_HOST);
    url.path = part(handle, CURLUPART_PATH);
    url.query = part(handle, CURLUPART_QUERY);
    url.fragment = part(handle, CURLUPART_FRAGMENT);
    curl_url_cleanup(handle);
    return url;
}

bool is_this_machine(const std::string &host) {
    return host == "localhost" || host == "[::1]" ||
           (host.rfind("127.", 0) == 0 && host.find_first_not_of("0123456789.") == host.npos);
}

void check_endpoint(const std::string &text) {
    const Url url = parsed(core::sendgrid_request(text, "key", "").url);
    require(url.valid, "it is a URL");
    require(url.scheme == "https" || (url.scheme == "http" && is_this_machine(url.host)),
            "https, or http to this machine");
    require(http::is_plain(text) == (url.scheme == "http"), "plain http is known to be so");
    require(url.user.empty() && url.password.empty(), "no user");
    require(url.path.ends_with("/v3/mail/send"), "the path that was meant");
    require(url.query.empty() && url.fragment.empty(), "and nothing behind it");
}

void check_proxy(const std::string &text) {
    const Url url = parsed(text);
    require(url.valid && (url.scheme == "http" || url.scheme == "https"), "a proxy speaks http");
    require(url.user.empty() && url.password.empty(), "no user of a proxy");
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    // A setting is a C string.
    const std::string text = input_of(data, size).c_str();
    const std::string fault = http::endpoint_fault(text);
    const std::string fault_of_proxy = http::proxy_fault(text);
    require(is_printable_ascii(fault) && is_printable_ascii(fault_of_proxy), "a fault is one line");
    if (fault.empty())
        check_endpoint(text);
    if (fault_of_proxy.empty() && !text.empty())
        check_proxy(text);
    return 0;
}
