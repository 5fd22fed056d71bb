#include "core/wrap.hpp"

#include "core/lines.hpp"
#include "core/text.hpp"

#include <algorithm>
#include <string>

namespace job_alerting::core {

namespace {

// Marks lines quoted from a job, so that they cannot imitate the rest of the mail.
constexpr std::string_view quote_bar = "| ";

// Begins the block of a cause. The first word stays beside it, whatever its length.
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

// The part of a line before its first word.
std::string_view prefix_of(std::string_view line) {
    const std::size_t spaces = std::min(line.find_first_not_of(' '), line.size());
    for (const std::string_view mark : {quote_bar, bullet})
        if (line.substr(spaces).starts_with(mark))
            return line.substr(0, spaces + mark.size());
    return line.substr(0, spaces);
}

// The prefix of continuation lines: the bar again, or a deeper indentation, so that a word from a
// job cannot begin a line that looks like one of the mail's own.
std::string continuation_of(std::string_view prefix) {
    if (prefix.ends_with(quote_bar))
        return std::string(prefix);
    return std::string(std::min(prefix.find_first_not_of(' '), prefix.size()) + 2, ' ');
}

void wrap_line(std::string_view line, std::size_t width, std::string &result) {
    line = without_trailing_spaces(line);
    if (line.empty()) {
        if (!result.empty() && !result.ends_with("\n\n"))
            result += '\n';
        return;
    }
    const std::string_view prefix = prefix_of(line);
    const std::string continuation = continuation_of(prefix);
    std::size_t used = 0; // characters in the current line
    std::size_t at = 0;
    while (at < line.size()) {
        // The next word with the spaces before it. The first word includes the prefix.
        const std::size_t from = line.find_first_not_of(' ', std::max(at, prefix.size()));
        const std::size_t end = std::min(line.find(' ', from), line.size());
        const std::size_t length = characters(line.substr(at, end - at));
        if (at == 0 || used + length <= width) {
            result += line.substr(at, end - at);
            used += length;
        } else {
            const std::string_view word = line.substr(from, end - from);
            ((result += '\n') += continuation) += word;
            used = continuation.size() + characters(word);
        }
        at = end;
    }
    result += '\n';
}

} // namespace

} // namespace job_alerting::core
