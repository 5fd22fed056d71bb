// The messages between core and http: a request that is ready to send, and its answer. Plain
// values, independent of jobs, libcurl and the server.

#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace job_alerting::core {

// An HTTP POST. A digest stores the body and re-sends it byte for byte. Address and headers contain
// settings and the key, so each try makes them anew.
struct Request {
    std::string url;
    std::vector<std::string> headers; // "Name: value", without control characters
    std::string body;
};

// The result of one try.
struct Answer {
    // HTTP status; 0 if no status line was read. A status counts even if the rest of the answer was
    // cut off: the server had decided.
    int status = 0;

    // False only if the server surely did not get the whole request: no connection was made, or the
    // upload was not complete.
    bool handed_over = false;

    // The transport's error in words; empty if there was none. Never contains the key.
    std::string error;

    std::map<std::string, std::string> headers; // names in lower case; the first 16 kB
    std::string body;                           // the first 2 kB
};

} // namespace job_alerting::core
