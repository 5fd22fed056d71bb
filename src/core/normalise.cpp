// Two errors have one cause when they differ only in what differs from job to job.

#include "core/text.hpp"
#include "core/trace.hpp"

namespace job_alerting::core {

namespace {

constexpr std::size_t most_kept = 200; // characters
constexpr char masked = '#';

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

bool is_hex(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

// A byte of a character beyond ASCII counts as a letter.
bool is_word(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           static_cast<unsigned char>(c) >= 0x80;
}

class Masker {
public:
    explicit Masker(std::string_view line) : line_(line) {}

    std::string mask() {
        std::string result;
        while (at_ < line_.size()) {
            if (const std::size_t length = variable(); length > 0) {
                result += masked;
                at_ += length;
            } else {
                result += line_[at_++];
            }
        }
        return result;
    }

private:
    // The length of what begins here and differs from job to job; 0 when nothing such does.
    std::size_t variable() {
        const bool word_begins = at_ == 0 || !is_word(line_[at_ - 1]);
        std::size_t length = word_begins ? quoted() : 0;
        if (length == 0 && word_begins && is_hex(line_[at_])) {
            length = timestamp();
            length = length > 0 ? length : uuid();
            length = length > 0 ? length : hex_number();
        }
        return length > 0 ? length : number();
    }

    // An opening quote follows no letter and a closing apostrophe precedes none, so that "can't"
    // neither opens nor closes. A quote without an end is searched for once: linear in all.
    std::size_t quoted() {
        const char quote = line_[at_];
        const std::size_t kind = quotes.find(quote);
        if (kind == std::string_view::npos || unclosed_[kind])
            return 0;
        for (std::size_t end = at_ + 1; end < line_.size(); ++end) {
            const bool in_word = quote == '\'' && end + 1 < line_.size() && is_word(line_[end + 1]);
            if (line_[end] == quote && !in_word)
                return end + 1 - at_;
        }
        unclosed_[kind] = true;
        return 0;
    }

    // 2026-07-14, alone or with T03:12:09.5+02:00 and whatever of that is there.
    std::size_t timestamp() const {
        std::size_t length = shape("0000-00-00");
        if (length == 0)
            return 0;
        std::size_t time = shape("T00:00", length);
        if (time == 0)
            time = shape(" 00:00", length);
        if (time == 0)
            return length;
        length += time;
        length += shape(":00", length);
        if (shape(".0", length) > 0 || shape(",0", length) > 0)
            length += 1 + digits(length + 1);
        return length + zone(length);
    }

    std::size_t zone(std::size_t from) const {
        for (const std::string_view form :
             {"Z", "+00:00", "-00:00", "+0000", "-0000", "+00", "-00"})
            if (const std::size_t length = shape(form, from); length > 0)
                return length;
        return 0;
    }

    std::size_t uuid() const { return shape("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"); }

    // 0x7f3a, or a word of hex digits that is too long and too mixed to be a word: an address, a
    // checksum, an id.
    std::size_t hex_number() const {
        std::size_t length = 0;
        bool digit = false;
        bool letter = false;
        const std::size_t prefix = line_.substr(at_).starts_with("0x") ? 2 : 0;
        while (is_hex(peek(prefix + length))) {
            (is_digit(peek(prefix + length)) ? digit : letter) = true;
            ++length;
        }
        if (is_word(peek(prefix + length)))
            return 0;
        const bool mixed = length >= 8 && digit && letter;
        return (prefix > 0 && length > 0) || mixed ? prefix + length : 0;
    }

    // Digits, with those that a point, comma or colon joins to them: 1,234.5, 10.0.0.7, 03:12.
    std::size_t number() const {
        std::size_t length = digits(0);
        while (length > 0) {
            const char joint = peek(length);
            const std::size_t more =
                joint == '.' || joint == ',' || joint == ':' ? digits(length + 1) : 0;
            if (more == 0)
                break;
            length += 1 + more;
        }
        return length;
    }

    std::size_t digits(std::size_t from) const {
        std::size_t length = 0;
        while (is_digit(peek(from + length)))
            ++length;
        return length;
    }

    // The length of `form` when the line has that form from there on: 0 stands for a digit, x for
    // a hex digit, anything else for itself.
    std::size_t shape(std::string_view form, std::size_t from = 0) const {
        for (std::size_t i = 0; i < form.size(); ++i) {
            const char c = peek(from + i);
            const bool fits = form[i] == '0'   ? is_digit(c)
                              : form[i] == 'x' ? is_hex(c)
                                               : c == form[i];
            if (!fits)
                return 0;
        }
        return form.size();
    }

    // A line has no NUL in it, so that one can stand for its end.
    char peek(std::size_t ahead) const {
        return at_ + ahead < line_.size() ? line_[at_ + ahead] : '\0';
    }

    static constexpr std::string_view quotes = "'\"`";

    std::string_view line_;
    std::size_t at_ = 0;
    bool unclosed_[quotes.size()] = {};
};

} // namespace

std::string normalise_error(std::string_view hostile) {
    const std::string line = telling_line(hostile);
    return clip(Masker(line).mask(), most_kept);
}

} // namespace job_alerting::core
