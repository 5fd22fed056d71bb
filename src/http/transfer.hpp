// libcurl, as a request over HTTP and a mail over SMTP both use it. Only the files of this folder
// include it.

#pragma once

#include "http/client.hpp"

#include <curl/curl.h>
#include <pthread.h>

#include <csignal>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>

namespace job_alerting::http {

// libcurl failed before anything was sent.
struct Refused : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Runs once per process. The environment must not decide where a key goes or who can read it.
void initialise();

using Easy = std::unique_ptr<CURL, decltype(&curl_easy_cleanup)>;
using Multi = std::unique_ptr<CURLM, decltype(&curl_multi_cleanup)>;
using List = std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)>;

template <typename Option> void set(CURL *easy, CURLoption option, Option value) {
    const CURLcode code = curl_easy_setopt(easy, option, value);
    if (code == CURLE_OUT_OF_MEMORY)
        throw std::bad_alloc();
    if (code != CURLE_OK)
        throw Refused(std::string("libcurl rejects an option: ") + curl_easy_strerror(code));
}

// Peer, authorities and version of TLS.
void set_tls(CURL *easy, const Options &options);

// Adds a line to a list.
void append(List &list, const char *text);

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

// From libcurl 8.20 on the multi handle has the threads that resolve, and waits for them when it
// goes, unless it is told not to. An older one knows no such option and has nothing to wait for.
void do_not_wait_for_resolver(CURLM *multi);

// Drives the transfer to its end in slices, and calls the service between them.
CURLcode transfer(CURLM *multi, const Service &service);

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

} // namespace job_alerting::http
