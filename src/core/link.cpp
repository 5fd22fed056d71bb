#include "core/link.hpp"

#include "core/digest.hpp"
#include "core/text.hpp"

#include <algorithm>
#include <iterator>
#include <optional>
#include <string_view>

namespace job_alerting::core {

namespace {

// Some browsers and servers refuse longer addresses.
constexpr std::size_t max_link = 1000;

struct Placeholder {
    std::string_view name;
    std::string_view value;
};

std::string_view value_of(const std::optional<std::string> &text) {
    return text ? std::string_view(*text) : std::string_view();
}

bool is_http(std::string_view address) {
    return address.starts_with("https://") || address.starts_with("http://");
}

// A clipped id names another job, or none.
bool is_cut(std::string_view value) {
    return value.size() >= max_name && clip(value, max_name - 1) != value && value.ends_with("...");
}

} // namespace

std::string job_link(const std::string &job_url, const Failure &job) {
    if (!job_url_fault(job_url).empty())
        return {};
    const Placeholder placeholders[] = {
        {"{queue}", job.queue},
        {"{job_id}", job.job_id},
        {"{source}", value_of(job.source)},
        {"{job_type}", value_of(job.job_type)},
        {"{target_type}", value_of(job.target_type)},
        {"{target_id}", value_of(job.target_id)},
    };
    const std::string pattern = one_line(job_url, max_link);
    std::string link;
    for (std::string_view rest = pattern; !rest.empty();) {
        const auto placeholder = std::find_if(
            std::begin(placeholders), std::end(placeholders),
            [&](const Placeholder &candidate) { return rest.starts_with(candidate.name); });
        if (placeholder == std::end(placeholders)) {
            link += rest.front();
            rest.remove_prefix(1);
            continue;
        }
        const std::string value = one_line(placeholder->value, max_name);
        if (is_cut(value))
            return {};
        link += percent_encode(value);
        rest.remove_prefix(placeholder->name.size());
    }
    return link.size() <= max_link ? link : std::string();
}

std::string job_url_fault(const std::string &job_url) {
    if (job_url.empty())
        return {};
    if (!is_http(job_url))
        return "it does not begin with https:// or http://";
    if (std::any_of(job_url.begin(), job_url.end(),
                    [](unsigned char c) { return c <= ' ' || c == 0x7f; }))
        return "it contains a space or a control character";
    return {};
}

} // namespace job_alerting::core
