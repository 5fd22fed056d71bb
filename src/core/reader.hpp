// Hostile bytes read as clean characters, one at a time, so that who wants only the beginning of a
// text of megabytes pays only for the beginning.

#pragma once

#include <cstddef>
#include <string_view>

namespace job_alerting::core {

struct Character {
    std::string_view bytes; // none at the end of the text
    char32_t code = 0;

    bool is_end() const { return bytes.empty(); }
};

class Reader {
public:
    explicit Reader(std::string_view hostile) : rest_(hostile) {}

    // The next character of what clean() makes of the text.
    Character next();

    // The printable ASCII characters that come next, all at once; none where another one comes.
    std::string_view plain();

private:
    Character find();

    std::string_view rest_;
    char32_t before_ = 0; // the character that was read last
};

// White space that a reader may return: a line feed, or a space of any width.
bool is_space(char32_t code);

} // namespace job_alerting::core
