#include "core/retry.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace job_alerting::core {

namespace {

TEST(Backoff, doubles_from_a_minute_to_an_hour) {
    for (const double interval : {3600.0, 7 * 86400.0}) {
        EXPECT_EQ(backoff(1, interval, 0), 60);
        EXPECT_EQ(backoff(2, interval, 0), 120);
        EXPECT_EQ(backoff(6, interval, 0), 1920);
        EXPECT_EQ(backoff(7, interval, 0), 3600);
        EXPECT_EQ(backoff(100, interval, 0), 3600);
    }
}

TEST(Backoff, never_waits_longer_than_the_interval) {
    EXPECT_EQ(backoff(1, 1, 0), 1);
    EXPECT_EQ(backoff(9, 1, 0.99), 1);
    EXPECT_EQ(backoff(1, 90, 0), 60);
    EXPECT_EQ(backoff(2, 90, 0), 90);
}

TEST(Backoff, has_jitter_of_up_to_a_tenth_upwards) {
    EXPECT_DOUBLE_EQ(backoff(1, 3600, 0.5), 63);
    EXPECT_LT(backoff(1, 3600, 0.999), 66);
    EXPECT_EQ(backoff(7, 3600, 0.999), 3600);
}

TEST(Backoff, accepts_any_number_of_attempts) {
    EXPECT_EQ(backoff(std::numeric_limits<std::int64_t>::max(), 3600, 0), 3600);
    EXPECT_EQ(backoff(0, 3600, 0), 60);
    EXPECT_EQ(backoff(std::numeric_limits<std::int64_t>::min() + 1, 3600, 0), 60);
}

TEST(Backoff, is_never_shorter_than_the_requested_wait) {
    EXPECT_EQ(backoff(1, 3600, 0, std::nullopt), 60);
    for (const std::int64_t asked : {0, 1, 59, 60})
        EXPECT_EQ(backoff(1, 3600, 0, asked), 60);
    EXPECT_EQ(backoff(1, 3600, 0, 61), 61);
    EXPECT_EQ(backoff(1, 1, 0, 3600), 3600);
    EXPECT_EQ(backoff(7, 3600, 0, 600), 3600);
    EXPECT_DOUBLE_EQ(backoff(1, 3600, 0.5, 1), 63);
}

TEST(LongestBackoff, is_the_lesser_of_an_hour_and_the_interval) {
    EXPECT_EQ(max_backoff(1), 1);
    EXPECT_EQ(max_backoff(3600), 3600);
    EXPECT_EQ(max_backoff(7 * 86400), 3600);
}

} // namespace

} // namespace job_alerting::core
