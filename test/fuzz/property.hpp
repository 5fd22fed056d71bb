// Shared by the fuzz targets. Each target states the properties of its subject at its head, and
// ends the process when one does not hold; libFuzzer then keeps the input.

#pragma once

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

namespace job_alerting::fuzz {

inline void require(bool holds, const char *property) {
    if (holds)
        return;
    std::fprintf(stderr, "does not hold: %s\n", property);
    std::abort();
}

// An input as a list of fields, so that seeds can be written by hand. Missing fields are empty.
class Fields {
public:
    Fields(std::string input, char separator) : input_(std::move(input)), separator_(separator) {}

    bool has_more() const { return at_ < input_.size(); }

    std::string next() {
        const std::size_t end = std::min(input_.find(separator_, at_), input_.size());
        const std::string field = input_.substr(at_, end - at_);
        at_ = std::min(end + 1, input_.size());
        return field;
    }

    long next_number() { return std::strtol(next().c_str(), nullptr, 10); }

    std::string rest() const { return input_.substr(at_); }

private:
    std::string input_;
    std::size_t at_ = 0;
    char separator_;
};

constexpr char unit_separator = '\x1f';
constexpr char record_separator = '\x1e';

inline std::string input_of(const std::uint8_t *data, std::size_t size) {
    return {reinterpret_cast<const char *>(data), size};
}

inline bool is_printable_ascii(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

// Uses another decoder than ours.
inline bool is_utf8(const std::string &text) {
    try {
        (void)nlohmann::json(text).dump();
        return true;
    } catch (const nlohmann::json::type_error &) {
        return false;
    }
}

inline std::u32string code_points(std::string_view utf8) {
    std::u32string points;
    for (const char c : utf8) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x80)
            points += byte;
        else if (byte >= 0xC0)
            points += byte & (byte >= 0xF0 ? 0x07 : byte >= 0xE0 ? 0x0F : 0x1F);
        else
            points.back() = points.back() << 6 | (byte & 0x3F);
    }
    return points;
}

inline std::size_t characters(std::string_view utf8) {
    return code_points(utf8).size();
}

// C0 and C1 controls other than a line feed, and what changes the direction or the place of text:
// Unicode's Bidi_Control, the zero widths but the joiners, the line and paragraph separators, tags.
inline bool is_dangerous(char32_t c) {
    return (c < 0x20 && c != '\n') || (c >= 0x7F && c <= 0x9F) || c == 0x061C || c == 0x200B ||
           c == 0x200E || c == 0x200F || (c >= 0x2028 && c <= 0x202E) ||
           (c >= 0x2060 && c <= 0x206F) || c == 0xFEFF || (c >= 0xE0000 && c <= 0xE007F);
}

inline bool is_fit_to_show(const std::string &text) {
    if (!is_utf8(text))
        return false;
    const std::u32string points = code_points(text);
    return std::none_of(points.begin(), points.end(), is_dangerous);
}

inline bool is_one_line(const std::string &text) {
    return is_fit_to_show(text) && text.find('\n') == text.npos;
}

inline std::size_t occurrences(std::string_view text, std::string_view of) {
    std::size_t count = 0;
    for (auto at = text.find(of); at != text.npos; at = text.find(of, at + of.size()))
        ++count;
    return count;
}

} // namespace job_alerting::fuzz
