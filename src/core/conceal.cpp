#include "core/conceal.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

namespace job_alerting::core {

namespace {

// A decoded character, and its size in the text in bytes.
struct Decoded {
    char character;
    std::size_t size;
};

using Decoder = Decoded (*)(std::string_view text);

Decoded literal(std::string_view text);
Decoded unescaped(std::string_view text);
std::vector<Decoded> decode_all(Decoder decoder, std::string_view text);
std::vector<bool> shared(const std::vector<Decoded> &text, const std::vector<Decoded> &secret,
                         std::size_t min_length);

} // namespace

void conceal(std::string &text, std::string_view secret, std::string_view replacement,
             std::size_t min_length) {
    if (secret.empty())
        return;
    const std::vector<Decoded> decoded = decode_all(unescaped, text);
    std::vector<bool> is_shared = shared(decoded, decode_all(unescaped, secret), min_length);
    // Compare the bytes, too: a '%' before a part of the secret can turn it into an escape.
    const std::vector<bool> is_shared_byte =
        shared(decode_all(literal, text), decode_all(literal, secret), min_length);

    std::string rest;
    auto byte = is_shared_byte.begin();
    std::size_t at = 0;
    for (std::size_t i = 0; i < decoded.size(); ++i) {
        // Replace an escape as a whole: half of one would read as something else.
        const auto end = byte + static_cast<std::ptrdiff_t>(decoded[i].size);
        is_shared[i] = is_shared[i] || std::find(byte, end, true) != end;
        if (!is_shared[i])
            rest.append(text, at, decoded[i].size);
        else if (i == 0 || !is_shared[i - 1])
            rest += replacement;
        at += decoded[i].size;
        byte = end;
    }
    text = std::move(rest);
}

namespace {

std::vector<Decoded> decode_all(Decoder decoder, std::string_view text) {
    std::vector<Decoded> all;
    all.reserve(text.size());
    while (!text.empty()) {
        all.push_back(decoder(text));
        text.remove_prefix(all.back().size);
    }
    return all;
}

// Calls take(run, end) for every run of `length` characters, packed into a number.
template <typename Take>
void for_each_run(const std::vector<Decoded> &characters, std::size_t length, Take &&take) {
    static_assert(min_run == sizeof(std::uint64_t));
    const std::uint64_t whole = ~std::uint64_t(0) >> (8 * (min_run - length));
    std::uint64_t run = 0;
    for (std::size_t i = 0; i < characters.size(); ++i) {
        run = (run << 8 | static_cast<unsigned char>(characters[i].character)) & whole;
        if (i + 1 >= length)
            take(run, i + 1);
    }
}

// Clears the marks of each run that is shorter than min_length.
void unmark_short_runs(std::vector<bool> &marks, std::size_t min_length) {
    for (auto begin = marks.begin(); begin != marks.end();) {
        begin = std::find(begin, marks.end(), true);
        const auto end = std::find(begin, marks.end(), false);
        if (end - begin < static_cast<std::ptrdiff_t>(min_length))
            std::fill(begin, end, false);
        begin = end;
    }
}

// Marks the characters of a text that are in a run shared with the secret.
std::vector<bool> shared(const std::vector<Decoded> &text, const std::vector<Decoded> &secret,
                         std::size_t min_length) {
    const std::size_t length = std::min(min_run, secret.size());
    std::vector<std::uint64_t> runs;
    for_each_run(secret, length, [&](std::uint64_t run, std::size_t) { runs.push_back(run); });
    std::sort(runs.begin(), runs.end());

    std::vector<bool> is_shared(text.size());
    for_each_run(text, length, [&](std::uint64_t run, std::size_t end) {
        if (std::binary_search(runs.begin(), runs.end(), run))
            std::fill_n(is_shared.begin() + static_cast<std::ptrdiff_t>(end - length), length,
                        true);
    });
    unmark_short_runs(is_shared, std::min(min_length, secret.size()));
    return is_shared;
}

Decoded literal(std::string_view text) {
    return {text.front(), 1};
}

int digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    const char lower = static_cast<char>(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : 16;
}

// The byte that a numeric escape stands for: digits between a front and a back. Size 0 if the text
// does not begin with such an escape.
Decoded numeric_escape(std::string_view text, std::string_view front, int base,
                       std::size_t min_digits, std::size_t max_digits, std::string_view back) {
    constexpr Decoded none = {'\0', 0};
    if (!text.starts_with(front))
        return none;
    std::size_t end = front.size();
    int number = 0;
    while (end < text.size() && end < front.size() + max_digits && digit(text[end]) < base)
        number = std::min(number * base + digit(text[end++]), 0x100);
    if (end < front.size() + min_digits || number >= 0x100 || !text.substr(end).starts_with(back))
        return none;
    return {static_cast<char>(number), end + back.size()};
}

Decoded unescaped(std::string_view text) {
    constexpr std::array<std::pair<std::string_view, char>, 8> named = {{{"\\/", '/'},
                                                                         {"\\\"", '"'},
                                                                         {"\\\\", '\\'},
                                                                         {"&amp;", '&'},
                                                                         {"&lt;", '<'},
                                                                         {"&gt;", '>'},
                                                                         {"&quot;", '"'},
                                                                         {"&apos;", '\''}}};
    const char first = text.front();
    if (first != '\\' && first != '&' && first != '%')
        return literal(text);
    for (const auto &[escape, character] : named)
        if (text.starts_with(escape))
            return {character, escape.size()};
    for (const Decoded &decoded :
         {numeric_escape(text, "\\u", 16, 4, 4, ""), numeric_escape(text, "%", 16, 2, 2, ""),
          numeric_escape(text, "&#x", 16, 1, 8, ";"), numeric_escape(text, "&#X", 16, 1, 8, ";"),
          numeric_escape(text, "&#", 10, 1, 8, ";")})
        if (decoded.size > 0)
            return decoded;
    return literal(text);
}

} // namespace

} // namespace job_alerting::core
