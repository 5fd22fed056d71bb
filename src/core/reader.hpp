// Reads hostile bytes as clean characters, one at a time. A caller that needs only the beginning of
// a long text pays only for the beginning.

#pragma once

#include <cstddef>
#include <string_view>

namespace job_alerting::core {

struct Character {
    std::string_view bytes; // empty at the end of the text
    char32_t code = 0;

    bool is_end() const { return bytes.empty(); }
};

class Reader {
public:
    explicit Reader(std::string_view hostile) : rest_(hostile) {}

    // The next character of clean(text).
    Character next();

    // All printable ASCII characters up to the next other one; may be empty.
    std::string_view plain();

private:
    Character read();

    std::string_view rest_;
    char32_t previous_ = 0; // the last character read
};

// True for the white space that a Reader returns: a line feed, or a space of any width.
bool is_space(char32_t code);

} // namespace job_alerting::core
