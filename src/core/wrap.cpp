#include "core/wrap.hpp"

#include "core/lines.hpp"
#include "core/text.hpp"

#include <algorithm>
#include <string>

namespace job_alerting::core {

namespace {

// Marks the lines that are quoted from a job, so that none can pass for ours.
constexpr std::string_view quote_bar = "| ";

// Begins what failed for one cause. One word of that stands beside it, however long.
constexpr std::string_view bullet = "* ";

void wrap_line(std::string_view line, std::size_t width, std::string &result);

} // namespace

std::string wrap(std::string_view text, std::size_t width) {
    std::string result;
    for (const std::string_view line : lines_of(text))
        wrap_line(line, width, result);
    const std::size_t last = result.find_last_not_of('\n');
    result.resize(last == std::string::npos ? 0 : last + 1);
    return result + '\n';
}

namespace {

std::string_view without_trailing_spaces(std::string_view line) {
    const std::size_t last = line.find_last_not_of(' ');
    return last == std::string_view::npos ? std::string_view() : line.substr(0, last + 1);
}

// What a line begins with, up to its first word.
std::string_view beginning(std::string_view line) {
    const std::size_t spaces = std::min(line.find_first_not_of(' '), line.size());
    for (const std::string_view mark : {quote_bar, bullet})
        if (line.substr(spaces).starts_with(mark))
            return line.substr(0, spaces + mark.size());
    return line.substr(0, spaces);
}

// What its later parts begin with: the bar again, or a deeper indentation, so that a word of a
// job's cannot make a line that looks like one of ours.
std::string continuation(std::string_view beginning) {
    if (beginning.ends_with(quote_bar))
        return std::string(beginning);
    return std::string(std::min(beginning.find_first_not_of(' '), beginning.size()) + 2, ' ');
}

void wrap_line(std::string_view line, std::size_t width, std::string &result) {
    line = without_trailing_spaces(line);
    if (line.empty()) {
        if (!result.empty() && !result.ends_with("\n\n"))
            result += '\n';
        return;
    }
    const std::string_view begin = beginning(line);
    const std::string indent = continuation(begin);
    std::size_t used = 0; // characters of the line being written
    std::size_t at = 0;
    while (at < line.size()) {
        // The next word with the spaces before it; the first comes with what the line begins with.
        const std::size_t from = line.find_first_not_of(' ', std::max(at, begin.size()));
        const std::size_t end = std::min(line.find(' ', from), line.size());
        const std::size_t length = characters(line.substr(at, end - at));
        if (at == 0 || used + length <= width) {
            result += line.substr(at, end - at);
            used += length;
        } else {
            const std::string_view word = line.substr(from, end - from);
            ((result += '\n') += indent) += word;
            used = indent.size() + characters(word);
        }
        at = end;
    }
    result += '\n';
}

} // namespace

} // namespace job_alerting::core
