// http::Dialogue and core::interpret_smtp() on whatever a mail server may say, in pieces. Nothing
// is thrown, and:
//
//   a digest is accepted only by a reply of 2xx to the message, in doubt only when the message may
//   have been handed over and no reply of 4xx or 5xx came, else pending;
//
//   a code has three digits; a reply and what is said of a recipient are bounded; the recipients
//   that were refused are among those that were asked for, each once and in their order;
//
//   what is stored is a line of ASCII, and the error is empty exactly when the digest is accepted.
//
// Input: pieces, each after a letter: c for a command, s for a line of the server, S for it a
// thousand times.

#include "property.hpp"

#include "core/smtp.hpp"
#include "http/dialogue.hpp"

using namespace job_alerting;
using namespace job_alerting::fuzz;

namespace {

constexpr std::size_t recipients = 3;

core::Submission sample_submission() {
    return {.from = "a@example.com",
            .to = {"b@example.com", "c@example.com", "d@example.com"},
            .message = std::string(1000, 'x')};
}

void check_answer(const core::SmtpAnswer &answer) {
    require(answer.code == 0 || (answer.code >= 100 && answer.code <= 999), "three digits");
    require(answer.reply.size() <= http::Dialogue::max_reply, "a reply is bounded");
    require(answer.refused.size() <= recipients, "no more refusals than recipients");
    for (std::size_t i = 0; i < answer.refused.size(); ++i) {
        const core::RefusedRecipient &refused = answer.refused[i];
        require(refused.reply.size() <= http::Dialogue::max_refusal, "a refusal is bounded");
        require(i == 0 || refused.number > answer.refused[i - 1].number, "in their order");
    }
}

void check_outcome(const core::SmtpAnswer &answer, const core::Outcome &outcome) {
    using core::State;
    const bool at_end = answer.stage == core::SmtpStage::verdict;
    if (outcome.state == State::accepted)
        require(at_end && answer.code / 100 == 2, "accepted by 2xx to the message");
    if (outcome.state == State::in_doubt)
        require(answer.handed_over &&
                    !(at_end && (answer.code / 100 == 4 || answer.code / 100 == 5)),
                "in doubt without a verdict");
    require(!outcome.content_refused || outcome.state == State::pending, "refused is pending");
    require(is_printable_ascii(outcome.error) && outcome.error.size() <= 500, "the error");
    require(is_printable_ascii(outcome.refused), "the refused");
    require(outcome.error.empty() == (outcome.state == State::accepted),
            "there is an error unless the digest is accepted");
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    Fields pieces(input_of(data, size), unit_separator);
    http::Dialogue dialogue(recipients);
    std::size_t read = 0;
    while (pieces.has_more()) {
        const std::string piece = pieces.next();
        const std::string text = piece.empty() ? piece : piece.substr(1);
        if (piece.starts_with('c')) {
            dialogue.sent(text);
            continue;
        }
        for (int i = 0; i < (piece.starts_with('S') ? 1000 : 1); ++i, read += text.size())
            dialogue.received(text);
    }
    require(dialogue.is_too_long() == (read > http::Dialogue::max_read), "too much is noticed");
    core::SmtpAnswer answer = dialogue.answer();
    check_answer(answer);
    for (const bool handed_over : {false, true}) {
        answer.handed_over = handed_over;
        check_outcome(answer, core::interpret_smtp(answer, sample_submission()));
    }
    return 0;
}
