#include "core/trace.hpp"

#include "core/telling.hpp"
#include "core/text.hpp"
#include "core/trace_text.hpp"

#include <vector>

namespace job_alerting::core {

namespace {

constexpr std::size_t max_telling = 2000; // characters

std::vector<std::string_view> shown_lines(const TraceText &text, const Telling &telling);

} // namespace

std::string telling_line(std::string_view hostile) {
    std::string line(hostile);
    for (;;) {
        const TraceText text(line);
        const std::string next = text.next(0) < text.size()
                                     ? one_line(telling_of(text).text, max_telling)
                                     : one_line(line, max_telling); // blank at both ends
        if (next == line || next.empty())
            return one_line(line, max_telling);
        line = next;
    }
}

std::string excerpt(std::string_view hostile, std::size_t max_lines, std::size_t max_length) {
    const TraceText text(hostile);
    if (text.next(0) == text.size())
        return first_lines(hostile, max_lines, max_length);
    std::string shown = telling_line(hostile);
    for (const std::string_view line : shown_lines(text, telling_of(text)))
        (shown += '\n') += line;
    return first_lines(shown, max_lines, max_length);
}

namespace {

// True for a blank line, a line that points into the line above, and a closing bracket.
bool has_no_words(std::string_view line) {
    return line.find_first_not_of(" ^~{}[](),;") == line.npos;
}

void add_frames(std::vector<std::string_view> &shown, const TraceText &text, std::size_t from,
                std::size_t end) {
    for (std::size_t line = from; line < end; ++line)
        if (!has_no_words(text[line]) && !is_divider(text[line]))
            shown.push_back(text[line]);
}

// The exception that this one caused, or the log line above the trace; size() if there is none.
std::size_t context_of(const TraceText &text, const Telling &telling) {
    const Found outer = exception_above_frames(text);
    const std::size_t first = text.next(0);
    if (outer && outer->line < telling.line)
        return outer->line;
    return first < telling.line && !is_noise(text[first]) ? first : text.size();
}

// The first of the last two Python frames above a line, in one trace; the line itself if there are
// none.
std::size_t last_python_frames(const TraceText &text, std::size_t below) {
    std::size_t begin = below;
    std::size_t frames = 0;
    for (std::size_t line = below; line-- > 0 && frames < 2;)
        if (is_python_heading(text[line]) && frames > 0) {
            break;
        } else if (is_python_frame(text[line])) {
            begin = line;
            ++frames;
        }
    return begin;
}

// The lines to show after the telling line, in that order, and "..." if there are more.
std::vector<std::string_view> shown_lines(const TraceText &text, const Telling &telling) {
    std::vector<std::string_view> shown;
    std::size_t below = telling.line + 1;
    while (below < text.size() && !(telling.is_trace && is_noise(text[below])))
        shown.push_back(text[below++]);
    std::size_t hidden = telling.line; // above this line
    if (telling.is_trace) {
        if (const std::size_t context = context_of(text, telling); context < text.size())
            shown.push_back(text[context]);
        hidden = last_python_frames(text, telling.line);
        if (hidden < telling.line)
            add_frames(shown, text, hidden, telling.line);
        else
            add_frames(shown, text, below, text.size());
    }
    for (std::size_t line = 0; line < hidden; ++line)
        if (telling.is_trace ? is_frame(text[line]) : !is_blank(text[line])) {
            shown.push_back("...");
            break;
        }
    return shown;
}

} // namespace

} // namespace job_alerting::core
