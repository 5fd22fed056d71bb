#include "server/base/prelude.hpp"

#include "server/delivery/route.hpp"

#include "server/base/guard.hpp"
#include "server/base/time_limit.hpp"

#include "http/client.hpp"
#include "http/endpoint.hpp"

#include <cerrno>
#include <unistd.h>

namespace job_alerting::server {

namespace {

// Called while a request is being sent.
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

// Conceals the proxy and the CA file in an answer: roles that may read the answer may not see these
// settings. Only whole values are concealed, since their parts are ordinary words, such as
// "certificates" and "internal".
core::Answer without_route(core::Answer answer, const Settings &settings) {
    constexpr std::size_t min_host = 4; // a shorter name would match ordinary words
    if (const std::string_view host = http::parts_of(settings.proxy).host; host.size() >= min_host)
        conceal(answer, host, "(proxy)", host.size());
    conceal(answer, settings.ca_file, "(ca_file)", settings.ca_file.size());
    return answer;
}

} // namespace

void check_route(const Settings &settings) {
    const std::string proxy = http::proxy_fault(settings.proxy);
    if (!proxy.empty())
        throw CannotSend("job_alerting.proxy cannot be used: " + proxy);
    if (!settings.ca_file.empty() && access(settings.ca_file.c_str(), R_OK) != 0)
        throw CannotSend(std::string("the file of job_alerting.ca_file cannot be read: ") +
                         strerror(errno));
}

std::int64_t seconds_now() {
    return static_cast<std::int64_t>(time(nullptr));
}

core::Answer post(const core::Request &request, const Settings &settings) {
    const SparedConnections spared;
    return without_route(
        http::post(request, options(settings, settings.http_timeout), serve_interrupts), settings);
}

core::SmtpAnswer submit(const core::Submission &submission, const http::MailServer &server,
                        const Settings &settings) {
    const SparedConnections spared;
    core::SmtpAnswer answer = http::submit(
        submission, server, options(settings, settings.http_timeout), serve_interrupts);
    core::conceal(answer.error, settings.ca_file, "(ca_file)", settings.ca_file.size());
    return answer;
}

core::Answer get(const std::string &url, const Settings &settings, int time_limit) {
    const SparedConnections spared;
    return without_route(http::get(url,
                                   options(settings, std::min(settings.http_timeout, time_limit)),
                                   serve_interrupts),
                         settings);
}

void conceal(core::Answer &answer, std::string_view secret, std::string_view instead,
             std::size_t least) {
    core::conceal(answer.error, secret, instead, least);
    core::conceal(answer.body, secret, instead, least);
    for (auto &[name, value] : answer.headers)
        core::conceal(value, secret, instead, least);
}

} // namespace job_alerting::server
