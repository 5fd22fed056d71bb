// core::conceal() on any answer. No run of eight characters of the secret is left (of a shorter
// secret: not the whole), neither plain nor percent-encoded as libcurl decodes it. A text without
// such a run is unchanged, and a second pass changes nothing.
//
// Input: the secret, the text.

#include "property.hpp"

#include "core/conceal.hpp"

#include <curl/curl.h>

using namespace job_alerting::core;
using namespace job_alerting::fuzz;

namespace {

// No secret has these characters, or the replacement could form a run with its neighbours.
constexpr std::string_view instead = "\x01\x02";

std::string percent_decoded(const std::string &text) {
    int size = 0;
    char *decoded = curl_easy_unescape(nullptr, text.c_str(), static_cast<int>(text.size()), &size);
    std::string result(decoded, static_cast<std::size_t>(size));
    curl_free(decoded);
    return result;
}

bool shares_a_run(const std::string &text, const std::string &secret) {
    const std::size_t length = std::min(min_run, secret.size());
    for (std::size_t at = 0; at + length <= secret.size(); ++at)
        if (text.find(secret.substr(at, length)) != text.npos)
            return true;
    return false;
}

bool has_escape(const std::string &text) {
    return text.find_first_of("\\%&") != text.npos;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    Fields fields(input_of(data, size), unit_separator);
    const std::string secret = fields.next();
    const std::string given = fields.rest();
    if (secret.empty() || secret.find_first_of(instead) != secret.npos)
        return 0;
    std::string text = given;
    conceal(text, secret, instead);
    require(!shares_a_run(text, secret), "no run of the secret is left");
    if (!has_escape(secret) && given.find_first_of("\\&") == given.npos)
        require(!shares_a_run(percent_decoded(text), secret), "nor one that is percent-encoded");
    if (!has_escape(given) && !has_escape(secret) && !shares_a_run(given, secret))
        require(text == given, "other text stays as it is");
    std::string again = text;
    conceal(again, secret, instead);
    require(again == text, "once is enough");
    return 0;
}
