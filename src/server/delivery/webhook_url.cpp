#include "server/base/prelude.hpp"

#include "server/delivery/webhook_url.hpp"

#include "server/delivery/route.hpp"
#include "server/delivery/secret.hpp"

#include "core/conceal.hpp"
#include "http/endpoint.hpp"

namespace job_alerting::server {

namespace {

// The parts of the URL to conceal: the path without its first segment, which many webhooks share
// (/services), and the token at its end.
std::vector<std::string_view> secrets_in(std::string_view url) {
    constexpr std::size_t min_token = 6; // a shorter token would match ordinary words
    url = url.substr(0, url.find_last_not_of('/') + 1);
    const std::string_view path = http::parts_of(url).path;
    const std::string_view steps = path.substr(std::min(path.find('/', 1), path.size()));
    const std::string_view token = path.substr(path.find_last_of("/=") + 1);
    std::vector<std::string_view> secrets;
    if (!path.empty())
        secrets.push_back(steps.empty() ? path : steps);
    if (token.size() >= min_token)
        secrets.push_back(token);
    return secrets;
}

} // namespace

core::Outcome post_to_webhook(core::Request request, const Settings &settings,
                              core::Outcome (*interpret)(const core::Answer &, std::int64_t)) {
    constexpr std::string_view instead = "(webhook)";
    core::Answer answer = post(request, settings);
    for (const std::string_view secret : secrets_in(request.url))
        conceal(answer, secret, instead);
    core::Outcome outcome = interpret(answer, seconds_now());
    for (const std::string_view secret : secrets_in(request.url))
        core::conceal(outcome.error, secret, instead);
    wipe(request.url);
    return outcome;
}

} // namespace job_alerting::server
