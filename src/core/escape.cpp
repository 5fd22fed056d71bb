#include "core/escape.hpp"

namespace job_alerting::core {

namespace {

// The introducers, as the character after ESC. The C1 form of an introducer is 0x40 higher.
constexpr char csi = '[';
constexpr std::string_view strings = "]PX^_"; // OSC, DCS, SOS, PM, APC

constexpr char escape = '\x1B';
constexpr char bell = '\x07';
constexpr char c1_lead = '\xC2'; // first byte of a C1 control in UTF-8

bool is_within(char c, char first, char last) {
    return c >= first && c <= last;
}

// The number of bytes from `from` on that are within a range.
std::size_t run(std::string_view text, std::size_t from, char first, char last) {
    std::size_t end = from;
    while (end < text.size() && is_within(text[end], first, last))
        ++end;
    return end - from;
}

// The introducer that the C1 control at `at` stands for; NUL if there is none.
char c1_introducer(std::string_view text, std::size_t at) {
    if (at + 1 >= text.size() || text[at] != c1_lead)
        return '\0';
    const auto byte = static_cast<unsigned char>(text[at + 1]);
    return byte >= 0x80 && byte <= 0x9F ? static_cast<char>(byte - 0x40) : '\0';
}

// The end of a control sequence with parameters, intermediate bytes and a final byte. An incomplete
// sequence ends before the first byte that does not belong to it.
std::size_t end_of_control(std::string_view text, std::size_t from) {
    from += run(text, from, '0', '?');
    from += run(text, from, ' ', '/');
    return from < text.size() && is_within(text[from], '@', '~') ? from + 1 : from;
}

// The end of a string, after BEL or ST. Without an end the result is `from`. Another introducer
// also stops the search, so that no two introducers scan the same text.
std::size_t end_of_string(std::string_view text, std::size_t from) {
    for (std::size_t at = from; at < text.size(); ++at) {
        if (text[at] == bell)
            return at + 1;
        if (text[at] == escape)
            return text.substr(at + 1).starts_with('\\') ? at + 2 : from;
        if (const char introducer = c1_introducer(text, at))
            return introducer == '\\' ? at + 2 : from;
        if (text[at] == '\n' || text[at] == '\r')
            return from;
    }
    return from;
}

std::size_t end_of_sequence(char introducer, std::string_view text, std::size_t from) {
    if (introducer == csi)
        return end_of_control(text, from);
    return strings.find(introducer) != strings.npos ? end_of_string(text, from) : from;
}

} // namespace

std::size_t escape_sequence(std::string_view text) {
    if (const char introducer = c1_introducer(text, 0))
        return introducer == 'E' ? 0 : end_of_sequence(introducer, text, 2); // NEL ends a line
    if (!text.starts_with(escape))
        return 0;
    // Intermediate bytes and a final byte, as for a character set.
    const std::size_t final = 1 + run(text, 1, ' ', '/');
    if (final == text.size() || !is_within(text[final], '0', '~'))
        return 1;
    return final > 1 ? final + 1 : end_of_sequence(text[1], text, 2);
}

} // namespace job_alerting::core
