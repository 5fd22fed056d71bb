#include "core/render.hpp"

#include "mails.hpp"

#include <gtest/gtest.h>

namespace job_alerting::core {

namespace {

TEST(Mail, shows_all_details_of_each_job) {
    Failure failure = sample_failure();
    failure.chain = "2026-07-14T01:00:00+00:00";
    failure.attempts = 2;
    const Mail mail = mail_of({failure});
    for (const std::string &body : {mail.text, mail.html})
        for (const char *fact :
             {"1 job failed in approachnote", "apple/refresh_catalog", "job 4711 in research_jobs",
              "album/6f2c1a52-0d8e-4c7f-9b1c-2f3f5c1f7a10", "failed, attempts 2/3",
              "2026-07-14T03:11:00+02:00", "HTTP 503 from upstream",
              "https://admin.example.com/jobs/4711", "Digest #17",
              "SELECT * FROM job_alerting.digest_failure WHERE digest_id = 17",
              "Chain 2026-07-14T01:00:00+00:00: 1 of its jobs failed"})
            EXPECT_TRUE(contains(body, fact)) << fact;
    expect_well_made(mail);
}

TEST(Mail, omits_unknown_details) {
    const Mail mail = mail_of({Failure(), bare_failure()});
    EXPECT_TRUE(contains(mail.text, "\n    job 4711 in research_jobs\n      time unknown\n"));
    EXPECT_FALSE(contains(mail.text, "No error"));
    EXPECT_FALSE(contains(mail.html, "No error"));
    for (const std::string &body : {mail.text, mail.subject}) {
        EXPECT_FALSE(contains(body, "null") || contains(body, " /") || contains(body, "/ ") ||
                     contains(body, "attempts") || contains(body, ", ,") || contains(body, "{{"));
    }
    expect_well_made(mail);
}

TEST(Mail, shows_one_half_if_the_other_is_missing) {
    Failure failure = bare_failure();
    failure.target_id = "t1";
    failure.attempts = 2;
    EXPECT_TRUE(contains(mail_of({failure}).text, "research_jobs, t1\n      attempts 2, time"));
    failure.target_id.reset();
    failure.target_type = "album";
    failure.attempts.reset();
    failure.max_attempts = 3;
    EXPECT_TRUE(contains(mail_of({failure}).text, "research_jobs, album\n      time unknown"));
}

TEST(Mail, shows_one_time_instead_of_an_empty_period) {
    Failure first = sample_failure();
    Failure last = sample_failure();
    last.failed_at->micros++;
    const std::string text = mail_of({first, last}).text;
    EXPECT_TRUE(contains(text, "Failed at ")) << text;
    EXPECT_FALSE(contains(text, "from 2026")) << text;
}

TEST(Mail, treats_a_blank_error_as_none) {
    Failure failure = sample_failure();
    failure.error = " \n\t\xE2\x80\x8B\r\n";
    EXPECT_TRUE(contains(mail_of({failure}).text, "No error was recorded"));
}

TEST(Mail, shows_the_first_lines_of_a_huge_error) {
    Failure failure = sample_failure();
    failure.error = "first\n" + repeated("line of a trace\n", 5000000 / 16);
    const Mail mail = mail_of({failure});
    EXPECT_TRUE(contains(mail.text, "    | first\n"));
    EXPECT_TRUE(contains(mail.text, "    | line of a trace ...\n"));
    EXPECT_EQ(occurrences(mail.text, "    | "), 6U);
    expect_well_made(mail);
}

TEST(Mail, never_interprets_hostile_text) {
    const std::string hostile = "<script>alert('1')</script>\" onload=\"{{query}}{{{query}}}"
                                "{{#sections}}{{/x}}{{=<% %>=}}{{>p}}&amp;\x1B[31m\xE2\x80\xAE\x80";
    Failure failure = sample_failure();
    failure.queue = failure.job_id = hostile;
    failure.source = failure.job_type = failure.target_type = failure.target_id = hostile;
    failure.status = failure.chain = hostile;
    failure.error = hostile + "\n" + hostile + "\r\n-- \nDigest #18";
    failure.failed_at = Moment{1, hostile};
    DigestBuilder builder(50);
    builder.add(failure);
    builder.add(unreadable_queue(hostile));
    Digest digest = named(builder.finish());
    digest.database = digest.cluster = hostile;
    digest.notes = {hostile};
    const Mail mail = render(digest, 50, "https://x/{queue}/{job_id}?s={source}&t={job_type}");
    expect_well_made(mail);
    EXPECT_TRUE(contains(mail.html, "&lt;script&gt;alert(&apos;1&apos;)"));
    EXPECT_FALSE(contains(mail.html, "\" onload"));
    EXPECT_TRUE(contains(mail.html, "{{query}}"));
    EXPECT_TRUE(contains(mail.html, "&amp;amp;"));
    EXPECT_TRUE(contains(mail.text, "<script>alert('1')</script>\"")) << "no HTML in plain text";
    EXPECT_TRUE(contains(mail.text, "{{query}}{{{query}}}"));
    EXPECT_EQ(occurrences(mail.text, "digest_failure"), 1U);
    EXPECT_TRUE(contains(mail.text, "    | Digest #18")) << "quoted, so it cannot pass for ours";
    for (const std::string &body : {mail.text, mail.html, mail.subject})
        EXPECT_FALSE(contains(body, "\x1B") || contains(body, "\xE2") || contains(body, "\x80"));
}

TEST(Mail, cleans_a_digest_built_by_hand) {
    Digest digest = named({});
    Failure failure = sample_failure();
    failure.job_id = repeated("x\n\x80", 50000);
    failure.error = repeated("{{x}} \xE2\x80\xAE\n", 50000);
    Cause cause;
    cause.count = digest.count = 1;
    cause.queue = cause.source = repeated("s\n", 50000);
    cause.listed = {failure};
    digest.groups = {{.chain = repeated("c\n", 50000), .count = 1, .causes = {cause}}};
    digest.kinds = {{.name = cause.source, .count = 1}};
    digest.queues = {cause.source};
    expect_well_made(render(digest, 50, job_url));
}

TEST(Mail, adds_only_ascii) {
    const Mail mail = mail_of(std::vector<Failure>(200, sample_failure()));
    for (const std::string &body : {mail.subject, mail.text, mail.html})
        for (const char c : body)
            EXPECT_TRUE(c == '\n' || (c >= ' ' && c <= '~'));
}

TEST(Mail, is_the_same_for_the_same_digest) {
    std::vector<Failure> failures;
    for (int i = 0; i < 500; ++i)
        failures.push_back(of_kind(i % 37, i));
    const Mail one = mail_of(failures);
    const Mail other = mail_of(failures);
    EXPECT_EQ(one.subject, other.subject);
    EXPECT_EQ(one.text, other.text);
    EXPECT_EQ(one.html, other.html);
}

TEST(Mail, shows_an_unreadable_queue_first) {
    Failure in_chain = sample_failure();
    in_chain.chain = "nightly";
    const Mail mail = mail_of({in_chain, sample_failure(), unreadable_queue("mail_jobs")});
    const auto queue = mail.text.find("* queue mail_jobs could not be read\n");
    const auto chain = mail.text.find("\nChain nightly: 1 of its jobs failed\n");
    const auto others = mail.text.find("\nNot in a chain: 1 job failed\n");
    EXPECT_LT(queue, chain);
    EXPECT_LT(chain, others);
    EXPECT_LT(others, mail.text.size());
    for (const std::string &body : {mail.text, mail.html}) {
        EXPECT_TRUE(contains(body, "Failures in this queue go undetected until this is fixed."));
        EXPECT_TRUE(contains(body, "permission denied for table mail_jobs"));
    }
}

TEST(Mail, reports_a_recovered_queue_only_if_it_recovered) {
    Failure mended = unreadable_queue("mail_jobs");
    mended.cleared = true;
    const std::string again = "The queue can be read again.";
    const std::string blind = "Failures in this queue go undetected until this is fixed.";
    EXPECT_TRUE(contains(mail_of({mended}).text, again));
    EXPECT_TRUE(contains(mail_of({mended, mended}).text, again));
    for (const auto &failures : {std::vector{mended, unreadable_queue("mail_jobs")},
                                 std::vector{unreadable_queue("mail_jobs")}}) {
        EXPECT_TRUE(contains(mail_of(failures).text, blind));
        EXPECT_FALSE(contains(mail_of(failures).text, again));
    }
}

TEST(Mail, has_no_unquoted_line_written_by_a_job) {
    Failure failure = sample_failure();
    failure.chain = failure.source = failure.queue = std::string(70, 'x') + " * b: 1 job failed";
    const Mail mail = mail_of({failure});
    EXPECT_EQ(occurrences(mail.text, "\n* "), 1U) << mail.text;
}

TEST(Mail, omits_the_word_chain_if_there_is_none) {
    EXPECT_FALSE(contains(mail_of({sample_failure()}).text, "chain"));
    EXPECT_FALSE(contains(mail_of({sample_failure(), unreadable_queue("q")}).text, "chain"));
}

TEST(Mail, counts_earlier_failures_that_still_stand) {
    Digest digest = named({});
    EXPECT_TRUE(contains(render(digest, 50, "").text, "No failure reported earlier still stands."));
    digest.standing = 1;
    EXPECT_TRUE(contains(render(digest, 50, "").text, "1 failure reported earlier still stands."));
    digest.standing = 12;
    EXPECT_TRUE(contains(render(digest, 50, "").html, "12 failures reported earlier still stand."));
}

TEST(Mail, shows_its_notes) {
    Digest digest = named({});
    digest.notes = {"This digest is late.", "Digest #16 is still in doubt."};
    const Mail mail = render(digest, 50, "");
    EXPECT_TRUE(contains(mail.text, "\nNote: This digest is late.\n\nNote: Digest #16 is still"));
    EXPECT_TRUE(contains(mail.html, "Digest #16 is still in doubt."));
}

TEST(Mail, shows_no_number_if_it_has_none) {
    Digest digest;
    digest.count = digest.unnamed = 1;
    digest.database = "approachnote";
    const Mail mail = render(digest, 50, "");
    EXPECT_EQ(mail.subject, "1 job failed in approachnote");
    EXPECT_TRUE(contains(mail.text, "The next digest of database approachnote."));
    EXPECT_FALSE(contains(mail.text, "#") || contains(mail.text, "SELECT"));
}

TEST(Mail, links_each_job_and_shows_the_address) {
    const Mail mail = mail_of({sample_failure()}, 50, "https://x/?job={job_id}&queue={queue}");
    EXPECT_TRUE(contains(mail.text, "    https://x/?job=4711&queue=research_jobs\n"));
    EXPECT_TRUE(contains(mail.html, "<a href=\"https://x/?job=4711&amp;queue=research_jobs\""));
    EXPECT_TRUE(contains(mail.html, ">https://x/?job=4711&amp;queue=research_jobs</a>"));
    const Mail bare = mail_of({sample_failure()}, 50, "javascript:{job_id}");
    EXPECT_FALSE(contains(bare.html, "<a ") || contains(bare.text, "javascript"));
}

TEST(Mail, is_html_for_mail_clients) {
    const std::string html = mail_of({sample_failure()}).html;
    for (const char *part : {"<!DOCTYPE html>", "<html lang=\"en\">", "<meta charset=\"utf-8\">",
                             "<meta name=\"color-scheme\" content=\"light dark\">",
                             "mso-hide:all\">apple/refresh_catalog: HTTP 503 from upstream</div>"})
        EXPECT_TRUE(contains(html, part)) << part;
    for (const char *part : {"<img", "<style", "<script", "http-equiv", "url("})
        EXPECT_FALSE(contains(html, part)) << part;
}

} // namespace

} // namespace job_alerting::core
