#include "core/reader.hpp"

#include "core/escape.hpp"

#include <algorithm>
#include <array>
#include <iterator>

namespace job_alerting::core {

namespace {

struct Range {
    char32_t first;
    char32_t last;
};

// The characters to remove, in ascending order: control, bidirectional and other invisible format
// characters, invisible letters, variation selectors, tags, and noncharacters of the first plane.
// Joiners are in this list, but stay where they join.
constexpr Range invisible[] = {
    {0x0000, 0x001F},   {0x007F, 0x009F}, {0x00AD, 0x00AD}, {0x034F, 0x034F},   {0x061C, 0x061C},
    {0x115F, 0x1160},   {0x17B4, 0x17B5}, {0x180B, 0x180F}, {0x200B, 0x200F},   {0x202A, 0x202E},
    {0x2060, 0x206F},   {0x3164, 0x3164}, {0xFDD0, 0xFDEF}, {0xFE00, 0xFE0F},   {0xFEFF, 0xFEFF},
    {0xFFA0, 0xFFA0},   {0xFFF0, 0xFFFB}, {0xFFFE, 0xFFFF}, {0x1BCA0, 0x1BCA3}, {0x1D173, 0x1D17A},
    {0xE0000, 0xE0FFF},
};

bool is_invisible(char32_t code) {
    if ((code & 0xFFFE) == 0xFFFE)
        return true; // noncharacters: the last two code points of every plane
    const auto range = std::lower_bound(std::begin(invisible), std::end(invisible), code,
                                        [](Range r, char32_t c) { return r.last < c; });
    return range != std::end(invisible) && range->first <= code;
}

// ZWNJ, ZWJ and the selectors of text or emoji style. Persian, Indic scripts and emoji need them.
bool is_joiner(char32_t code) {
    return code == 0x200C || code == 0x200D || code == 0xFE0E || code == 0xFE0F;
}

// After any other character a joiner is invisible, and would only make equal texts differ.
bool joins(char32_t joiner, char32_t previous) {
    if (is_joiner(previous))
        return previous == 0xFE0F && joiner == 0x200D;
    return previous >= 0x80 && !is_space(previous);
}

// NEL and the line and paragraph separators end a line, as a carriage return does.
bool ends_line(char32_t code) {
    return code == '\n' || code == '\r' || code == 0x85 || code == 0x2028 || code == 0x2029;
}

// The fast path: most characters of most texts.
bool is_plain(char byte) {
    return byte >= ' ' && byte <= '~';
}

bool is_blank_control(char32_t code) {
    return code == '\t' || code == '\v' || code == '\f';
}

std::size_t length_after_lead(unsigned char lead) {
    if (lead < 0x80)
        return 1;
    if (lead >= 0xC2 && lead <= 0xDF)
        return 2;
    if (lead >= 0xE0 && lead <= 0xEF)
        return 3;
    return lead >= 0xF0 && lead <= 0xF4 ? 4 : 0;
}

// The first character of `bytes`; an empty one if it is not well-formed UTF-8.
Character decode(std::string_view bytes) {
    constexpr std::array<char32_t, 5> min_code = {0, 0, 0x80, 0x800, 0x10000};
    constexpr std::array<unsigned char, 5> lead_bits = {0, 0x7F, 0x1F, 0x0F, 0x07};

    const auto lead = static_cast<unsigned char>(bytes.front());
    const std::size_t length = length_after_lead(lead);
    if (length == 0 || length > bytes.size())
        return {};
    char32_t code = lead & lead_bits[length];
    for (std::size_t i = 1; i < length; ++i) {
        const auto byte = static_cast<unsigned char>(bytes[i]);
        if ((byte & 0xC0) != 0x80)
            return {};
        code = code << 6 | (byte & 0x3F);
    }
    const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
    if (code < min_code[length] || surrogate || code > 0x10FFFF)
        return {};
    return {bytes.substr(0, length), code};
}

} // namespace

Character Reader::next() {
    const Character character = read();
    previous_ = character.code;
    return character;
}

std::string_view Reader::plain() {
    const auto end = std::find_if_not(rest_.begin(), rest_.end(), is_plain);
    const std::string_view run(rest_.begin(), end);
    rest_.remove_prefix(run.size());
    if (!run.empty())
        previous_ = static_cast<char32_t>(run.back());
    return run;
}

Character Reader::read() {
    while (!rest_.empty()) {
        if (is_plain(rest_.front())) {
            const Character plain{rest_.substr(0, 1), static_cast<char32_t>(rest_.front())};
            rest_.remove_prefix(1);
            return plain;
        }
        if (const std::size_t length = escape_sequence(rest_); length > 0) {
            rest_.remove_prefix(length);
            continue;
        }
        const Character character = decode(rest_);
        if (character.is_end()) {
            rest_.remove_prefix(1);
            return {"?", '?'};
        }
        rest_.remove_prefix(character.bytes.size());
        if (ends_line(character.code)) {
            if (character.code == '\r' && rest_.starts_with('\n'))
                rest_.remove_prefix(1);
            return {"\n", '\n'};
        }
        if (is_blank_control(character.code))
            return {" ", ' '};
        if (is_joiner(character.code) ? joins(character.code, previous_)
                                      : !is_invisible(character.code))
            return character;
    }
    return {};
}

bool is_space(char32_t code) {
    return code == ' ' || code == '\n' || code == 0xA0 || code == 0x1680 ||
           (code >= 0x2000 && code <= 0x200A) || code == 0x202F || code == 0x205F || code == 0x3000;
}

} // namespace job_alerting::core
