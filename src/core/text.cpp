#include "core/text.hpp"

#include "core/reader.hpp"

#include <algorithm>

namespace job_alerting::core {

namespace {

// Marks a cut. ASCII fits every database encoding.
constexpr std::string_view cut_mark = "...";

bool starts_character(char byte) {
    return (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
}

bool is_unreserved(char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

} // namespace

bool shows_nothing(std::string_view hostile) {
    Reader reader(hostile);
    for (Character c = reader.next(); !c.is_end(); c = reader.next())
        if (!is_space(c.code) && c.code != 0x200C &&
            c.code != 0x200D) // joiners, with nothing to join
            return false;
    return true;
}

std::string clean(std::string_view hostile) {
    std::string text;
    text.reserve(hostile.size());
    Reader reader(hostile);
    for (Character c = reader.next(); !c.is_end(); c = reader.next())
        text += c.bytes;
    return text;
}

std::string clean_line(std::string_view hostile) {
    return one_line(hostile, std::string_view::npos);
}

std::string one_line(std::string_view hostile, std::size_t max_length) {
    std::string line;
    std::size_t length = 0;
    bool gap = false;
    Reader reader(hostile);
    for (Character c = reader.next(); !c.is_end() && length <= max_length; c = reader.next()) {
        if (is_space(c.code)) {
            gap = !line.empty();
            continue;
        }
        if (gap) {
            line += ' ';
            ++length;
            gap = false;
        }
        line += c.bytes;
        ++length;
    }
    return clip(line, max_length);
}

std::size_t characters(std::string_view clean_text) {
    return static_cast<std::size_t>(
        std::count_if(clean_text.begin(), clean_text.end(), starts_character));
}

std::string clip(std::string_view clean_text, std::size_t max_length) {
    const std::string_view mark = cut_mark.substr(0, max_length);
    std::size_t length = 0;
    std::size_t kept = 0; // bytes to keep if the text is too long
    for (std::size_t i = 0; i < clean_text.size(); ++i) {
        if (!starts_character(clean_text[i]))
            continue;
        if (length == max_length - mark.size())
            kept = i;
        if (length == max_length)
            return std::string(clean_text.substr(0, kept)).append(mark);
        ++length;
    }
    return std::string(clean_text);
}

std::string first_lines(std::string_view hostile, std::size_t max_lines, std::size_t max_length) {
    std::string text;
    std::size_t length = 0;
    std::size_t begun = 0;  // lines with a visible character
    std::size_t spaces = 0; // held back until a character follows in the line
    bool in_line = false;   // the current line has a visible character
    Reader reader(hostile);
    for (Character c = reader.next(); !c.is_end() && length <= max_length; c = reader.next()) {
        if (c.code == '\n') {
            in_line = false;
            spaces = 0;
            continue;
        }
        if (is_space(c.code)) {
            spaces = std::min(spaces + 1, max_length);
            continue;
        }
        if (!in_line) {
            if (begun == max_lines) {
                text.append(" ").append(cut_mark);
                break;
            }
            if (begun > 0) {
                text += '\n';
                ++length;
            }
            in_line = true;
            ++begun;
        }
        text.append(spaces, ' ').append(c.bytes);
        length += spaces + 1;
        spaces = 0;
    }
    return clip(text, max_length);
}

void append_hex(std::string &text, char mark, char byte) {
    constexpr std::string_view digits = "0123456789ABCDEF";
    const auto value = static_cast<unsigned char>(byte);
    text += {mark, digits[value >> 4], digits[value & 0xF]};
}

std::string percent_encode(std::string_view text) {
    std::string encoded;
    for (const char c : text) {
        if (is_unreserved(c)) {
            encoded += c;
        } else {
            append_hex(encoded, '%', c);
        }
    }
    return encoded;
}

} // namespace job_alerting::core
