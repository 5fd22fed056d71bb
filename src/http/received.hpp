// Collects an answer from the network. libcurl delivers it in pieces of any size, and it is
// hostile.

#pragma once

#include <cstddef>
#include <map>
#include <string>

namespace job_alerting::http {

class Received {
public:
    static constexpr std::size_t max_headers = 16 * 1000; // bytes of headers kept
    static constexpr std::size_t max_body = 2 * 1000;     // bytes of the body kept
    static constexpr std::size_t max_read = 1000 * 1000;  // bytes read in all

    // Reserves all its memory: callbacks of libcurl must not throw.
    Received();

    // Adds a line of the headers, kept whole or not at all, or a piece of the body. Returns false
    // after max_read bytes: the transfer should end (the status is known by then).
    bool add_headers(const char *data, std::size_t size) noexcept;
    bool add_body(const char *data, std::size_t size) noexcept;

    // Names are in lower case. The last of several headers with one name counts.
    std::map<std::string, std::string> headers() const;
    const std::string &body() const { return body_; }

private:
    bool count(std::size_t size) noexcept;

    std::string headers_;
    std::string body_;
    std::size_t read_ = 0;
};

} // namespace job_alerting::http
