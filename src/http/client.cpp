#include "http/client.hpp"

#include "http/endpoint.hpp"
#include "http/received.hpp"
#include "http/transfer.hpp"

#include <algorithm>

namespace job_alerting::http {

namespace {

constexpr long connect_timeout_ms = 10 * 1000; // a timeout here is harmless: nothing was sent yet

// The target of the callbacks. They run inside libcurl, so nothing here may throw or jump.
struct Exchange {
    Received received;
    int requests = 0; // number of times that libcurl was about to send one
};

std::size_t on_header(char *data, std::size_t, std::size_t size, void *target) noexcept {
    return static_cast<Exchange *>(target)->received.add_headers(data, size) ? size : 0;
}

std::size_t on_body(char *data, std::size_t, std::size_t size, void *target) noexcept {
    return static_cast<Exchange *>(target)->received.add_body(data, size) ? size : 0;
}

// libcurl calls this before it sends the request. A second call would send a second copy.
int on_request(void *target, char *, char *, int, int) noexcept {
    Exchange &exchange = *static_cast<Exchange *>(target);
    return exchange.requests++ == 0 ? CURL_PREREQFUNC_OK : CURL_PREREQFUNC_ABORT;
}

List header_list(const std::vector<std::string> &headers) {
    List list(nullptr, curl_slist_free_all);
    for (const std::string &header : headers)
        append(list, header.c_str());
    append(list, "Expect:"); // a body sent only after 100-continue can be sent twice
    return list;
}

void set_security(CURL *easy, const std::string &url, const Options &options) {
    const bool plain = is_plain(url); // endpoint_fault() allows it to this machine
    set(easy, CURLOPT_PROTOCOLS_STR, plain ? "http" : "https");
    set(easy, CURLOPT_FOLLOWLOCATION, 0L);
    set_tls(easy, options);
    // "" overrides a proxy of the environment. A request in clear text must not leave this machine.
    set(easy, CURLOPT_PROXY, plain ? "" : options.proxy.c_str());
    set(easy, CURLOPT_NOPROXY, "");
    set(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    set(easy, CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
}

void set_once(CURL *easy, Exchange &exchange) {
    set(easy, CURLOPT_FRESH_CONNECT, 1L);
    set(easy, CURLOPT_FORBID_REUSE, 1L);
    set(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    set(easy, CURLOPT_PREREQFUNCTION, on_request);
    set(easy, CURLOPT_PREREQDATA, &exchange);
}

void set_limits(CURL *easy, const Options &options, Exchange &exchange) {
    set(easy, CURLOPT_NOSIGNAL, 1L);
    set(easy, CURLOPT_QUICK_EXIT, 1L); // do not wait for a resolver that hangs
    set(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(options.timeout));
    set(easy, CURLOPT_CONNECTTIMEOUT_MS, std::min<long>(connect_timeout_ms, options.timeout));
    set(easy, CURLOPT_HEADERFUNCTION, on_header);
    set(easy, CURLOPT_HEADERDATA, &exchange);
    set(easy, CURLOPT_WRITEFUNCTION, on_body);
    set(easy, CURLOPT_WRITEDATA, &exchange);
}

enum class Method { get, post };

void set_request(CURL *easy, Method method, const core::Request &request, curl_slist *headers) {
    set(easy, CURLOPT_URL, request.url.c_str());
    set(easy, CURLOPT_HTTPHEADER, headers);
    if (method == Method::get) {
        set(easy, CURLOPT_HTTPGET, 1L);
        return;
    }
    set(easy, CURLOPT_POST, 1L);
    set(easy, CURLOPT_POSTFIELDS, request.body.data());
    set(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
}

// True if the whole request was uploaded.
bool was_handed_over(CURL *easy, const Exchange &exchange, std::size_t size) {
    curl_off_t uploaded = 0;
    curl_easy_getinfo(easy, CURLINFO_SIZE_UPLOAD_T, &uploaded);
    return exchange.requests > 0 && uploaded >= static_cast<curl_off_t>(size);
}

core::Answer answer_of(CURL *easy, CURLcode code, const char *words, const Exchange &exchange,
                       std::size_t size) {
    core::Answer answer;
    long status = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    answer.status = static_cast<int>(status);
    answer.handed_over = status != 0 || was_handed_over(easy, exchange, size);
    if (code != CURLE_OK)
        answer.error = *words ? words : curl_easy_strerror(code);
    answer.headers = exchange.received.headers();
    answer.body = exchange.received.body();
    return answer;
}

core::Answer send(Method method, const core::Request &request, const Options &options,
                  const Service &service) {
    try {
        initialise();
        Exchange exchange;
        char words[CURL_ERROR_SIZE] = "";
        const List headers = header_list(request.headers);
        const Easy easy(curl_easy_init(), curl_easy_cleanup);
        const Multi multi(curl_multi_init(), curl_multi_cleanup);
        if (!easy || !multi)
            throw Refused("libcurl cannot be initialised");
        do_not_wait_for_resolver(multi.get());
        set(easy.get(), CURLOPT_ERRORBUFFER, words);
        set_request(easy.get(), method, request, headers.get());
        set_security(easy.get(), request.url, options);
        set_once(easy.get(), exchange);
        set_limits(easy.get(), options, exchange);
        const Attached attached(multi.get(), easy.get());
        const CURLcode code = transfer(multi.get(), service);
        return answer_of(easy.get(), code, words, exchange, request.body.size());
    } catch (const Refused &refused) {
        core::Answer answer;
        answer.error = refused.what();
        return answer;
    }
}

} // namespace

core::Answer post(const core::Request &request, const Options &options, const Service &service) {
    return send(Method::post, request, options, service);
}

core::Answer get(const std::string &url, const Options &options, const Service &service) {
    return send(Method::get, {.url = url, .headers = {}, .body = {}}, options, service);
}

} // namespace job_alerting::http
