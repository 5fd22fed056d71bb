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

// A mail on its way to a mail server.
struct Submission {
    std::string from;            // an address without a name
    std::vector<std::string> to; // likewise; each once
    std::string message;         // RFC 5322; lines end in CR LF
};

// How far the dialogue with a mail server came.
enum class SmtpStage {
    connection, // nothing was heard of the server
    greeting,   // its first words, and EHLO
    encryption,
    login,
    sender,
    recipients,
    data,    // the permission to send the message
    verdict, // what became of the message
};

// A recipient that the server does not take mail for.
struct RefusedRecipient {
    std::size_t number = 0; // in Submission::to
    int code = 0;
    std::string reply;
};

// The result of one attempt to submit a mail.
struct SmtpAnswer {
    SmtpStage stage = SmtpStage::connection;

    // The reply to the last command of this stage, in one line; code 0: there was none. A reply
    // counts even when the connection broke after it: the server had decided.
    int code = 0;
    std::string reply;

    std::vector<RefusedRecipient> refused;
    std::size_t size_limit =
        0; // the largest message that the server says it takes; 0: it says none

    // Whether the end of the message may have been handed over. False only when that is provably
    // not so.
    bool handed_over = false;

    // The error of the transport, for people; empty when there is none.
    std::string error;
};

} // namespace job_alerting::core
