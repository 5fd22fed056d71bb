#include "core/render.hpp"

#include "mails.hpp"

#include <gtest/gtest.h>

namespace job_alerting::core {

namespace {

TEST(Subject, contains_count_database_kinds_and_number) {
    std::vector<Failure> failures(4, sample_failure());
    for (std::size_t i = 1; i < 4; ++i) {
        failures[i].source = "youtube";
        failures[i].job_type = "search_song";
    }
    failures[3].error = "another";
    EXPECT_EQ(mail_of(failures).subject, "4 jobs failed in approachnote: apple/refresh_catalog, "
                                         "youtube/search_song (3) [#17]");
    EXPECT_EQ(mail_of({sample_failure()}).subject,
              "1 job failed in approachnote: apple/refresh_catalog [#17]");
}

TEST(Subject, contains_the_cluster) {
    DigestBuilder builder(50);
    builder.add(sample_failure());
    Digest digest = named(builder.finish());
    digest.cluster = "prod";
    const Mail mail = render(digest, 50, job_url);
    EXPECT_EQ(mail.subject, "1 job failed in prod/approachnote: apple/refresh_catalog [#17]");
    EXPECT_TRUE(contains(mail.text, "database approachnote in cluster prod"));
}

TEST(Subject, lists_the_kinds_that_fit_and_counts_the_rest) {
    std::vector<Failure> failures;
    for (int i = 0; i < 100; ++i)
        failures.push_back(of_kind(i));
    const std::string subject = mail_of(failures).subject;
    EXPECT_LE(subject.size(), 200U);
    const auto named_kinds = occurrences(subject, "kind_");
    EXPECT_GT(named_kinds, 5U);
    EXPECT_TRUE(
        contains(subject, " and " + std::to_string(100 - named_kinds) + " more kinds [#17]"))
        << subject;
}

TEST(Subject, counts_kinds_as_a_minimum_with_unnamed_failures) {
    DigestBuilder builder(50);
    for (int i = 0; i < 10001; ++i)
        builder.add(of_kind(i));
    EXPECT_TRUE(contains(render(named(builder.finish()), 50, "").subject, "and at least "));
}

TEST(Subject, reports_an_unreadable_queue) {
    const Failure one = unreadable_queue("research_jobs");
    const Failure other = unreadable_queue("mail_jobs");
    EXPECT_EQ(mail_of({one}).subject,
              "queue research_jobs could not be read in approachnote [#17]");
    EXPECT_EQ(mail_of({one, one}).subject,
              "queue research_jobs could not be read in approachnote [#17]");
    EXPECT_EQ(mail_of({one, other}).subject,
              "2 queues could not be read in approachnote: research_jobs, mail_jobs [#17]");
    EXPECT_EQ(mail_of({one, sample_failure(), sample_failure()}).subject,
              "2 jobs failed and queue research_jobs could not be read in approachnote: "
              "apple/refresh_catalog (2) [#17]");
}

TEST(Subject, is_always_clipped_to_one_line) {
    Failure failure = sample_failure();
    failure.source = repeated("s\n\r\xE2\x80\xAE{{headline}}", 5000);
    failure.job_type = repeated("t<b>", 5000);
    const Mail mail = mail_of({failure, unreadable_queue(repeated("q\n", 5000))});
    EXPECT_LE(mail.subject.size(), 300U);
    expect_well_made(mail);
}

} // namespace

} // namespace job_alerting::core
