// Which addresses a request may go to.

#pragma once

#include <string>
#include <string_view>

namespace job_alerting::http {

// What is wrong with the base address of a provider, for people; empty when nothing is. It must
// be https, or http to this very machine (for tests), without user, query or fragment: a key is
// sent there.
std::string endpoint_fault(const std::string &url);

// What is wrong with the address of a webhook; empty when nothing is. The same rules, and it has a
// path. The address is a secret, and never quoted.
std::string webhook_fault(const std::string &url);

// What is wrong with an address that is asked for and is a secret itself; empty when nothing is.
// The same rules, but for its query.
std::string heartbeat_fault(const std::string &url);

// Whether the address is one of plain http, as libcurl reads it.
bool is_plain(const std::string &url);

// Parts of a URL, as views of it. The host has no port. The path begins behind host and port and
// includes the query; it may be empty.
struct UrlParts {
    std::string_view host;
    std::string_view path;
};

UrlParts parts_of(std::string_view url);

// What is wrong with the address of a proxy; empty when nothing is.
std::string proxy_fault(const std::string &url);

} // namespace job_alerting::http
