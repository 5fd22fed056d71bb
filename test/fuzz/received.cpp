// http::Received on any pieces from libcurl. It keeps the first 2 kB of the body and whole lines of
// the headers, 16 kB in all. It asks to stop exactly when more than 1 MB was read. It never
// allocates, since that could throw inside libcurl. Its headers are one line each, with a name in
// lower case, and core's results fit a table.
//
// Input: pieces, each after a letter: h for a piece of the headers, b for one of the body; H, B for
// it a thousand times.

#include "property.hpp"

#include "core/outcome.hpp"
#include "http/received.hpp"

using namespace job_alerting;
using namespace job_alerting::fuzz;
using http::Received;

namespace {

// All bytes that came.
struct Everything {
    std::string headers;
    std::string body;
    std::string kept_headers; // the pieces that fit
};

void add(Received &received, Everything &everything, bool to_headers, const std::string &piece) {
    const char *const room = received.body().data();
    const bool goes_on = to_headers ? received.add_headers(piece.data(), piece.size())
                                    : received.add_body(piece.data(), piece.size());
    (to_headers ? everything.headers : everything.body) += piece;
    if (to_headers && everything.kept_headers.size() + piece.size() <= 16 * 1000)
        everything.kept_headers += piece;
    const std::size_t read = everything.headers.size() + everything.body.size();
    require(goes_on == (read <= 1000 * 1000), "it stops after 1 MB");
    require(received.body().data() == room, "it takes no room anew");
}

bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r';
}

bool is_trimmed(const std::string &text) {
    return text.empty() || (!is_blank(text.front()) && !is_blank(text.back()));
}

void check_header(const std::string &kept, const std::string &name, const std::string &value) {
    require(name.find_first_of("\n:") == name.npos, "a name ends at the colon");
    require(std::none_of(name.begin(), name.end(), [](char c) { return c >= 'A' && c <= 'Z'; }),
            "a name is in lower case");
    require(value.find('\n') == value.npos, "a value is one line");
    require(is_trimmed(name) && is_trimmed(value), "name and value are trimmed");
    require(kept.find(value) != kept.npos, "a value is what came in a line that fits");
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    Fields pieces(input_of(data, size), unit_separator);
    Received received;
    Everything everything;
    while (pieces.has_more()) {
        const std::string piece = pieces.next();
        const char kind = piece.empty() ? 'b' : piece.front();
        const int times = kind == 'H' || kind == 'B' ? 1000 : 1;
        for (int i = 0; i < times; ++i)
            add(received, everything, kind == 'h' || kind == 'H',
                piece.empty() ? piece : piece.substr(1));
    }
    require(received.body() == everything.body.substr(0, 2000), "the first 2 kB of the body");
    core::Answer answer;
    answer.status = 429;
    answer.headers = received.headers();
    answer.body = received.body();
    const std::string &kept = everything.kept_headers;
    for (const auto &[name, value] : answer.headers)
        check_header(kept, name, value);
    require(answer.headers.size() <= occurrences(kept, ":"), "no header without a colon");
    require(is_printable_ascii(core::interpret_sendgrid(answer, 0).error), "core can keep it");
    return 0;
}
