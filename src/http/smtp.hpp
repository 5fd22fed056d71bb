// Hands one mail to a mail server, once, by libcurl and under the rules of client.hpp: TLS with a
// verified peer, except to this very machine; a fresh connection; nothing from the environment.

#pragma once

#include "core/message.hpp"
#include "http/client.hpp"

#include <string>

namespace job_alerting::http {

struct MailServer {
    std::string url; // see mail_server_fault()
    // Empty: no login. A login demands TLS, even to this machine.
    std::string user;
    std::string password;
};

// Hands the mail over. Whatever goes wrong on the way is told in the answer; throws only what
// `service` throws, and std::bad_alloc. Goes to the server directly, not by `options.proxy`.
// `service` is called from within libcurl, too; what it throws is passed on when that has ended.
core::SmtpAnswer submit(const core::Submission &submission, const MailServer &server,
                        const Options &options, const Service &service);

} // namespace job_alerting::http
