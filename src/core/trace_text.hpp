// The lines of an error, and tests that classify a single line.

#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace job_alerting::core {

// Clean lines with their indentation. Keeps only the beginning and the end of a very long error.
class TraceText {
public:
    explicit TraceText(std::string_view hostile);
    TraceText(const TraceText &) = delete;
    TraceText &operator=(const TraceText &) = delete;

    std::size_t size() const { return lines_.size(); }
    std::string_view operator[](std::size_t line) const { return lines_[line]; }

    // The first line from `line` on that is not blank; size() if there is none.
    std::size_t next(std::size_t line) const;

private:
    void strip_bars();

    std::string text_;
    std::vector<std::string_view> lines_;
};

std::string_view trimmed(std::string_view line);
std::size_t indentation(std::string_view line);
bool is_blank(std::string_view line);

bool is_python_heading(std::string_view line); // above the frames
bool is_python_frame(std::string_view line);
bool is_at_frame(std::string_view line); // of Java, Node or .NET
bool is_frame(std::string_view line);    // of any language

// True for a frame, a heading or a divider, which do not name the problem.
bool is_noise(std::string_view line);

// Dividers separate the exceptions of a Python exception group. The first one opens the group.
bool is_divider(std::string_view line);
bool opens_group(std::string_view line);

} // namespace job_alerting::core
