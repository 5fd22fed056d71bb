// The lines of an error, and what a line is, as far as that can be said of it alone.

#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace job_alerting::core {

// Clean lines, indented as they were. Of a very long error only its beginning and its end.
class TraceText {
public:
    explicit TraceText(std::string_view hostile);
    TraceText(const TraceText &) = delete;
    TraceText &operator=(const TraceText &) = delete;

    std::size_t size() const { return lines_.size(); }
    std::string_view operator[](std::size_t line) const { return lines_[line]; }

    // The next line from `line` on that is not blank; size() where there is none.
    std::size_t next(std::size_t line) const;

private:
    void take_off_bars();

    std::string text_;
    std::vector<std::string_view> lines_;
};

std::string_view trimmed(std::string_view line);
std::size_t indentation(std::string_view line);
bool is_blank(std::string_view line);

bool is_python_heading(std::string_view line); // above its frames
bool is_python_frame(std::string_view line);
bool is_at_frame(std::string_view line); // of Java, Node or .NET
bool is_frame(std::string_view line);    // of any language

// It says nothing of what went wrong: a frame, a heading, a mark.
bool is_noise(std::string_view line);

// Separates the exceptions of a Python exception group; the first of them.
bool is_divider(std::string_view line);
bool opens_group(std::string_view line);

} // namespace job_alerting::core
