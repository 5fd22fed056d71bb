// Sends one request at most once, by libcurl. Independent of jobs and of the server.
//
// These rules prevent a second copy and make the answer trustworthy: a fresh connection that is
// never reused (libcurl silently repeats a POST on a reused one), HTTP/1.1, no Expect, no
// redirects, no proxy, netrc or key log from the environment, https with a verified peer and
// TLS 1.2 or newer, a bounded answer, and no callback that could jump or throw.

#pragma once

#include "core/message.hpp"

#include <functional>
#include <string>

namespace job_alerting::http {

struct Options {
    int timeout = 30000; // milliseconds for the whole request
    std::string ca_file; // empty: the system's authorities
    std::string proxy;   // empty: none
};

// Called several times a second during a request, never from inside libcurl. May throw to abandon
// the request.
using Service = std::function<void()>;

// Sends the request. The answer reports every error of the transport. Throws only std::bad_alloc
// and exceptions of `service`.
core::Answer post(const core::Request &request, const Options &options, const Service &service);

// Requests an address by GET, under the same rules.
core::Answer get(const std::string &url, const Options &options, const Service &service);

} // namespace job_alerting::http
