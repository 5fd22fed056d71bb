// Where in an error it says what went wrong. trace.hpp makes what is shown of that.

#pragma once

#include "core/trace_text.hpp"

#include <cstddef>
#include <optional>
#include <string_view>

namespace job_alerting::core {

struct Telling {
    std::size_t line = 0;
    std::string_view text; // of that line
    bool is_trace = true;  // else a message or a log, told in the order of its lines
};

using Found = std::optional<Telling>;

// The text has a line that is not blank.
Telling telling_of(const TraceText &text);

// The exception above the first frame of a Java, Node or .NET trace.
Found above_frames(const TraceText &text);

} // namespace job_alerting::core
