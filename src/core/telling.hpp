// Finds the line of an error that names the problem. trace.hpp builds the excerpt around it.

#pragma once

#include "core/trace_text.hpp"

#include <cstddef>
#include <optional>
#include <string_view>

namespace job_alerting::core {

struct Telling {
    std::size_t line = 0;
    std::string_view text; // the telling part of that line
    bool is_trace = true;  // false: a message or a log, shown in the order of its lines
};

using Found = std::optional<Telling>;

// Requires a text with at least one line that is not blank.
Telling telling_of(const TraceText &text);

// The exception above the first frame of a Java, Node or .NET trace.
Found exception_above_frames(const TraceText &text);

} // namespace job_alerting::core
