#include "http/transfer.hpp"

#include <cstdlib>

namespace job_alerting::http {

namespace {

constexpr int slice_ms = 100; // between calls of the service

} // namespace

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

void set_tls(CURL *easy, const Options &options) {
    set(easy, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
    set(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    set(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    if (!options.ca_file.empty())
        set(easy, CURLOPT_CAINFO, options.ca_file.c_str());
}

void append(List &list, const char *text) {
    curl_slist *longer = curl_slist_append(list.get(), text);
    if (!longer)
        throw std::bad_alloc();
    (void)list.release();
    list.reset(longer);
}

void do_not_wait_for_resolver(CURLM *multi) {
    // By its number: the library that is loaded may be newer than the headers of the build.
    constexpr CURLMoption quick_exit = static_cast<CURLMoption>(CURLOPTTYPE_LONG + 21);
    const CURLMcode code = curl_multi_setopt(multi, quick_exit, 1L);
    if (code != CURLM_OK && code != CURLM_UNKNOWN_OPTION)
        throw Refused("libcurl refuses CURLMOPT_QUICK_EXIT");
}

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

} // namespace job_alerting::http
