// Masks the parts of an error that differ from job to job.

#include "core/text.hpp"
#include "core/trace.hpp"

#include <algorithm>

namespace job_alerting::core {

namespace {

constexpr std::size_t max_kept = 200; // characters
constexpr char masked = '#';

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

bool is_lower(char c) {
    return c >= 'a' && c <= 'z';
}

bool is_upper(char c) {
    return c >= 'A' && c <= 'Z';
}

bool is_alphanumeric(char c) {
    return is_digit(c) || is_lower(c) || is_upper(c);
}

bool is_hex(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

// Every byte of a non-ASCII character counts as a letter.
bool is_word(char c) {
    return is_alphanumeric(c) || static_cast<unsigned char>(c) >= 0x80;
}

bool is_one_of(char c, std::string_view characters) {
    return characters.find(c) != std::string_view::npos;
}

// True for a random token. More than half of the neighbours in it differ in kind (capital, small,
// digit); in a name of many words about a quarter do.
bool is_random(std::string_view run) {
    const auto kind = [](char c) {
        return is_digit(c) ? 1 : is_lower(c) ? 2 : is_upper(c) ? 3 : 0;
    };
    std::size_t changes = 0;
    for (std::size_t i = 1; i < run.size(); ++i)
        if (kind(run[i - 1]) != 0 && kind(run[i]) != 0 && kind(run[i - 1]) != kind(run[i]))
            ++changes;
    const auto digits = static_cast<std::size_t>(std::count_if(run.begin(), run.end(), is_digit));
    const std::size_t min_length = digits >= 2 ? 16 : 24;
    return run.size() >= min_length && changes * 10 >= run.size() * 4;
}

// True for an id such as a ULID or CUID: letters of one case with digits in many places. A name of
// many words has letters of both cases.
bool is_id(std::string_view word) {
    constexpr std::size_t min_length = 16;
    std::size_t places = 0;
    for (std::size_t i = 0; i < word.size(); ++i)
        if (is_digit(word[i]) && (i == 0 || !is_digit(word[i - 1])))
            ++places;
    return word.size() >= min_length && places >= 3 &&
           (std::none_of(word.begin(), word.end(), is_lower) ||
            std::none_of(word.begin(), word.end(), is_upper));
}

// True for a word that a status may follow: "HTTP Error 503", "status code is 503".
bool announces_status(std::string_view word) {
    return word.find("http") != word.npos || word.find("status") != word.npos ||
           word.ends_with("code");
}

bool leads_to_status(std::string_view word) {
    for (const std::string_view between : {"error", "response", "is", "of", "was", "returned"})
        if (word == between)
            return true;
    return false;
}

class Masker {
public:
    explicit Masker(std::string_view line) : line_(line) {}

    std::string mask() {
        std::string result;
        while (at_ < line_.size()) {
            if (const std::size_t kept = status(); kept > 0) {
                result += line_.substr(at_, kept);
                at_ += kept;
            } else if (const std::size_t length = variable(); length > 0) {
                result += masked;
                at_ += length;
            } else {
                result += line_[at_++];
            }
        }
        return result;
    }

private:
    // The length of a part that begins here and differs from job to job; 0 if there is none.
    std::size_t variable() {
        const bool word_begins = begins_word();
        std::size_t length = word_begins ? quoted() : 0;
        length = length > 0 ? length : query();
        if (length == 0 && word_begins && is_alphanumeric(line_[at_])) {
            for (const auto of : {&Masker::timestamp, &Masker::uuid, &Masker::email, &Masker::token,
                                  &Masker::hex_number})
                length = length > 0 ? length : (this->*of)();
        }
        return length > 0 ? length : number();
    }

    bool begins_word() const { return at_ == 0 || !is_word(line_[at_ - 1]); }

    // The length of an HTTP status or a code of three digits, which is kept: 500 and 429 are
    // different causes.
    std::size_t status() const {
        if (!begins_word() || digits(0) != 3 || is_word(peek(3)) ||
            (is_one_of(peek(3), ".,:") && is_digit(peek(4))))
            return 0;
        std::size_t end = at_;
        for (int words = 0; words < 3; ++words) {
            while (end > 0 && !is_lower(line_[end - 1]) && !is_upper(line_[end - 1]) &&
                   is_one_of(line_[end - 1], " :=/._-(['\"#0123456789"))
                --end;
            if (line_.substr(end, at_ - end).find("//") != line_.npos)
                return 0; // the host of an address
            std::size_t begin = end;
            while (begin > 0 && (is_lower(line_[begin - 1]) || is_upper(line_[begin - 1])))
                --begin;
            std::string word(line_.substr(begin, end - begin));
            std::transform(word.begin(), word.end(), word.begin(), [](char c) {
                return is_upper(c) ? static_cast<char>(c - 'A' + 'a') : c;
            });
            if (announces_status(word))
                return 3;
            if (!leads_to_status(word))
                return 0;
            end = begin;
        }
        return 0;
    }

    std::size_t run(std::size_t from, std::string_view besides) const {
        std::size_t length = 0;
        while (is_alphanumeric(peek(from + length)) ||
               (peek(from + length) != '\0' && is_one_of(peek(from + length), besides)))
            ++length;
        return length;
    }

    // name@example.com. A last label with a digit belongs to a version instead.
    std::size_t email() const {
        constexpr std::string_view local = "._%+-";
        if (at_ > 0 && is_one_of(line_[at_ - 1], local))
            return 0;
        const std::size_t name = run(0, local);
        if (peek(name) != '@')
            return 0;
        std::size_t length = name + 1 + run(name + 1, ".-");
        while (length > name && !is_alphanumeric(peek(length - 1)))
            --length; // a full stop
        if (length <= name)
            return 0;
        const std::string_view domain = line_.substr(at_ + name, length - name);
        const std::size_t dot = domain.rfind('.');
        if (dot == domain.npos || dot < 2 || domain.size() - dot < 3)
            return 0;
        const std::string_view last = domain.substr(dot + 1);
        return std::none_of(last.begin(), last.end(), is_digit) ? length : 0;
    }

    // A key, a session id or a JWT: long and random.
    std::size_t token() const {
        if (line_.substr(at_).starts_with("eyJ"))
            if (const std::size_t jwt = run(0, "._-"); jwt >= 16)
                return is_alphanumeric(peek(jwt - 1)) ? jwt : jwt - 1;
        const std::size_t base64 = run(0, "+/_-=");
        if (is_random(line_.substr(at_, base64)))
            return base64;
        const std::size_t word = run(0, "_-");
        if (is_random(line_.substr(at_, word)))
            return word;
        const std::size_t plain = run(0, "");
        return is_id(line_.substr(at_, plain)) ? plain : 0;
    }

    // The query of a URL, from its '?' on.
    std::size_t query() const {
        if (peek(0) != '?' || at_ == 0 || line_[at_ - 1] == ' ' ||
            peek(run(1, "_.-%[]") + 1) != '=')
            return 0;
        std::size_t length = 1;
        while (peek(length) != '\0' && !is_one_of(peek(length), " \"'`<>()"))
            ++length;
        return is_one_of(peek(length - 1), ".,:;") ? length - 1 : length;
    }

    // The apostrophe in "can't" neither opens nor closes a quotation: an opening quote follows no
    // letter, and a closing apostrophe precedes none. unclosed_ keeps the search linear.
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

    // 2026-07-14, optionally followed by T03:12:09.5+02:00 or a beginning of it.
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

    // 0x7f3a, or at least eight hex digits of both sorts: an address, a checksum, an id.
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

    // Digits that points, commas or colons may join: 1,234.5, 10.0.0.7, 03:12.
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

    // The length of `form` if the line matches it at that place; else 0. In a form, 0 matches a
    // digit, x a hex digit, and any other character itself.
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

    // NUL marks the end; a line contains none.
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
    return clip(Masker(line).mask(), max_kept);
}

} // namespace job_alerting::core
