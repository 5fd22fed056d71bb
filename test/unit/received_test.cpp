#include "http/received.hpp"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace job_alerting::http {

namespace {

bool add_headers(Received &received, std::string_view piece) {
    return received.add_headers(piece.data(), piece.size());
}

bool add_body(Received &received, std::string_view piece) {
    return received.add_body(piece.data(), piece.size());
}

TEST(Received, has_header_names_in_lower_case) {
    Received received;
    for (const char *piece : {"HTTP/1.1 202 Accepted\r\n", "X-Message-Id:\t abc \r\n", "Ret",
                              "ry-After : 7\r\nempty:\r\n", "no colon\r\n", "a: b: c\n", "\r\n"})
        EXPECT_TRUE(add_headers(received, piece));
    const std::map<std::string, std::string> expected = {
        {"x-message-id", "abc"}, {"retry-after", "7"}, {"empty", ""}, {"a", "b: c"}};
    EXPECT_EQ(received.headers(), expected);
}

TEST(Received, uses_the_last_of_several_headers_with_one_name) {
    Received received;
    EXPECT_TRUE(add_headers(received, "Retry-After: 7\r\nretry-after: 8\r\n"));
    EXPECT_EQ(received.headers()["retry-after"], "8");
}

TEST(Received, keeps_only_the_beginning) {
    Received received;
    const std::string piece(999, 'x');
    for (int i = 0; i < 50; ++i) {
        EXPECT_TRUE(add_headers(received, piece + "\n"));
        EXPECT_TRUE(add_body(received, piece));
    }
    EXPECT_EQ(received.body(), std::string(Received::max_body, 'x'));
    EXPECT_TRUE(add_headers(received, "late: 1\n"));
    EXPECT_EQ(received.headers().count("late"), 0U);
}

TEST(Received, stops_after_too_many_bytes) {
    Received received;
    const std::string half(Received::max_read / 2, 'x');
    EXPECT_TRUE(add_headers(received, half));
    EXPECT_TRUE(add_body(received, half));
    EXPECT_FALSE(add_body(received, "x"));
    EXPECT_FALSE(add_headers(received, "x"));
}

} // namespace

} // namespace job_alerting::http
