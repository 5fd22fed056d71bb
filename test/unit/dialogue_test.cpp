#include "http/dialogue.hpp"

#include <gtest/gtest.h>

namespace job_alerting::http {

namespace {

using core::SmtpStage;

// A dialogue line by line: those of the client begin with "C: ".
Dialogue after(const std::vector<std::string> &lines, std::size_t recipients = 3) {
    Dialogue dialogue(recipients);
    for (const std::string &line : lines)
        if (line.starts_with("C: "))
            dialogue.sent(line.substr(3) + "\r\n");
        else
            dialogue.received(line + "\r\n");
    return dialogue;
}

void expect_at(const std::vector<std::string> &lines, SmtpStage stage, int code,
               const std::string &reply) {
    const core::SmtpAnswer answer = after(lines).answer();
    EXPECT_EQ(answer.stage, stage);
    EXPECT_EQ(answer.code, code);
    EXPECT_EQ(answer.reply, reply);
}

TEST(Dialogue, knows_how_far_it_came) {
    expect_at({}, SmtpStage::connection, 0, "");
    std::vector<std::string> lines = {"421 too busy"};
    expect_at(lines, SmtpStage::greeting, 421, "too busy");
    lines = {"220 hello", "C: EHLO me"};
    expect_at(lines, SmtpStage::greeting, 0, "");
    lines.insert(lines.end(), {"250-mail", "250 STARTTLS", "C: STARTTLS"});
    expect_at(lines, SmtpStage::encryption, 0, "");
    lines.insert(lines.end(), {"220 go", "C: EHLO me", "250-mail", "250 AUTH PLAIN"});
    expect_at(lines, SmtpStage::greeting, 250, "mail AUTH PLAIN");
    lines.insert(lines.end(), {"C: AUTH PLAIN", "334 ", "C: AGpvYgBzZWNyZXQ="});
    expect_at(lines, SmtpStage::login, 0, "");
    lines.insert(lines.end(), {"235 in", "C: MAIL FROM:<a@example.com> SIZE=100"});
    expect_at(lines, SmtpStage::sender, 0, "");
    lines.insert(lines.end(), {"250 ok", "C: RCPT TO:<b@example.com>", "250 ok"});
    expect_at(lines, SmtpStage::recipients, 250, "ok");
    lines.insert(lines.end(), {"C: DATA"});
    expect_at(lines, SmtpStage::data, 0, "");
    lines.insert(lines.end(), {"354 go ahead"});
    expect_at(lines, SmtpStage::verdict, 0, "");
    lines.insert(lines.end(), {"250-2.0.0 queued", "250 as 17"});
    expect_at(lines, SmtpStage::verdict, 250, "2.0.0 queued as 17");
    EXPECT_FALSE(after(lines).is_over());
    lines.insert(lines.end(), {"421 time is up", "C: QUIT", "500 what?"});
    expect_at(lines, SmtpStage::verdict, 250, "2.0.0 queued as 17");
    EXPECT_TRUE(after(lines).is_over());
}

TEST(Dialogue, takes_no_half_reply_for_one) {
    const std::vector<std::string> before = {"220 hi", "C: MAIL FROM:<a@example.com>", "250 ok",
                                             "C: DATA", "354 go"};
    for (const char *reply : {"250-queued", "25", "", "abc ok", "2x0 ok", "250_ok", "099 ok"}) {
        std::vector<std::string> lines = before;
        lines.push_back(reply);
        EXPECT_EQ(after(lines).answer().code, 0) << reply;
    }
    std::vector<std::string> lines = before;
    lines.push_back("250");
    EXPECT_EQ(after(lines).answer().code, 250);
}

TEST(Dialogue, knows_which_recipients_were_refused) {
    const core::SmtpAnswer answer =
        after({"220 hi", "C: MAIL FROM:<a@example.com>", "250 ok", "C: RCPT TO:<b@example.com>",
               "550-no such", "550 user", "C: RCPT TO:<c@example.com>", "251 ok",
               "C: RCPT TO:<d@example.com>", "450 " + std::string(200, 'x')})
            .answer();
    ASSERT_EQ(answer.refused.size(), 2U);
    EXPECT_EQ(answer.refused[0].number, 0U);
    EXPECT_EQ(answer.refused[0].code, 550);
    EXPECT_EQ(answer.refused[0].reply, "no such user");
    EXPECT_EQ(answer.refused[1].number, 2U);
    EXPECT_EQ(answer.refused[1].code, 450);
    EXPECT_EQ(answer.refused[1].reply, std::string(Dialogue::max_refusal, 'x'));
}

TEST(Dialogue, reads_what_the_server_can) {
    const Dialogue plain =
        after({"220 hi", "C: EHLO me", "250-mail SIZE 7", "250-size 1000", "250 SMTPUTF8"});
    EXPECT_EQ(plain.size_limit(), 1000U);
    EXPECT_TRUE(plain.takes_utf8());
    // It may say something else once it is encrypted, and only that counts.
    const Dialogue encrypted = after({"220 hi", "C: EHLO me", "250-SIZE 1000", "250 SMTPUTF8",
                                      "C: STARTTLS", "220 go", "C: EHLO me", "250 SIZE"});
    EXPECT_EQ(encrypted.size_limit(), 0U);
    EXPECT_FALSE(encrypted.takes_utf8());
    EXPECT_EQ(after({"220 hi", "C: EHLO me", "250 SIZE 0"}).size_limit(), 0U);
    EXPECT_EQ(after({"220 hi", "C: EHLO me", "250 SIZE x"}).size_limit(), 0U);
    EXPECT_EQ(after({"220 SIZE 5", "C: HELO me", "250 SIZE 5"}).size_limit(), 0U);
}

TEST(Dialogue, keeps_the_beginning_of_a_reply_and_ends_when_too_much_comes) {
    Dialogue dialogue(1);
    std::string line = "220-" + std::string(500, 'x') + "\r\n";
    for (int i = 0; i < 500; ++i)
        dialogue.received(line);
    EXPECT_FALSE(dialogue.is_too_long());
    for (int i = 0; i < 100; ++i)
        dialogue.received(line);
    EXPECT_TRUE(dialogue.is_too_long());
    dialogue.received("220 end\r\n");
    EXPECT_EQ(dialogue.answer().reply.size(), Dialogue::max_reply);
}

} // namespace

} // namespace job_alerting::http
