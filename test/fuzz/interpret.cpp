// core::interpret_sendgrid(), interpret_slack() and interpret_webhook() on any answer. They throw
// nothing, and:
//
//   the state is accepted for 202 (Slack: 200 with the body ok; others: any 2xx), in doubt for an
//   ambiguous status or for none after the request was handed over, else pending;
//
//   error and provider_id are bounded lines of ASCII, and the error is empty exactly when the
//   digest is accepted;
//
//   only a 429 causes a wait, of 1 to 3600 seconds, which is the number in Retry-After where that
//   is the only header; 0 asks for none.
//
// Input: status, handed over, now, Retry-After, X-RateLimit-Reset, X-Message-Id, the transport's
// complaint, body.

#include "property.hpp"

#include "core/outcome.hpp"

using namespace job_alerting::core;
using namespace job_alerting::fuzz;

namespace {

void set_header(Answer &answer, const char *name, const std::string &value) {
    if (!value.empty())
        answer.headers[name] = value;
}

// Checks of a digest that is not accepted.
State expected_state(const Answer &answer, bool refused_by_200) {
    if (answer.status == 0)
        return answer.handed_over ? State::in_doubt : State::pending;
    const int hundreds = answer.status / 100;
    const bool refused = hundreds == 3 || hundreds == 4 || (answer.status == 200 && refused_by_200);
    return refused ? State::pending : State::in_doubt;
}

bool is_small_number(const std::string &text) {
    return !text.empty() && text.size() <= 9 &&
           std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

void check_wait(const Answer &answer, const Outcome &outcome, const std::string &retry_after) {
    require(!outcome.wait || answer.status == 429, "a wait is taken from 429 only");
    require(!outcome.wait || (*outcome.wait >= 1 && *outcome.wait <= 3600), "a wait is bounded");
    if (answer.status == 429 && is_small_number(retry_after) &&
        answer.headers.count("x-ratelimit-reset") == 0)
        require(outcome.wait.value_or(0) == std::min(std::stol(retry_after), 3600L),
                "the wait is what Retry-After says");
}

void check(const Answer &answer, const Outcome &outcome, const std::string &retry_after) {
    require(outcome.http_status == answer.status, "the status is kept");
    require(is_printable_ascii(outcome.error), "the error is a line of ASCII");
    require(outcome.error.size() <= 500, "the error is bounded");
    require(outcome.error.empty() == (outcome.state == State::accepted),
            "there is an error unless the digest is accepted");
    require(is_printable_ascii(outcome.provider_id), "the provider's id is a line of ASCII");
    require(outcome.provider_id.size() <= 200, "the provider's id is bounded");
    check_wait(answer, outcome, retry_after);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    Fields fields(input_of(data, size), unit_separator);
    Answer answer;
    answer.status = static_cast<int>(fields.next_number());
    answer.handed_over = fields.next() == "1";
    const std::int64_t now = fields.next_number();
    const std::string retry_after = fields.next();
    set_header(answer, "retry-after", retry_after);
    set_header(answer, "x-ratelimit-reset", fields.next());
    set_header(answer, "x-message-id", fields.next());
    answer.error = fields.next();
    answer.body = fields.rest();

    const Outcome of_mail = interpret_sendgrid(answer, now);
    require(of_mail.state ==
                (answer.status == 202 ? State::accepted : expected_state(answer, true)),
            "the state of a mail follows from the status");
    check(answer, of_mail, retry_after);

    const Outcome of_message = interpret_slack(answer, now);
    const bool is_word = answer.status == 200 && answer.body == "ok";
    require(of_message.state == (is_word ? State::accepted : expected_state(answer, false)),
            "the state of a message follows from the status and Slack's word");
    require(of_message.provider_id.empty(), "Slack names no message");
    check(answer, of_message, retry_after);

    const Outcome of_event = interpret_webhook(answer, now);
    require(of_event.state ==
                (answer.status / 100 == 2 ? State::accepted : expected_state(answer, false)),
            "the state of an event follows from the status");
    check(answer, of_event, retry_after);
    return 0;
}
