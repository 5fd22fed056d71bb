// What travels between core and http: a request that is ready to send, and what came back.
// Plain values; nothing here knows of jobs, libcurl or the server.

#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace job_alerting::core {

// An HTTP POST. The body is what a digest stores and re-sends byte for byte; address and headers
// are made anew at each try, since they carry settings and the key.
struct Request {
    std::string url;
    std::vector<std::string> headers; // "Name: value", without control characters
    std::string body;
};

// What one try of a request brought.
struct Answer {
    // HTTP status, 0 when no status line was read. A status counts even when the rest of the
    // answer was cut off: the server had decided.
    int status = 0;

    // Whether the request may have been handed over whole. False only when that is provably not
    // so: no connection was made, or the upload was not complete.
    bool handed_over = false;

    // What the transport says went wrong, for people; empty when nothing did. Never holds the key.
    std::string error;

    std::map<std::string, std::string> headers; // names in lower case; at most 16 kB are kept
    std::string body;                           // the first 2 kB
};

} // namespace job_alerting::core
