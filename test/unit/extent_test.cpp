// A mail shows part of a large digest, and counts the rest.

#include "core/render.hpp"

#include "mails.hpp"
#include "sample_digests.hpp"

#include <gtest/gtest.h>

#include <cctype>

namespace job_alerting::core {

namespace {

// The number before `word` in `line`.
std::int64_t number_before(std::string_view line, std::string_view word) {
    std::size_t end = line.find(word);
    std::size_t begin = end;
    while (begin > 0 && std::isdigit(static_cast<unsigned char>(line[begin - 1])))
        --begin;
    return begin == end ? 0 : std::stoll(std::string(line.substr(begin, end - begin)));
}

// The failures that the blocks and rests of a text account for.
std::int64_t accounted(const std::string &text) {
    std::int64_t all = 0;
    for (const std::string_view line : lines_of(text)) {
        if (line.starts_with("* ") && contains(line, "could not be read")) {
            all += contains(line, " times") ? number_before(line, " times") : 1;
        } else if (line.starts_with("* ")) {
            all += number_before(line,
                                 contains(line, " jobs failed") ? " jobs failed" : " job failed");
        } else if (line.starts_with("And ") && contains(line, " cause")) {
            all += number_before(line, " failure");
        } else if (contains(line, " only counted here")) {
            all += number_before(line,
                                 contains(line, " failures are") ? " failures are" : " failure is");
        }
    }
    return all;
}

TEST(Mail, counts_jobs_that_it_does_not_list) {
    const Mail mail = mail_of(std::vector<Failure>(88, sample_failure()));
    EXPECT_EQ(occurrences(mail.text, "    job 4711 in research_jobs"), 50U);
    for (const std::string &body : {mail.text, mail.html}) {
        EXPECT_TRUE(contains(body, "and 38 more like this"));
        EXPECT_TRUE(contains(body, "88 jobs failed"));
    }
    EXPECT_FALSE(contains(mail_of({sample_failure()}).text, "more like this"));
}

TEST(Mail, lists_a_job_of_each_cause_before_a_second_of_any) {
    std::vector<Failure> failures(100, of_kind(0));
    for (int i = 1; i < 10; ++i)
        failures.push_back(of_kind(i));
    const Mail mail = mail_of(failures, 10);
    EXPECT_EQ(occurrences(mail.text, "    job "), 10U);
    EXPECT_TRUE(contains(mail.text, "and 99 more like this"));
    EXPECT_EQ(occurrences(mail.text, "more like this"), 1U);
}

TEST(Mail, drops_jobs_before_causes) {
    std::vector<Failure> failures = failures_of_kinds(1000, 77);
    for (Failure &failure : failures)
        failure.error = repeated("a rather long line of an error ", 20);
    const Mail mail = mail_of(failures);
    EXPECT_EQ(occurrences(mail.text, "\n* "), 77U);
    EXPECT_LT(occurrences(mail.text, "    job "), 50U);
    EXPECT_GE(occurrences(mail.text, "    job "), 5U);
    EXPECT_FALSE(contains(mail.text, "more cause"));
    EXPECT_GT(mail.html.size(), max_html_bytes / 2);
}

TEST(Mail, shows_only_counts_if_max_listed_is_0) {
    const Mail mail = mail_of({sample_failure(), unreadable_queue("mail_jobs")}, 0);
    EXPECT_EQ(occurrences(mail.text, "    job "), 0U);
    EXPECT_TRUE(contains(mail.text, "* apple/refresh_catalog: 1 job failed"));
    EXPECT_TRUE(contains(mail.text, "permission denied for table mail_jobs"));
}

TEST(Mail, adds_up_to_the_count_of_the_digest) {
    for (const int failures : {1, 2, 60, 1000, 100000}) {
        for (const int kinds : {1, 7, 150, 20000}) {
            for (const int chains : {1, 5, 300}) {
                DigestBuilder builder(50);
                for (int i = 0; i < failures; ++i) {
                    Failure failure = of_kind(i % kinds, i);
                    failure.chain = i % chains == 0 ? "" : kind(i % chains);
                    builder.add(failure);
                }
                builder.add(unreadable_queue("mail_jobs"));
                builder.add(unreadable_queue("mail_jobs"));
                const Digest digest = named(builder.finish());
                const Mail mail = render(digest, 50, job_url);
                EXPECT_EQ(accounted(mail.text), failures + 2) << mail.text.substr(0, 500);
                EXPECT_LE(mail.html.size(), max_html_bytes);
                EXPECT_TRUE(mail.subject.starts_with(std::to_string(failures) + " job"));
            }
        }
    }
}

TEST(Mail, fits_its_limit_with_the_largest_fields) {
    for (const char *piece : {"'", "\xF0\x9F\x8E\xB5", "a ", "\"&"}) {
        for (const int kinds : {1, 400, 11000}) {
            DigestBuilder builder(1000);
            for (int i = 0; i < kinds + 1000; ++i) {
                Failure failure = sample_failure(i);
                const std::string large = kind(i % kinds) + repeated(piece, 100);
                failure.queue = failure.job_id = large;
                failure.source = failure.job_type = large;
                failure.target_type = failure.target_id = failure.status = large;
                failure.chain = i % 3 == 0 ? large : "";
                failure.error = repeated(repeated(piece, 90) + "\n", 8);
                builder.add(failure);
            }
            builder.add(unreadable_queue("mail_jobs"));
            Digest digest = named(builder.finish());
            digest.database = digest.cluster = repeated(piece, 100);
            digest.notes.assign(40, repeated(piece, 1000));
            const Mail mail = render(digest, 1000, "https://admin.example.com/{queue}/{job_id}");
            EXPECT_LE(mail.html.size(), max_html_bytes);
            EXPECT_GT(mail.html.size(), max_html_bytes / 3) << "and uses the room";
            EXPECT_TRUE(contains(mail.text, "And 30 more notes."));
        }
    }
}

TEST(Mail, never_lists_more_jobs_than_the_builder_keeps) {
    Failure small;
    small.job_id = "1";
    const Mail mail = mail_of(std::vector<Failure>(2000, small), 1000, "");
    const auto listed = occurrences(mail.text, "    job 1 in");
    EXPECT_GT(listed, 100U);
    EXPECT_LT(listed, listed_limit);
    EXPECT_TRUE(contains(mail.text, "and " + std::to_string(2000 - listed) + " more like this"));
}

TEST(Mail, says_that_it_only_counts) {
    Digest digest = named({});
    digest.count = digest.unnamed = 4;
    const Mail mail = render(digest, 50, job_url);
    EXPECT_EQ(mail.subject, "4 jobs failed in approachnote [#17]");
    EXPECT_TRUE(
        contains(mail.text, "4 failures are only counted here. The query below lists all."));
    EXPECT_EQ(accounted(mail.text), 4);
    expect_well_made(mail);
}

} // namespace

} // namespace job_alerting::core
