// What comes back over the network, as libcurl hands it over: in pieces, of any size, from anybody.

#pragma once

#include <cstddef>
#include <map>
#include <string>

namespace job_alerting::http {

class Received {
public:
    static constexpr std::size_t max_headers = 16 * 1000; // bytes kept of the headers
    static constexpr std::size_t max_body = 2 * 1000;     // kept of the body
    static constexpr std::size_t max_read = 1000 * 1000;  // read of both together

    // Takes all the room it will ever need: what is called inside libcurl may not throw.
    Received();

    // A line of the headers, kept whole or not at all; a piece of the body. False once too much was
    // read: the transfer should end (the status has been read by then).
    bool add_headers(const char *data, std::size_t size) noexcept;
    bool add_body(const char *data, std::size_t size) noexcept;

    // Names in lower case; of several headers of one name the last counts.
    std::map<std::string, std::string> headers() const;
    const std::string &body() const { return body_; }

private:
    bool count(std::size_t size) noexcept;

    std::string headers_;
    std::string body_;
    std::size_t read_ = 0;
};

} // namespace job_alerting::http
