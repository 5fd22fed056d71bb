#include "core/notes.hpp"

#include <gtest/gtest.h>

namespace job_alerting::core {

namespace {

TEST(Notes, a_late_digest_says_how_often_and_why) {
    EXPECT_EQ(late_note(1, "HTTP 401: no"),
              "This digest is late: 1 earlier attempt failed. The last error was: HTTP 401: no");
    EXPECT_EQ(late_note(3, "HTTP 401: no"),
              "This digest is late: 3 earlier attempts failed. The last error was: HTTP 401: no");
}

TEST(Notes, a_digest_that_waited_for_another_says_for_which_and_since_when) {
    EXPECT_EQ(
        waited_note(17, "2026-07-14T03:00:00+02:00"),
        "This digest is late: it waited for digest #17, whose delivery was in doubt. The first "
        "failure in this digest was recorded at 2026-07-14T03:00:00+02:00.");
}

TEST(Notes, a_minimal_digest_says_why_it_is_one) {
    EXPECT_NE(minimal_note("HTTP 413").find("The full digest was refused (HTTP 413)"),
              std::string::npos);
}

TEST(Notes, a_digest_in_doubt_is_named_with_both_verdicts) {
    const std::string note = doubt_note(17, 4, "HTTP 503");
    EXPECT_NE(note.find("Digest #17 (4 failures) may not have reached you: HTTP 503."), note.npos);
    EXPECT_NE(note.find("job_alerting.settle(17, true)"), note.npos);
    EXPECT_NE(note.find("job_alerting.settle(17, false)"), note.npos);
}

TEST(Notes, a_digest_whose_history_is_unfinished_says_what_that_means) {
    EXPECT_NE(unfinished_note().find("neither NEW nor AGAIN may be either"), std::string::npos);
    EXPECT_NE(unmarked_note().find("neither NEW nor AGAIN may be either"), std::string::npos);
}

TEST(Notes, a_copy_and_a_promoted_server_say_since_when) {
    EXPECT_NE(copy_note("2026-07-14T03:00:00+02:00").find("2026-07-14T03:00:00+02:00"),
              std::string::npos);
    EXPECT_NE(promotion_note("2026-07-14T03:00:00+02:00").find("promoted"), std::string::npos);
}

TEST(Notes, calls_a_mended_queue_by_its_name) {
    EXPECT_EQ(mended_note("mail\njobs", "2026-11-24T03:00:00+01:00"),
              "Queue mail jobs has been readable again since 2026-11-24T03:00:00+01:00.");
}

} // namespace

} // namespace job_alerting::core
