#include "http/client.hpp"

#include "http/endpoint.hpp"
#include "http/received.hpp"

#include <curl/curl.h>
#include <pthread.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <stdexcept>

namespace job_alerting::http {

namespace {

// libcurl failed before anything was sent.
struct Refused : std::runtime_error {
    using std::runtime_error::runtime_error;
};

constexpr int slice_ms = 100;                  // between calls of the service
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

// Only the main thread may handle signals. libcurl's resolver thread inherits this mask.
class BlockedSignals {
public:
    BlockedSignals() {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
    BlockedSignals(const BlockedSignals &) = delete;
    BlockedSignals &operator=(const BlockedSignals &) = delete;

private:
    sigset_t before_;
};

// Runs once per process. The environment must not decide where a key goes or who can read it.
void initialise() {
    static bool done = false;
    if (done)
        return;
    for (const char *name : {"SSLKEYLOGFILE", "NETRC", "CURL_SSL_BACKEND"})
        unsetenv(name);
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        throw Refused("libcurl cannot be initialised");
    done = true;
}

using Easy = std::unique_ptr<CURL, decltype(&curl_easy_cleanup)>;
using Multi = std::unique_ptr<CURLM, decltype(&curl_multi_cleanup)>;
using HeaderList = std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)>;

template <typename Option> void set(CURL *easy, CURLoption option, Option value) {
    const CURLcode code = curl_easy_setopt(easy, option, value);
    if (code == CURLE_OUT_OF_MEMORY)
        throw std::bad_alloc();
    if (code != CURLE_OK)
        throw Refused(std::string("libcurl rejects an option: ") + curl_easy_strerror(code));
}

// From libcurl 8.20 on the multi handle has the threads that resolve, and waits for them when it
// goes, unless it is told not to. An older one knows no such option and has nothing to wait for.
// By its number: the library that is loaded may be newer than the headers of the build.
void do_not_wait_for_resolver(CURLM *multi) {
    constexpr CURLMoption quick_exit = static_cast<CURLMoption>(CURLOPTTYPE_LONG + 21);
    const CURLMcode code = curl_multi_setopt(multi, quick_exit, 1L);
    if (code != CURLM_OK && code != CURLM_UNKNOWN_OPTION)
        throw Refused("libcurl refuses CURLMOPT_QUICK_EXIT");
}

HeaderList header_list(const std::vector<std::string> &headers) {
    HeaderList list(nullptr, curl_slist_free_all);
    const auto append = [&](const char *header) {
        curl_slist *longer = curl_slist_append(list.get(), header);
        if (!longer)
            throw std::bad_alloc();
        (void)list.release();
        list.reset(longer);
    };
    for (const std::string &header : headers)
        append(header.c_str());
    append("Expect:"); // a body sent only after 100-continue can be sent twice
    return list;
}

void set_security(CURL *easy, const std::string &url, const Options &options) {
    const bool plain = is_plain(url); // endpoint_fault() allows it to this machine
    set(easy, CURLOPT_PROTOCOLS_STR, plain ? "http" : "https");
    set(easy, CURLOPT_FOLLOWLOCATION, 0L);
    set(easy, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
    set(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    set(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    if (!options.ca_file.empty())
        set(easy, CURLOPT_CAINFO, options.ca_file.c_str());
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

// Drives the transfer to its end in slices, and calls the service between them.
CURLcode transfer(CURLM *multi, const Service &service) {
    for (;;) {
        int running = 0;
        {
            const BlockedSignals blocked;
            if (curl_multi_perform(multi, &running) != CURLM_OK)
                return CURLE_FAILED_INIT;
        }
        int left = 0;
        while (const CURLMsg *message = curl_multi_info_read(multi, &left))
            if (message->msg == CURLMSG_DONE)
                return message->data.result;
        service();
        if (curl_multi_poll(multi, nullptr, 0, slice_ms, nullptr) != CURLM_OK)
            return CURLE_FAILED_INIT;
    }
}

// Removes the handle from the multi handle on every exit.
class Attached {
public:
    Attached(CURLM *multi, CURL *easy) : multi_(multi), easy_(easy) {
        if (curl_multi_add_handle(multi, easy) != CURLM_OK)
            throw Refused("libcurl rejects the request");
    }
    ~Attached() { curl_multi_remove_handle(multi_, easy_); }
    Attached(const Attached &) = delete;
    Attached &operator=(const Attached &) = delete;

private:
    CURLM *multi_;
    CURL *easy_;
};

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
        const HeaderList headers = header_list(request.headers);
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
