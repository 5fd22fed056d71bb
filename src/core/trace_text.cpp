#include "core/trace_text.hpp"

#include "core/lines.hpp"
#include "core/reader.hpp"

#include <algorithm>

namespace job_alerting::core {

namespace {

constexpr std::size_t max_end = 32768; // bytes

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

// True if a digit, as of a line number, follows the text anywhere in the line.
bool has_number_after(std::string_view line, std::string_view text) {
    for (auto at = line.find(text); at != line.npos; at = line.find(text, at + 1))
        if (at + text.size() < line.size() && is_digit(line[at + text.size()]))
            return true;
    return false;
}

std::string with_plain_spaces(std::string_view hostile) {
    std::string text;
    Reader reader(hostile);
    for (;;) {
        text += reader.plain();
        const Character c = reader.next();
        if (c.is_end())
            return text;
        if (c.code != '\n' && is_space(c.code))
            text += ' ';
        else
            text += c.bytes;
    }
}

// Rich draws a box around the frames of a Python trace.
bool is_of_a_box(std::string_view text) {
    constexpr std::string_view corner_above = "\u256D";
    constexpr std::string_view side = "\u2502";
    constexpr std::string_view corner_below = "\u2570";
    return text.starts_with(corner_above) || text.starts_with(side) ||
           text.starts_with(corner_below);
}

bool is_group_heading(std::string_view line) {
    return line.ends_with("Exception Group Traceback (most recent call last):");
}

} // namespace

TraceText::TraceText(std::string_view hostile) {
    if (hostile.size() <= 2 * max_end)
        text_ = with_plain_spaces(hostile);
    else
        text_ = with_plain_spaces(hostile.substr(0, max_end)) + '\n' +
                with_plain_spaces(hostile.substr(hostile.size() - max_end));
    lines_ = lines_of(text_);
    if (std::any_of(lines_.begin(), lines_.end(), is_group_heading))
        strip_bars();
}

// Each level of an exception group puts a bar before its lines.
void TraceText::strip_bars() {
    for (std::string_view &line : lines_) {
        const std::string_view inner = trimmed(line);
        if (inner.starts_with("| "))
            line = inner.substr(2);
    }
}

std::size_t TraceText::next(std::size_t line) const {
    while (line < size() && is_blank(lines_[line]))
        ++line;
    return line;
}

std::string_view trimmed(std::string_view line) {
    const std::size_t begin = line.find_first_not_of(' ');
    if (begin == line.npos)
        return {};
    return line.substr(begin, line.find_last_not_of(' ') + 1 - begin);
}

std::size_t indentation(std::string_view line) {
    return std::min(line.find_first_not_of(' '), line.size());
}

bool is_blank(std::string_view line) {
    return trimmed(line).empty();
}

bool is_python_frame(std::string_view line) {
    std::string_view text = trimmed(line);
    if (text.starts_with("> "))
        text.remove_prefix(2);
    return text.starts_with("File \"") && has_number_after(text, "\", line ");
}

bool is_at_frame(std::string_view line) {
    const std::string_view text = trimmed(line);
    return indentation(line) > 0 && text.starts_with("at ") &&
           (text.find('(') != text.npos || has_number_after(text, ":"));
}

bool is_frame(std::string_view line) {
    const std::string_view text = trimmed(line);
    return is_python_frame(line) || is_at_frame(line) ||
           (text.starts_with("goroutine ") && text.ends_with("]:")) ||
           (text.starts_with("from ") && has_number_after(text, ":")) ||
           (text.starts_with("(") && has_number_after(text, ".ex:")) ||
           (text.starts_with("#") && has_number_after(text, "#")) || text == "Stack trace:" ||
           text == "stack backtrace:" || text == "Stack backtrace:";
}

bool is_noise(std::string_view line) {
    const std::string_view text = trimmed(line);
    return text.empty() || text == "..." || is_frame(line) || is_divider(line) ||
           is_python_heading(line) || is_of_a_box(text) ||
           text.ends_with(" another exception occurred:") ||
           text.ends_with(" cause of the following exception:");
}

bool is_python_heading(std::string_view line) {
    return trimmed(line).ends_with("(most recent call last):");
}

bool is_divider(std::string_view line) {
    const std::string_view text = trimmed(line);
    return text.starts_with("+---") || opens_group(line);
}

bool opens_group(std::string_view line) {
    return trimmed(line).starts_with("+-+---");
}

} // namespace job_alerting::core
