#include "core/smtp.hpp"

#include "core/mail_message.hpp"

#include "samples.hpp"

#include <gtest/gtest.h>

namespace job_alerting::core {

namespace {

Envelope sample_envelope() {
    Envelope envelope;
    envelope.from = {"jobs@example.com", "Jobs"};
    envelope.to = {{"a@example.com", "A"}, {"b@example.com", ""}, {"c@example.com", ""}};
    envelope.message_id = "<17.abc@example.com>";
    envelope.date = "Tue, 14 Jul 2026 03:00:00 +0000";
    return envelope;
}

const Mail sample_mail = {"subject", "RCPT TO:<x@example.com>\nDATA\n", "<p>html</p>"};

Submission sample_submission() {
    return *submission_of(smtp_request(sample_mail, sample_envelope()));
}

SmtpAnswer answer_at(SmtpStage stage, int code, const std::string &reply = "") {
    SmtpAnswer answer;
    answer.stage = stage;
    answer.code = code;
    answer.reply = reply;
    answer.handed_over = stage == SmtpStage::verdict;
    return answer;
}

Outcome outcome_of(const SmtpAnswer &answer) {
    return interpret_smtp(answer, sample_submission());
}

TEST(SmtpRequest, is_read_again) {
    const Submission submission = sample_submission();
    EXPECT_EQ(submission.from, "jobs@example.com");
    EXPECT_EQ(submission.to,
              (std::vector<std::string>{"a@example.com", "b@example.com", "c@example.com"}));
    EXPECT_EQ(submission.message, mail_message(sample_mail, sample_envelope()));
}

TEST(SmtpRequest, is_ascii_and_read_again_whatever_the_addresses) {
    Envelope envelope = sample_envelope();
    envelope.from.email = "j\xC3\xB6rg@example.com";
    envelope.to[1] = {"\xF0\x9F\x8E\xB5@example.com", "a \"back\\slash\" \\C3"};
    const Mail mail = {"sub \\C3 ject", "text \\C3\n", "\\41"};
    const std::string request = smtp_request(mail, envelope);
    for (const char c : request)
        EXPECT_LT(static_cast<unsigned char>(c), 0x80);
    const Submission submission = *submission_of(request);
    EXPECT_EQ(submission.from, envelope.from.email);
    EXPECT_EQ(submission.to[1], envelope.to[1].email);
    EXPECT_EQ(submission.message, mail_message(mail, envelope));
}

TEST(SmtpRequest, is_not_taken_for_one_when_it_is_another) {
    const std::string request = smtp_request(sample_mail, sample_envelope());
    for (const std::string &other :
         {std::string(), std::string("{\"personalizations\": []}"), request.substr(1),
          request.substr(0, request.find("DATA")), request.substr(0, 20),
          std::string("MAIL FROM:<a@example.com>\r\nDATA\r\n\r\n")})
        EXPECT_FALSE(submission_of(other)) << other;
}

TEST(SmtpOutcome, is_accepted_by_a_verdict_of_2xx_only) {
    EXPECT_EQ(outcome_of(answer_at(SmtpStage::verdict, 250)).state, State::accepted);
    EXPECT_EQ(outcome_of(answer_at(SmtpStage::verdict, 250, "queued")).error, "");
    for (const SmtpStage stage :
         {SmtpStage::connection, SmtpStage::greeting, SmtpStage::encryption, SmtpStage::login,
          SmtpStage::sender, SmtpStage::recipients, SmtpStage::data})
        EXPECT_EQ(outcome_of(answer_at(stage, 250)).state, State::pending);
}

TEST(SmtpOutcome, is_in_doubt_without_a_verdict_only) {
    SmtpAnswer answer = answer_at(SmtpStage::verdict, 0);
    answer.error = "Timeout was reached";
    EXPECT_EQ(outcome_of(answer).state, State::in_doubt);
    EXPECT_EQ(outcome_of(answer).error,
              "no verdict on the mail after it was handed over: Timeout was reached");
    EXPECT_EQ(outcome_of(answer_at(SmtpStage::verdict, 354)).state, State::in_doubt);
    answer.handed_over = false;
    EXPECT_EQ(outcome_of(answer).state, State::pending);
    EXPECT_FALSE(outcome_of(answer).content_refused);
}

TEST(SmtpOutcome, is_pending_after_a_refusal_and_says_of_what) {
    const auto error = [](SmtpStage stage, int code) {
        const Outcome outcome = outcome_of(answer_at(stage, code, "words \xC3\xA9\r\nmore"));
        EXPECT_EQ(outcome.state, State::pending);
        EXPECT_EQ(outcome.http_status, code);
        EXPECT_FALSE(outcome.content_refused);
        return outcome.error;
    };
    EXPECT_EQ(error(SmtpStage::greeting, 421), "the server refuses the greeting: 421 words ? more");
    EXPECT_EQ(error(SmtpStage::greeting, 554),
              "the server refuses the greeting: 554 words ? more (check smtp_url)");
    EXPECT_EQ(error(SmtpStage::encryption, 454), "the server refuses STARTTLS: 454 words ? more");
    EXPECT_EQ(error(SmtpStage::login, 535),
              "the server refuses the login: 535 words ? more (check smtp_credentials_file)");
    EXPECT_EQ(error(SmtpStage::sender, 550), "the server refuses the sender: 550 words ? more "
                                             "(check mail_from and smtp_credentials_file)");
    EXPECT_EQ(error(SmtpStage::recipients, 450),
              "the server refuses the recipients: 450 words ? more");
    EXPECT_EQ(error(SmtpStage::recipients, 550),
              "the server refuses the recipients: 550 words ? more (check mail_to)");
    EXPECT_EQ(error(SmtpStage::data, 554), "the server refuses DATA: 554 words ? more");
    EXPECT_EQ(error(SmtpStage::verdict, 451), "the server refuses the mail: 451 words ? more");
}

TEST(SmtpOutcome, asks_for_a_smaller_mail_where_that_may_pass) {
    EXPECT_TRUE(outcome_of(answer_at(SmtpStage::verdict, 554)).content_refused);
    EXPECT_TRUE(outcome_of(answer_at(SmtpStage::sender, 552)).content_refused);
    EXPECT_FALSE(outcome_of(answer_at(SmtpStage::recipients, 552)).content_refused);
    SmtpAnswer answer = answer_at(SmtpStage::sender, 501);
    answer.size_limit = 100;
    EXPECT_TRUE(outcome_of(answer).content_refused);
    EXPECT_EQ(outcome_of(answer).error, "the mail has " +
                                            std::to_string(sample_submission().message.size()) +
                                            " bytes, and the server takes 100 (lower max_listed)");
    answer.size_limit = sample_submission().message.size();
    EXPECT_FALSE(outcome_of(answer).content_refused);
}

TEST(SmtpOutcome, says_where_it_broke_off) {
    SmtpAnswer answer = answer_at(SmtpStage::connection, 0);
    answer.error = "Failed to connect";
    EXPECT_EQ(outcome_of(answer).error, "Failed to connect");
    answer = answer_at(SmtpStage::greeting, 250, "hello");
    answer.error = "STARTTLS not supported.";
    EXPECT_EQ(outcome_of(answer).error, "broken off at the greeting: STARTTLS not supported.");
    EXPECT_EQ(outcome_of(answer_at(SmtpStage::sender, 0)).error,
              "broken off at the sender: no answer");
}

TEST(SmtpOutcome, names_the_recipients_that_were_refused) {
    SmtpAnswer answer = answer_at(SmtpStage::verdict, 250);
    answer.refused = {{1, 550, "5.1.1 no such user"}, {2, 450, ""}, {7, 550, "nobody"}};
    EXPECT_EQ(outcome_of(answer).state, State::accepted);
    EXPECT_EQ(outcome_of(answer).refused,
              "b@example.com (550 5.1.1 no such user); c@example.com (450)");
    answer.code = 451;
    EXPECT_EQ(outcome_of(answer).refused, "");
}

TEST(SmtpOutcome, is_in_doubt_whenever_all_was_handed_over) {
    SmtpAnswer answer = answer_at(SmtpStage::connection, 0); // nothing is known of the dialogue
    answer.handed_over = true;
    EXPECT_EQ(outcome_of(answer).state, State::in_doubt);
    answer.refused = {{1, 550, ""}};
    EXPECT_EQ(outcome_of(answer).refused, "b@example.com (550)");
    EXPECT_EQ(note_of(outcome_of(answer)), "");
}

TEST(SmtpOutcome, tells_a_refusal_before_the_size) {
    SmtpAnswer answer = answer_at(SmtpStage::login, 535, "no");
    answer.size_limit = 100;
    EXPECT_FALSE(outcome_of(answer).content_refused);
    EXPECT_TRUE(contains(outcome_of(answer).error, "refuses the login: 535 no"));
}

TEST(SmtpOutcome, counts_refused_recipients_beyond_twenty) {
    Submission submission = sample_submission();
    SmtpAnswer answer = answer_at(SmtpStage::verdict, 250);
    for (std::size_t i = 0; i < 25; ++i) {
        submission.to.push_back("x@example.com");
        answer.refused.push_back({i, 550, ""});
    }
    EXPECT_TRUE(interpret_smtp(answer, submission).refused.ends_with("(550); and 5 more"));
}

} // namespace

} // namespace job_alerting::core
