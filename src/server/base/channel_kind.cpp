#include "server/base/channel_kind.hpp"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string_view>

namespace job_alerting::server {

namespace {

constexpr const char *channel_names[] = {"log", "sendgrid", "smtp", "slack", "webhook"};

} // namespace

const char *to_string(ChannelKind kind) {
    return channel_names[static_cast<std::size_t>(kind)];
}

bool parse_channels(const char *list, std::vector<ChannelKind> &channels, std::string &unknown) {
    const std::string_view text = list ? list : "";
    const auto trimmed = [](std::string_view word) {
        const auto first = word.find_first_not_of(" \t\r\n");
        if (first == word.npos)
            return std::string_view();
        return word.substr(first, word.find_last_not_of(" \t\r\n") - first + 1);
    };
    channels.clear();
    if (trimmed(text).empty())
        return true;
    bool all_known = true;
    for (std::size_t start = 0; start <= text.size();) {
        const std::size_t comma = std::min(text.find(',', start), text.size());
        const std::string_view word = trimmed(text.substr(start, comma - start));
        start = comma + 1;
        std::optional<ChannelKind> kind;
        for (const ChannelKind candidate : all_channels)
            if (word == to_string(candidate))
                kind = candidate;
        if (!kind && all_known)
            unknown = word;
        all_known = all_known && kind;
        if (kind && std::find(channels.begin(), channels.end(), *kind) == channels.end())
            channels.push_back(*kind);
    }
    return all_known;
}

} // namespace job_alerting::server
