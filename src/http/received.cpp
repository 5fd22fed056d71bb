#include "http/received.hpp"

#include "core/lines.hpp"

#include <algorithm>
#include <string_view>

namespace job_alerting::http {

namespace {

std::string lower_case(std::string_view text) {
    std::string lower(text);
    for (char &c : lower)
        if (c >= 'A' && c <= 'Z')
            c = static_cast<char>(c - 'A' + 'a');
    return lower;
}

std::string_view trimmed(std::string_view text) {
    const auto first = text.find_first_not_of(" \t\r");
    if (first == text.npos)
        return {};
    return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

} // namespace

Received::Received() {
    headers_.reserve(max_headers);
    body_.reserve(max_body);
}

bool Received::add_headers(const char *data, std::size_t size) noexcept {
    // Keep whole lines only: half a value would look like a value.
    if (size <= max_headers - headers_.size())
        headers_.append(data, size);
    return count(size);
}

bool Received::add_body(const char *data, std::size_t size) noexcept {
    body_.append(data, std::min(size, max_body - body_.size()));
    return count(size);
}

bool Received::count(std::size_t size) noexcept {
    read_ += size;
    return read_ <= max_read;
}

std::map<std::string, std::string> Received::headers() const {
    std::map<std::string, std::string> headers;
    for (const std::string_view line : core::lines_of(headers_)) {
        const std::size_t colon = line.find(':');
        if (colon != line.npos)
            headers[lower_case(trimmed(line.substr(0, colon)))] = trimmed(line.substr(colon + 1));
    }
    return headers;
}

} // namespace job_alerting::http
