#include "core/notes.hpp"

#include <gtest/gtest.h>

namespace job_alerting::core {

namespace {

TEST(Notes, state_the_attempts_and_the_last_error_of_a_late_digest) {
    EXPECT_EQ(late_note(1, "HTTP 401: no"),
              "This digest is late: 1 earlier attempt failed. The last error was: HTTP 401: no");
    EXPECT_EQ(late_note(3, "HTTP 401: no"),
              "This digest is late: 3 earlier attempts failed. The last error was: HTTP 401: no");
}

TEST(Notes, name_the_digest_that_a_late_one_waited_for) {
    EXPECT_EQ(
        waited_note(17, "2026-07-14T03:00:00+02:00"),
        "This digest is late: it waited for digest #17, whose delivery was in doubt. The first "
        "failure in this digest was recorded at 2026-07-14T03:00:00+02:00.");
}

TEST(Notes, state_why_a_digest_is_minimal) {
    EXPECT_NE(minimal_note("HTTP 413").find("The full digest was refused (HTTP 413)"),
              std::string::npos);
}

TEST(Notes, name_a_digest_in_doubt_with_both_verdicts) {
    const std::string note = doubt_note(17, 4, "HTTP 503");
    EXPECT_NE(note.find("Digest #17 (4 failures) may not have reached you: HTTP 503."), note.npos);
    EXPECT_NE(note.find("job_alerting.settle(17, true)"), note.npos);
    EXPECT_NE(note.find("job_alerting.settle(17, false)"), note.npos);
}

TEST(Notes, explain_causes_without_a_mark) {
    EXPECT_NE(unfinished_note().find("neither NEW nor AGAIN may be either"), std::string::npos);
    EXPECT_NE(unmarked_note().find("neither NEW nor AGAIN may be either"), std::string::npos);
}

TEST(Notes, date_a_copy_and_a_promotion) {
    EXPECT_NE(copy_note("2026-07-14T03:00:00+02:00").find("2026-07-14T03:00:00+02:00"),
              std::string::npos);
    EXPECT_NE(promotion_note("2026-07-14T03:00:00+02:00").find("promoted"), std::string::npos);
}

TEST(Notes, name_a_queue_that_recovered) {
    EXPECT_EQ(recovered_note("mail\njobs", "2026-11-24T03:00:00+01:00"),
              "Queue mail jobs has been readable again since 2026-11-24T03:00:00+01:00.");
}

} // namespace

} // namespace job_alerting::core
