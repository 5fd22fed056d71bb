#include "server/prelude.hpp"

#include "server/route.hpp"

#include "server/guard.hpp"
#include "server/time_limit.hpp"

#include "http/client.hpp"
#include "http/endpoint.hpp"

#include <cerrno>
#include <unistd.h>

namespace job_alerting::server {

namespace {

// Called while a request is under way.
void serve_interrupts() {
    guarded([] {
        CHECK_FOR_INTERRUPTS();
        if (!PostmasterIsAlive())
            proc_exit(1);
    });
}

http::Options options(const Settings &settings, int time_limit) {
    return {.timeout = time_limit, .ca_file = settings.ca_file, .proxy = settings.proxy};
}

} // namespace

void check_route(const Settings &settings) {
    const std::string proxy = http::proxy_fault(settings.proxy);
    if (!proxy.empty())
        throw CannotSend("job_alerting.proxy cannot be used: " + proxy);
    if (!settings.ca_file.empty() && access(settings.ca_file.c_str(), R_OK) != 0)
        throw CannotSend("job_alerting.ca_file \"" + settings.ca_file +
                         "\" cannot be read: " + strerror(errno));
}

core::Answer post(const core::Request &request, const Settings &settings) {
    const SparedConnections spared;
    return http::post(request, options(settings, settings.http_timeout), serve_interrupts);
}

core::Answer get(const std::string &url, const Settings &settings, int time_limit) {
    const SparedConnections spared;
    return http::get(url, options(settings, std::min(settings.http_timeout, time_limit)),
                     serve_interrupts);
}

void conceal(std::string &text, std::string_view secret, std::string_view instead) {
    if (secret.empty())
        return;
    for (std::size_t at = 0; (at = text.find(secret, at)) != text.npos; at += instead.size())
        text.replace(at, secret.size(), instead);
}

// An answer can quote its request, and what it says is stored and logged.
void conceal(core::Answer &answer, std::string_view secret, std::string_view instead) {
    conceal(answer.error, secret, instead);
    conceal(answer.body, secret, instead);
    for (auto &[name, value] : answer.headers)
        conceal(value, secret, instead);
}

} // namespace job_alerting::server
