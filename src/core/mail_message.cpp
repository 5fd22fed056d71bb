#include "core/mail_message.hpp"

#include "core/text.hpp"

#include <algorithm>
#include <string_view>

namespace job_alerting::core {

namespace {

constexpr std::size_t max_line = 76;
// 75 is the most (RFC 2047, section 2); the first shares its line with the name of the header.
constexpr std::size_t max_encoded_word = 66;
constexpr std::size_t max_header_text = 2000;
// No line of quoted-printable can begin like it: there "=" stands before two hexadecimal digits.
constexpr const char *boundary = "=_job_alerting";

// A header that is folded where it gets too long: only ever before a word, never within one.
class Header {
public:
    explicit Header(const char *name) : text_(std::string(name) + ":"), column_(text_.size()) {}

    void add(std::string_view word) {
        const bool here = first_ || column_ + 1 + word.size() <= max_line;
        first_ = false;
        text_ += here ? " " : "\r\n ";
        column_ = (here ? column_ + 1 : 1) + word.size();
        text_ += word;
    }
    std::string line() const { return text_ + "\r\n"; }

private:
    std::string text_;
    std::size_t column_;
    bool first_ = true; // a header begins on the line of its name
};

std::string header(const char *name, const std::string &value);
std::string subject_header(const std::string &subject);
std::string address_header(const char *name, const std::vector<Address> &addresses);
std::string part(const char *type, std::string_view text);

} // namespace

std::string mail_message(const Mail &mail, const Envelope &envelope) {
    const std::string separator = std::string("--") + boundary;
    return header("Date", envelope.date) + address_header("From", {envelope.from}) +
           address_header("To", envelope.to) + subject_header(mail.subject) +
           header("Message-ID", envelope.message_id) +
           header("References", thread_root_of(envelope.message_id)) +
           header("Auto-Submitted", "auto-generated") + header("MIME-Version", "1.0") +
           header("Content-Type",
                  std::string("multipart/alternative; boundary=\"") + boundary + "\"") +
           "\r\n" + separator + "\r\n" + part("text/plain", mail.text) + "\r\n" + separator +
           "\r\n" + part("text/html", mail.html) + "\r\n" + separator + "--\r\n";
}

namespace {

std::vector<std::string> words_of(const std::string &text) {
    std::vector<std::string> words(1);
    for (const char c : text)
        if (c == ' ')
            words.emplace_back();
        else
            words.back() += c;
    return words;
}

std::string header(const char *name, const std::string &value) {
    Header header(name);
    for (const std::string &word : words_of(value))
        header.add(word);
    return header.line();
}

bool is_printable_ascii(char c) {
    return c > ' ' && c < 0x7F;
}

bool contains(const std::string &text, const char *part) {
    return text.find(part) != text.npos;
}

bool is_letter_or_digit(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// Whether the words can stand in a header unencoded. A word that looks encoded would be decoded.
bool is_plain(const std::vector<std::string> &words) {
    return std::all_of(words.begin(), words.end(), [](const std::string &word) {
        return !word.empty() && word.size() < max_line - 10 && !contains(word, "=?") &&
               !contains(word, "\\") && std::all_of(word.begin(), word.end(), is_printable_ascii);
    });
}

// A character, as far as its bytes belong together.
std::string_view first_character(std::string_view text) {
    std::size_t size = 1;
    while (size < text.size() && size < 4 && (static_cast<unsigned char>(text[size]) >> 6) == 2)
        ++size;
    return text.substr(0, size);
}

// By "Q" as it is safe in every header (RFC 2047, section 5, rule 3).
std::string encoded_character(std::string_view character) {
    if (character == " ")
        return "_";
    if (character.size() == 1 &&
        (is_letter_or_digit(character[0]) ||
         std::string_view("!*+-/").find(character[0]) != std::string_view::npos))
        return std::string(character);
    std::string encoded;
    for (const char c : character)
        append_hex(encoded, '=', c);
    return encoded;
}

// Any text as encoded words, each of whole characters, which a reader joins again without the
// space between them.
std::vector<std::string> encoded_words(std::string_view text) {
    constexpr std::string_view begin = "=?utf-8?q?", end = "?=";
    std::vector<std::string> words;
    std::string word;
    constexpr std::size_t room = max_encoded_word - begin.size() - end.size();
    while (!text.empty()) {
        const std::string_view character = first_character(text);
        const std::string encoded = encoded_character(character);
        if (word.size() + encoded.size() > room) {
            words.push_back(std::string(begin) + word + std::string(end));
            word.clear();
        }
        word += encoded;
        text.remove_prefix(character.size());
    }
    words.push_back(std::string(begin) + word + std::string(end));
    return words;
}

std::string subject_header(const std::string &subject) {
    const std::string text = one_line(subject, max_header_text);
    const std::vector<std::string> words = words_of(text);
    Header header("Subject");
    for (const std::string &word : is_plain(words) || text.empty() ? words : encoded_words(text))
        header.add(word);
    return header.line();
}

// As one quoted string, which may be folded at its spaces, or encoded.
std::vector<std::string> phrase(const std::string &name) {
    const std::string text = one_line(name, max_header_text);
    std::vector<std::string> words = words_of(text);
    if (!is_plain(words) || contains(text, "\""))
        return encoded_words(text);
    words.front().insert(0, 1, '"');
    words.back() += '"';
    return words;
}

std::string address_header(const char *name, const std::vector<Address> &addresses) {
    Header header(name);
    for (const Address &address : addresses) {
        const char *comma = &address == &addresses.back() ? "" : ",";
        if (address.name.empty()) {
            header.add(address.email + comma);
            continue;
        }
        for (const std::string &word : phrase(address.name))
            header.add(word);
        header.add("<" + address.email + ">" + comma);
    }
    return header.line();
}

// Quoted-printable, RFC 2045, 6.7: at most 76 characters a line; line ends of the text are kept.
class QuotedPrintable {
public:
    void add(char c, bool ends_line) {
        const bool blank = c == ' ' || c == '\t';
        const bool begins_line = column_ == 0 || column_ == max_line - 1;
        const bool leading_dot = begins_line && c == '.'; // it means something to SMTP
        const bool special = c == '=' || c == '\\' || leading_dot;
        if ((is_printable_ascii(c) && !special) || (blank && !ends_line))
            append({&c, 1});
        else
            append(hex(c));
    }
    void end_line() {
        text_ += "\r\n";
        column_ = 0;
    }
    const std::string &text() const { return text_; }

private:
    static std::string hex(char c) {
        std::string text;
        append_hex(text, '=', c);
        return text;
    }
    void append(std::string_view piece) {
        if (column_ + piece.size() > max_line - 1) { // the "=" needs a place
            text_ += "=\r\n";
            column_ = 0;
        }
        text_ += piece;
        column_ += piece.size();
    }

    std::string text_;
    std::size_t column_ = 0;
};

std::string part(const char *type, std::string_view text) {
    QuotedPrintable encoded;
    for (std::size_t i = 0; i < text.size(); ++i)
        if (text[i] == '\n')
            encoded.end_line();
        else
            encoded.add(text[i], i + 1 == text.size() || text[i + 1] == '\n');
    return header("Content-Type", std::string(type) + "; charset=utf-8") +
           header("Content-Transfer-Encoding", "quoted-printable") + "\r\n" + encoded.text();
}

} // namespace

} // namespace job_alerting::core
