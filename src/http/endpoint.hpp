// Checks the addresses that requests go to.

#pragma once

#include <string>
#include <string_view>

namespace job_alerting::http {

// The fault of a provider's base address, in words; empty if it is valid. It receives a key, so it
// must be https, or http to this machine (for tests), without user, query or fragment.
std::string endpoint_fault(const std::string &url);

// The fault of a webhook's address; empty if it is valid. The same rules apply, and it must have
// a path. The address is a secret, so the fault never quotes it.
std::string webhook_fault(const std::string &url);

// The fault of the heartbeat's address; empty if it is valid. The same rules apply, but it may have
// a query. The address is a secret, so the fault never quotes it.
std::string heartbeat_fault(const std::string &url);

// The fault of the address that JSON is posted to; empty if it is valid. The rules are those of the
// heartbeat.
std::string receiver_fault(const std::string &url);

// The fault of a mail server's address; empty if it is valid. It must be smtp://host:port or
// smtps://host:port, without user and password. A path is the name to give in EHLO.
std::string mail_server_fault(const std::string &url);

// True if the address is smtp:// to this machine, which needs no TLS.
bool is_plain_mail(const std::string &url);

// True if libcurl reads the address as plain http.
bool is_plain(const std::string &url);

// Parts of a URL, as views of it. The host has no port. The path begins behind host and port and
// includes the query; it may be empty.
struct UrlParts {
    std::string_view host;
    std::string_view path;
};

UrlParts parts_of(std::string_view url);

// The fault of a proxy's address; empty if it is valid or empty.
std::string proxy_fault(const std::string &url);

} // namespace job_alerting::http
