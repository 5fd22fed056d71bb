#include "core/conceal.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

namespace job_alerting::core {

namespace {

// The first character of a text, and how many bytes it takes there.
struct Written {
    char character;
    std::size_t size;
};

using Reading = Written (*)(std::string_view text);

Written as_it_is(std::string_view text);
Written unescaped(std::string_view text);
std::vector<Written> read_all(Reading reading, std::string_view text);
std::vector<bool> shared(const std::vector<Written> &text, const std::vector<Written> &secret,
                         std::size_t least);

} // namespace

void conceal(std::string &text, std::string_view secret, std::string_view instead,
             std::size_t least) {
    if (secret.empty())
        return;
    const std::vector<Written> written = read_all(unescaped, text);
    std::vector<bool> is_shared = shared(written, read_all(unescaped, secret), least);
    // A part of the secret is not read as it is where it follows a '%', say, and makes an escape.
    const std::vector<bool> is_shared_byte =
        shared(read_all(as_it_is, text), read_all(as_it_is, secret), least);

    std::string rest;
    auto byte = is_shared_byte.begin();
    std::size_t at = 0;
    for (std::size_t i = 0; i < written.size(); ++i) {
        // An escape goes whole: half of one would be read as something else.
        const auto end = byte + static_cast<std::ptrdiff_t>(written[i].size);
        is_shared[i] = is_shared[i] || std::find(byte, end, true) != end;
        if (!is_shared[i])
            rest.append(text, at, written[i].size);
        else if (i == 0 || !is_shared[i - 1])
            rest += instead;
        at += written[i].size;
        byte = end;
    }
    text = std::move(rest);
}

namespace {

std::vector<Written> read_all(Reading reading, std::string_view text) {
    std::vector<Written> all;
    all.reserve(text.size());
    while (!text.empty()) {
        all.push_back(reading(text));
        text.remove_prefix(all.back().size);
    }
    return all;
}

// Every run of so many characters, as a number; and where each ends.
template <typename Take>
void for_each_run(const std::vector<Written> &characters, std::size_t length, Take &&take) {
    static_assert(min_run == sizeof(std::uint64_t));
    const std::uint64_t whole = ~std::uint64_t(0) >> (8 * (min_run - length));
    std::uint64_t run = 0;
    for (std::size_t i = 0; i < characters.size(); ++i) {
        run = (run << 8 | static_cast<unsigned char>(characters[i].character)) & whole;
        if (i + 1 >= length)
            take(run, i + 1);
    }
}

// Takes the marks off each run of fewer.
void unmark_short_runs(std::vector<bool> &marks, std::size_t least) {
    for (auto begin = marks.begin(); begin != marks.end();) {
        begin = std::find(begin, marks.end(), true);
        const auto end = std::find(begin, marks.end(), false);
        if (end - begin < static_cast<std::ptrdiff_t>(least))
            std::fill(begin, end, false);
        begin = end;
    }
}

// Which characters of a text are in a run that it shares with a secret.
std::vector<bool> shared(const std::vector<Written> &text, const std::vector<Written> &secret,
                         std::size_t least) {
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
    unmark_short_runs(is_shared, std::min(least, secret.size()));
    return is_shared;
}

Written as_it_is(std::string_view text) {
    return {text.front(), 1};
}

int digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    const char lower = static_cast<char>(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : 16;
}

// The byte whose number stands in digits between a front and a back; size 0 when that
// is not so.
Written by_number(std::string_view text, std::string_view front, int base, std::size_t least,
                  std::size_t most, std::string_view back) {
    constexpr Written none = {'\0', 0};
    if (!text.starts_with(front))
        return none;
    std::size_t end = front.size();
    int number = 0;
    while (end < text.size() && end < front.size() + most && digit(text[end]) < base)
        number = std::min(number * base + digit(text[end++]), 0x100);
    if (end < front.size() + least || number >= 0x100 || !text.substr(end).starts_with(back))
        return none;
    return {static_cast<char>(number), end + back.size()};
}

Written unescaped(std::string_view text) {
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
        return as_it_is(text);
    for (const auto &[escape, character] : named)
        if (text.starts_with(escape))
            return {character, escape.size()};
    for (const Written &written :
         {by_number(text, "\\u", 16, 4, 4, ""), by_number(text, "%", 16, 2, 2, ""),
          by_number(text, "&#x", 16, 1, 8, ";"), by_number(text, "&#X", 16, 1, 8, ";"),
          by_number(text, "&#", 10, 1, 8, ";")})
        if (written.size > 0)
            return written;
    return as_it_is(text);
}

} // namespace

} // namespace job_alerting::core
