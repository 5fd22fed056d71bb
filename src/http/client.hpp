// Sends one request, once. libcurl is behind this; jobs and the server are not known here.
//
// The rules that make "once" true and the answer trustworthy: a fresh connection that is never
// reused (libcurl silently repeats a POST on a reused one), HTTP/1.1, no Expect, no redirects, no
// proxy, netrc or key log from the environment, https with a verified peer and TLS 1.2 or newer,
// a bounded answer, and no callback that could jump or throw.

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

// Called several times a second while a request is under way, from our own code, never from
// inside libcurl. It may throw to abandon the request.
using Service = std::function<void()>;

// Sends the request. Whatever goes wrong on the way is told in the answer; throws only what
// `service` throws, and std::bad_alloc.
core::Answer post(const core::Request &request, const Options &options, const Service &service);

// Asks for an address by GET, under the same rules.
core::Answer get(const std::string &url, const Options &options, const Service &service);

} // namespace job_alerting::http
