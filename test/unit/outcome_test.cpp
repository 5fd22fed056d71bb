#include "core/outcome.hpp"

#include "samples.hpp"

#include <gtest/gtest.h>

namespace job_alerting::core {

namespace {

constexpr std::int64_t now = 1800000000;

Answer answer(int status, std::string body = "", std::map<std::string, std::string> headers = {}) {
    Answer made;
    made.status = status;
    made.handed_over = true;
    made.body = std::move(body);
    made.headers = std::move(headers);
    return made;
}

Outcome interpret(const Answer &answer) {
    return interpret_sendgrid(answer, now);
}

std::optional<std::int64_t> wait(std::map<std::string, std::string> headers, int status = 429) {
    return interpret(answer(status, "", std::move(headers))).wait;
}

TEST(InterpretSendgrid, reads_202_as_accepted) {
    const Outcome outcome = interpret(answer(202, "", {{"x-message-id", " 14c5d75ce93.dfd \x01"}}));
    EXPECT_EQ(outcome.state, State::accepted);
    EXPECT_EQ(outcome.http_status, 202);
    EXPECT_EQ(outcome.provider_id, "14c5d75ce93.dfd");
    EXPECT_EQ(outcome.error, "");
    EXPECT_FALSE(outcome.wait);
}

TEST(InterpretSendgrid, clips_a_long_provider_id) {
    const Outcome outcome = interpret(answer(202, "", {{"x-message-id", repeated("x", 9999)}}));
    EXPECT_EQ(outcome.provider_id.size(), 200U);
}

TEST(InterpretSendgrid, reads_a_cut_off_202_as_accepted) {
    Answer cut = answer(202);
    cut.error = "transfer closed";
    cut.handed_over = false;
    EXPECT_EQ(interpret(cut).state, State::accepted);
}

TEST(InterpretSendgrid, reads_a_refusal_as_pending) {
    for (const int status : {200, 300, 301, 302, 307, 308, 399, 400, 401, 403, 404, 405, 406, 413,
                             415, 422, 429, 451, 499}) {
        const Outcome outcome = interpret(answer(status));
        EXPECT_EQ(outcome.state, State::pending) << status;
        EXPECT_EQ(outcome.http_status, status);
        EXPECT_TRUE(outcome.error.starts_with("HTTP " + std::to_string(status))) << outcome.error;
    }
}

TEST(InterpretSendgrid, reads_an_uncertain_status_as_in_doubt) {
    for (const int status :
         {100, 101, 201, 203, 204, 206, 299, 500, 502, 503, 504, 520, 599, 600, 999, 1, -1}) {
        const Outcome outcome = interpret(answer(status));
        EXPECT_EQ(outcome.state, State::in_doubt) << status;
        EXPECT_FALSE(outcome.error.empty());
    }
}

TEST(InterpretSendgrid, depends_on_the_upload_if_there_is_no_status) {
    Answer lost;
    lost.error = "could not connect\nto \xC3\xA9 host";
    EXPECT_EQ(interpret(lost).state, State::pending);
    EXPECT_EQ(interpret(lost).error, "could not connect to ? host");
    EXPECT_EQ(interpret(lost).http_status, 0);
    lost.handed_over = true;
    EXPECT_EQ(interpret(lost).state, State::in_doubt);
    for (const char *nothing : {"", " ", "\n", "\x1B", "\xE2\x80\x8B"}) {
        lost.error = nothing;
        EXPECT_EQ(interpret(lost).error, "no answer");
    }
}

TEST(InterpretSendgrid, reports_the_complaint_and_the_setting_to_check) {
    EXPECT_EQ(interpret(answer(401, R"({"errors":[{"message":"The provided authorization grant is )"
                                    R"(invalid, expired, or revoked","field":null}]})"))
                  .error,
              "HTTP 401: The provided authorization grant is invalid, expired, or revoked "
              "(check the API key and the account's credits)");
    EXPECT_TRUE(contains(interpret(answer(200)).error, "sandbox mode: check sendgrid_url"));
    EXPECT_TRUE(contains(interpret(answer(403)).error, "mail_from"));
    EXPECT_TRUE(contains(interpret(answer(404)).error, "sendgrid_url"));
    EXPECT_TRUE(contains(interpret(answer(405)).error, "sendgrid_url"));
    for (const int status : {406, 407, 410, 499})
        EXPECT_TRUE(contains(interpret(answer(status)).error, "sendgrid_url")) << status;
    EXPECT_EQ(interpret(answer(415)).error, "HTTP 415");
    EXPECT_TRUE(contains(interpret(answer(413)).error, "max_listed"));
    EXPECT_TRUE(contains(interpret(answer(302)).error, "sendgrid_url"));
    EXPECT_EQ(interpret(answer(500)).error, "HTTP 500");
    EXPECT_EQ(interpret(answer(400, R"({"errors":[{"message":"a\nb"},{"message":"c"}]})")).error,
              "HTTP 400: a b; c");
}

TEST(InterpretSendgrid, accepts_any_body) {
    for (const std::string &body :
         {std::string("{"), std::string("[]"), std::string("null"), std::string("\"errors\""),
          std::string(R"({"errors":7})"), std::string(R"({"errors":[]})"),
          std::string(R"({"errors":[7,null,{}]})"), std::string(R"({"errors":[{"message":7}]})"),
          std::string("<html>502</html>"), std::string(2000, '['), std::string("\x80\xFF\0", 3),
          std::string(R"({"errors":[{"message":"cut o)")})
        EXPECT_EQ(interpret(answer(500, body)).error, "HTTP 500") << body;
}

TEST(InterpretSendgrid, keeps_the_error_to_a_short_line_of_ascii) {
    const std::string message = repeated("\\u202e\xC3\xA9\xF0\x9F\x8E\xB5\\n", 300);
    const std::string error =
        interpret(answer(401, R"({"errors":[{"message":")" + message + "\"}]}")).error;
    EXPECT_LE(error.size(), 500U);
    EXPECT_TRUE(contains(error, "check the API key")) << error;
    for (const char c : error)
        EXPECT_TRUE(c >= ' ' && c <= '~');
}

TEST(InterpretSendgrid, waits_until_the_rate_limit_is_reset) {
    EXPECT_EQ(wait({{"x-ratelimit-reset", "1800000030"}}), 30);
    EXPECT_EQ(wait({{"x-ratelimit-reset", " 1800000030 "}, {"retry-after", "7"}}), 30);
    EXPECT_EQ(wait({{"x-ratelimit-reset", "1800009999"}}), 3600);
    EXPECT_EQ(wait({{"x-ratelimit-reset", "9223372036854775807"}}), 3600);
    EXPECT_EQ(wait({{"x-ratelimit-reset", "99999999999999999999999"}}), 3600);
}

TEST(InterpretSendgrid, ignores_a_reset_in_the_past) {
    EXPECT_EQ(wait({{"x-ratelimit-reset", "1800000000"}}), std::nullopt);
    EXPECT_EQ(wait({{"x-ratelimit-reset", "1799999999"}}), std::nullopt);
    EXPECT_EQ(wait({{"x-ratelimit-reset", "0"}}), std::nullopt);
    EXPECT_EQ(wait({{"x-ratelimit-reset", "30"}}), std::nullopt);
    EXPECT_EQ(wait({{"retry-after", "0"}}), std::nullopt);
    EXPECT_EQ(wait({{"retry-after", "Fri, 15 Jan 2027 08:00:00 GMT"}}), std::nullopt);
    EXPECT_EQ(wait({{"retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"}}), std::nullopt);
    EXPECT_EQ(wait({{"retry-after", "Mon, 01 Jan 0001 00:00:00 GMT"}}), std::nullopt);
}

TEST(InterpretSendgrid, uses_the_longer_of_two_waits) {
    EXPECT_EQ(wait({{"x-ratelimit-reset", "1800000030"}, {"retry-after", "120"}}), 120);
    EXPECT_EQ(wait({{"x-ratelimit-reset", "1799999999"}, {"retry-after", "120"}}), 120);
    EXPECT_EQ(wait({{"x-ratelimit-reset", "1800000030"}, {"retry-after", "0"}}), 30);
    EXPECT_EQ(wait({{"retry-after", "Fri, 15 Jan 2027 08:01:30 GMT"},
                    {"x-ratelimit-reset", "1800000030"}}),
              90);
    EXPECT_EQ(wait({{"retry-after", "-5"}, {"x-ratelimit-reset", "1800000030"}}), 30);
}

TEST(InterpretSendgrid, waits_as_long_as_retry_after_says) {
    EXPECT_EQ(wait({{"retry-after", "120"}}), 120);
    EXPECT_EQ(wait({{"retry-after", "86400"}}), 3600);
    EXPECT_EQ(wait({{"retry-after", "99999999999999999999999"}}), 3600);
    EXPECT_EQ(wait({{"x-ratelimit-reset", "soon"}, {"retry-after", "7"}}), 7);
}

TEST(InterpretSendgrid, reads_retry_after_as_a_date) {
    // now is Fri, 15 Jan 2027 08:00:00 GMT
    EXPECT_EQ(wait({{"retry-after", "Fri, 15 Jan 2027 08:01:30 GMT"}}), 90);
    EXPECT_EQ(wait({{"retry-after", " Fri, 15 Jan 2027 08:01:30 GMT\r"}}), 90);
    EXPECT_EQ(wait({{"retry-after", "Fri, 15 Jan 2027 08:00:60 GMT"}}), 60);
    EXPECT_EQ(wait({{"retry-after", "Mon, 29 Feb 2028 00:00:00 GMT"}}), 3600);
    EXPECT_EQ(wait({{"retry-after", "Fri, 31 Dec 9999 23:59:59 GMT"}}), 3600);
}

// Every month, in order.
TEST(InterpretSendgrid, knows_the_months) {
    const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                  "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    std::int64_t noon = 1798761600 + 12 * 3600; // of the first of January 2027
    for (std::size_t i = 0; i < std::size(months); noon += days[i++] * 86400) {
        const std::string date = std::string("Any, 01 ") + months[i] + " 2027 12:00:07 GMT";
        const auto limited = answer(429, "", {{"retry-after", date}});
        EXPECT_EQ(interpret_sendgrid(limited, noon).wait, 7) << date;
    }
}

TEST(InterpretSendgrid, ignores_an_invalid_date) {
    for (const char *const date :
         {"Fri, 15 Jan 2027 08:01:30", "Fri, 15 Jan 2027 08:01:30 UTC", "15 Jan 2027 08:01:30 GMT",
          "Fri, 15 Jan 2027 8:01:30 GMT", "Fri, 15 Jan 2027 24:00:00 GMT",
          "Fri, 15 Jan 2027 08:60:00 GMT", "Fri, 15 Jan 2027 08:00:61 GMT",
          "Fri, 31 Feb 2027 08:00:00 GMT", "Fri, 00 Jan 2027 08:00:00 GMT",
          "Fri, 15 anF 2027 08:01:30 GMT", "Fri, 15 Xxx 2027 08:01:30 GMT",
          "Fri, 15 Jan 20x7 08:01:30 GMT", "Fri, -5 Jan 2027 08:01:30 GMT",
          "Fri, 15 Jan 2027 08:01:30 GMT GMT", "Fri, 15-Jan-2027 08:01:30 GMT",
          "2027-01-15T08:01:30Z         ", "                             "})
        EXPECT_EQ(wait({{"retry-after", date}}), std::nullopt) << date;
}

TEST(InterpretSendgrid, ignores_any_other_wait) {
    EXPECT_EQ(wait({}), std::nullopt);
    EXPECT_EQ(wait({{"retry-after", ""}}), std::nullopt);
    EXPECT_EQ(wait({{"retry-after", "1.5"}}), std::nullopt);
    EXPECT_EQ(wait({{"retry-after", "-5"}}), std::nullopt);
    EXPECT_EQ(wait({{"retry-after", "-99999999999999999999999"}}), std::nullopt);
    EXPECT_EQ(wait({{"retry-after", "99999999999999999999999 s"}}), std::nullopt);
    EXPECT_EQ(wait({{"x-ratelimit-reset", "1e9"}}), std::nullopt);
    EXPECT_EQ(wait({{"retry-after", "120"}}, 503), std::nullopt);
    EXPECT_EQ(wait({{"x-ratelimit-reset", "1800000030"}}, 202), std::nullopt);
}

Outcome of_slack(const Answer &answer) {
    return interpret_slack(answer, now);
}

TEST(InterpretSlack, reads_200_ok_as_accepted) {
    const Outcome outcome = of_slack(answer(200, "ok"));
    EXPECT_EQ(outcome.state, State::accepted);
    EXPECT_EQ(outcome.http_status, 200);
    EXPECT_EQ(outcome.provider_id, "");
    EXPECT_EQ(outcome.error, "");
    Answer cut = answer(200, "ok");
    cut.error = "transfer closed";
    EXPECT_EQ(of_slack(cut).state, State::accepted);
}

TEST(InterpretSlack, reads_200_without_ok_as_in_doubt) {
    for (const char *body :
         {"", "o", "o\x01k", "ok?", "not ok", "OK", "{\"ok\":true}", "<html>login</html>"})
        EXPECT_EQ(of_slack(answer(200, body)).state, State::in_doubt) << body;
    EXPECT_TRUE(contains(of_slack(answer(200, "<html>")).error, "slack_webhook_url_file"));
}

TEST(InterpretSlack, reads_a_refusal_as_pending) {
    for (const int status :
         {300, 301, 302, 307, 308, 399, 400, 401, 403, 404, 405, 410, 413, 415, 429, 451, 499}) {
        const Outcome outcome = of_slack(answer(status, "ok"));
        EXPECT_EQ(outcome.state, State::pending) << status;
        EXPECT_EQ(outcome.http_status, status);
        EXPECT_EQ(outcome.content_refused, status == 400 || status == 413) << status;
    }
}

TEST(InterpretSlack, reads_an_uncertain_status_as_in_doubt) {
    for (const int status : {100, 201, 202, 204, 299, 500, 502, 503, 504, 599, 600, -1}) {
        const Outcome outcome = of_slack(answer(status, "ok"));
        EXPECT_EQ(outcome.state, State::in_doubt) << status;
        EXPECT_FALSE(outcome.error.empty());
        EXPECT_FALSE(outcome.content_refused);
    }
}

TEST(InterpretSlack, depends_on_the_upload_if_there_is_no_status) {
    Answer lost;
    EXPECT_EQ(of_slack(lost).state, State::pending);
    lost.handed_over = true;
    EXPECT_EQ(of_slack(lost).state, State::in_doubt);
}

TEST(InterpretSlack, reports_the_complaint_and_the_setting_to_check) {
    EXPECT_EQ(of_slack(answer(400, "invalid_blocks\n")).error, "HTTP 400: invalid_blocks");
    EXPECT_EQ(of_slack(answer(404, "no_service")).error,
              "HTTP 404: no_service (the webhook or its Slack channel no longer exists: "
              "check slack_webhook_url_file)");
    for (const int status : {302, 401, 403, 404, 405, 410})
        EXPECT_TRUE(contains(of_slack(answer(status)).error, "slack_webhook_url_file")) << status;
    EXPECT_TRUE(contains(of_slack(answer(413)).error, "max_listed"));
    EXPECT_EQ(of_slack(answer(500, "rollup_error")).error, "HTTP 500: rollup_error");
    EXPECT_EQ(of_slack(answer(502, "<html>Bad Gateway</html>")).error, "HTTP 502");
    const std::string error = of_slack(answer(403, repeated("x\xC3\xA9\n\x1B", 900))).error;
    EXPECT_LE(error.size(), 500U);
    EXPECT_TRUE(contains(error, "slack_webhook_url_file")) << error;
    for (const char c : error)
        EXPECT_TRUE(c >= ' ' && c <= '~');
}

TEST(InterpretSlack, waits_as_long_as_retry_after_says) {
    const auto wait = [](const char *seconds, int status = 429) {
        return of_slack(answer(status, "rate_limited", {{"retry-after", seconds}})).wait;
    };
    EXPECT_EQ(wait("30"), 30);
    EXPECT_EQ(wait("0"), std::nullopt);
    EXPECT_EQ(wait("86400"), 3600);
    EXPECT_EQ(wait("soon"), std::nullopt);
    EXPECT_EQ(wait("30", 503), std::nullopt);
}

Outcome of_webhook(const Answer &answer) {
    return interpret_webhook(answer, now);
}

TEST(InterpretWebhook, takes_any_2xx_for_accepted) {
    for (const int status : {200, 201, 202, 204, 299}) {
        Answer cut = answer(status, "thanks");
        cut.error = "transfer closed";
        const Outcome outcome = of_webhook(cut);
        EXPECT_EQ(outcome.state, State::accepted) << status;
        EXPECT_EQ(outcome.http_status, status);
        EXPECT_EQ(outcome.error, "");
    }
}

TEST(InterpretWebhook, takes_what_was_refused_for_pending) {
    for (const int status :
         {300, 301, 307, 399, 400, 401, 404, 409, 410, 413, 415, 422, 429, 499}) {
        const Outcome outcome = of_webhook(answer(status));
        EXPECT_EQ(outcome.state, State::pending) << status;
        EXPECT_EQ(outcome.content_refused, status == 400 || status == 413) << status;
    }
}

TEST(InterpretWebhook, takes_what_says_nothing_sure_for_in_doubt) {
    for (const int status : {100, 199, 500, 502, 503, 504, 599, 600, -1})
        EXPECT_EQ(of_webhook(answer(status)).state, State::in_doubt) << status;
    Answer lost;
    EXPECT_EQ(of_webhook(lost).state, State::pending);
    lost.handed_over = true;
    EXPECT_EQ(of_webhook(lost).state, State::in_doubt);
}

TEST(InterpretWebhook, says_what_the_receiver_says_and_which_setting_is_wrong) {
    EXPECT_EQ(of_webhook(answer(410)).error,
              "HTTP 410: the receiver has gone: check webhook_url_file");
    EXPECT_EQ(of_webhook(answer(410, "unsubscribed\n")).error,
              "HTTP 410: unsubscribed (the receiver has gone: check webhook_url_file)");
    EXPECT_EQ(of_webhook(answer(401)).error,
              "HTTP 401: check webhook_url_file and webhook_secret_file");
    EXPECT_EQ(of_webhook(answer(404)).error, "HTTP 404: check webhook_url_file and proxy");
    EXPECT_EQ(of_webhook(answer(400, "{\"error\":\"no\"}")).error, "HTTP 400: {\"error\":\"no\"}");
    EXPECT_EQ(of_webhook(answer(502, "<html>Bad Gateway</html>")).error, "HTTP 502");
}

TEST(InterpretWebhook, waits_as_long_as_retry_after_says) {
    EXPECT_EQ(of_webhook(answer(429, "", {{"retry-after", "30"}})).wait, 30);
    EXPECT_EQ(of_webhook(answer(503, "", {{"retry-after", "30"}})).wait, std::nullopt);
}

TEST(NotSent, is_pending_with_a_reason) {
    const Outcome outcome = not_sent("the key file\nis missing");
    EXPECT_EQ(outcome.state, State::pending);
    EXPECT_EQ(outcome.http_status, 0);
    EXPECT_EQ(outcome.error, "the key file is missing");
}

TEST(ToString, returns_the_states_of_the_digest_table) {
    EXPECT_STREQ(to_string(State::pending), "pending");
    EXPECT_STREQ(to_string(State::sending), "sending");
    EXPECT_STREQ(to_string(State::in_doubt), "in_doubt");
    EXPECT_STREQ(to_string(State::accepted), "accepted");
}

} // namespace

} // namespace job_alerting::core
