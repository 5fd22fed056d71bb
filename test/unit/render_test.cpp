#include "core/render.hpp"

#include "core/link.hpp"

#include "samples.hpp"

#include <gtest/gtest.h>

#include <cctype>
#include <set>
#include <sstream>

namespace job_alerting::core {

namespace {

const std::string job_url = "https://admin.example.com/jobs/{job_id}";

Mail mail_of(const std::vector<Failure> &failures, std::size_t max_listed = 50,
             const std::string &url = job_url) {
    DigestBuilder builder(max_listed);
    for (const Failure &failure : failures)
        builder.add(failure);
    return render(named(builder.finish()), max_listed, url);
}

std::vector<std::string> lines_of(const std::string &text) {
    std::vector<std::string> lines;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);)
        lines.push_back(line);
    return lines;
}

// A name of its own for every number, in letters only.
std::string kind(int number) {
    std::string name = "kind_";
    for (; number > 0; number /= 26)
        name += static_cast<char>('a' + number % 26);
    return name;
}

Failure of_kind(int number, std::int64_t id = 1) {
    Failure failure = sample_failure(id);
    failure.source.reset();
    failure.job_type = kind(number);
    return failure;
}

// The number before `word` in `line`.
std::int64_t number_before(const std::string &line, const std::string &word) {
    std::size_t end = line.find(word);
    std::size_t begin = end;
    while (begin > 0 && std::isdigit(static_cast<unsigned char>(line[begin - 1])))
        --begin;
    return begin == end ? 0 : std::stoll(line.substr(begin, end - begin));
}

// The failures that a text accounts for: block by block, and in its rests.
std::int64_t accounted(const std::string &text) {
    std::int64_t all = 0;
    for (const std::string &line : lines_of(text)) {
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

void expect_well_made(const Mail &mail) {
    EXPECT_FALSE(contains(mail.subject, "\n"));
    EXPECT_LE(mail.html.size(), max_html_bytes);
    EXPECT_TRUE(mail.text.ends_with("\n"));
    EXPECT_FALSE(mail.text.ends_with("\n\n"));
    EXPECT_FALSE(contains(mail.text, " \n"));
    EXPECT_FALSE(contains(mail.text, "\n\n\n"));
    for (const std::string &line : lines_of(mail.text)) {
        const std::size_t word = line.find_first_not_of(" |*");
        EXPECT_TRUE(characters(line) <= 78 || line.find(' ', word) == line.npos) << line;
    }
    const std::set<std::string> ours = {"!DOCTYPE", "html", "head", "meta", "title", "body", "div",
                                        "table",    "tr",   "td",   "b",    "br",    "span", "a"};
    for (std::size_t at = mail.html.find('<'); at != std::string::npos;
         at = mail.html.find('<', at + 1)) {
        const std::size_t begin = mail.html[at + 1] == '/' ? at + 2 : at + 1;
        const std::size_t end = mail.html.find_first_of(" >", begin);
        EXPECT_TRUE(ours.count(mail.html.substr(begin, end - begin))) << mail.html.substr(at, 40);
    }
    for (const char *tag : {"table", "tr", "td", "div", "span", "b", "a"}) {
        const std::string name = tag;
        EXPECT_EQ(occurrences(mail.html, "<" + name + ">") +
                      occurrences(mail.html, "<" + name + " "),
                  occurrences(mail.html, "</" + name + ">"))
            << name;
    }
}

TEST(Subject, says_how_many_failed_where_what_and_the_number) {
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

TEST(Subject, names_the_cluster) {
    DigestBuilder builder(50);
    builder.add(sample_failure());
    Digest digest = named(builder.finish());
    digest.cluster = "prod";
    const Mail mail = render(digest, 50, job_url);
    EXPECT_EQ(mail.subject, "1 job failed in prod/approachnote: apple/refresh_catalog [#17]");
    EXPECT_TRUE(contains(mail.text, "database approachnote in cluster prod"));
}

TEST(Subject, names_kinds_as_far_as_they_fit_and_counts_the_rest) {
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

TEST(Subject, does_not_claim_to_know_the_kinds_of_unnamed_failures) {
    DigestBuilder builder(50);
    for (int i = 0; i < 10001; ++i)
        builder.add(of_kind(i));
    EXPECT_TRUE(contains(render(named(builder.finish()), 50, "").subject, "and at least "));
}

TEST(Subject, says_it_when_a_queue_could_not_be_read) {
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

TEST(Subject, is_clipped_and_on_one_line_whatever_the_data) {
    Failure failure = sample_failure();
    failure.source = repeated("s\n\r\xE2\x80\xAE{{headline}}", 5000);
    failure.job_type = repeated("t<b>", 5000);
    const Mail mail = mail_of({failure, unreadable_queue(repeated("q\n", 5000))});
    EXPECT_LE(mail.subject.size(), 300U);
    expect_well_made(mail);
}

TEST(Mail, tells_of_each_job_all_that_there_is) {
    Failure failure = sample_failure();
    failure.chain = "2026-07-14T01:00:00+00:00";
    failure.attempts = 2;
    const Mail mail = mail_of({failure});
    for (const std::string &body : {mail.text, mail.html})
        for (const char *fact :
             {"1 job failed in approachnote", "apple/refresh_catalog", "job 4711 in research_jobs",
              "album/6f2c1a52-0d8e-4c7f-9b1c-2f3f5c1f7a10", "failed, attempts 2/3",
              "2026-07-14 03:11:00+02:00", "HTTP 503 from upstream",
              "https://admin.example.com/jobs/4711", "Digest #17",
              "SELECT * FROM job_alerting.digest_failure WHERE digest_id = 17",
              "Chain 2026-07-14T01:00:00+00:00: 1 of its jobs failed"})
            EXPECT_TRUE(contains(body, fact)) << fact;
    expect_well_made(mail);
}

TEST(Mail, prints_nothing_silly_where_nothing_is_known) {
    const Mail mail = mail_of({Failure(), bare_failure()});
    EXPECT_TRUE(contains(mail.text, "\n    job 4711 in research_jobs\n    at an unknown time\n"));
    EXPECT_TRUE(contains(mail.text, "No error was recorded: the worker probably died"));
    EXPECT_TRUE(contains(mail.html, "No error was recorded: the worker probably died"));
    for (const std::string &body : {mail.text, mail.subject}) {
        EXPECT_FALSE(contains(body, "null") || contains(body, " /") || contains(body, "/ ") ||
                     contains(body, "attempts") || contains(body, ", ,") || contains(body, "{{"));
    }
    expect_well_made(mail);
}

TEST(Mail, prints_the_half_that_is_there) {
    Failure failure = bare_failure();
    failure.target_id = "t1";
    failure.attempts = 2;
    EXPECT_TRUE(contains(mail_of({failure}).text, "research_jobs, t1\n    attempts 2, at"));
    failure.target_id.reset();
    failure.target_type = "album";
    failure.attempts.reset();
    failure.max_attempts = 3;
    EXPECT_TRUE(contains(mail_of({failure}).text, "research_jobs, album\n    at an unknown"));
}

TEST(Mail, takes_an_error_of_white_space_for_none) {
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

TEST(Mail, cleans_a_digest_that_was_not_built_by_the_builder) {
    Digest digest = named({});
    Failure failure = sample_failure();
    failure.job_id = repeated("x\n\x80", 50000);
    failure.error = repeated("{{x}} \xE2\x80\xAE\n", 50000);
    Cause cause;
    cause.count = digest.count = 1;
    cause.queue = cause.source = repeated("s\n", 50000);
    cause.listed = {failure};
    digest.groups = {{repeated("c\n", 50000), 1, {cause}}};
    expect_well_made(render(digest, 50, job_url));
}

TEST(Mail, adds_nothing_but_ascii) {
    const Mail mail = mail_of(std::vector<Failure>(200, sample_failure()));
    for (const std::string &body : {mail.subject, mail.text, mail.html})
        for (const char c : body)
            EXPECT_TRUE(c == '\n' || (c >= ' ' && c <= '~'));
}

TEST(Mail, is_the_same_bytes_for_the_same_digest) {
    std::vector<Failure> failures;
    for (int i = 0; i < 500; ++i)
        failures.push_back(of_kind(i % 37, i));
    const Mail one = mail_of(failures);
    const Mail other = mail_of(failures);
    EXPECT_EQ(one.subject, other.subject);
    EXPECT_EQ(one.text, other.text);
    EXPECT_EQ(one.html, other.html);
}

TEST(Mail, counts_what_it_does_not_list) {
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

TEST(Mail, shows_counts_alone_where_nothing_is_to_be_listed) {
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

TEST(Mail, tells_of_a_queue_that_could_not_be_read_before_anything_else) {
    Failure in_chain = sample_failure();
    in_chain.chain = "nightly";
    const Mail mail = mail_of({in_chain, sample_failure(), unreadable_queue("mail_jobs")});
    const auto queue = mail.text.find("* queue mail_jobs could not be read\n");
    const auto chain = mail.text.find("\nChain nightly: 1 of its jobs failed\n");
    const auto others = mail.text.find("\nWithout a chain: 1 job failed\n");
    EXPECT_LT(queue, chain);
    EXPECT_LT(chain, others);
    EXPECT_LT(others, mail.text.size());
    for (const std::string &body : {mail.text, mail.html}) {
        EXPECT_TRUE(contains(body, "Failures in it are not seen until this is mended."));
        EXPECT_TRUE(contains(body, "permission denied for table mail_jobs"));
    }
}

TEST(Mail, leaves_the_word_chain_out_where_there_is_none) {
    EXPECT_FALSE(contains(mail_of({sample_failure()}).text, "chain"));
}

TEST(Mail, fits_its_limit_with_the_largest_fields_and_a_thousand_to_list) {
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
            EXPECT_GT(mail.html.size(), max_html_bytes / 3) << "and makes use of it";
            EXPECT_TRUE(contains(mail.text, "And 30 more notes."));
        }
    }
}

TEST(Mail, never_has_room_for_more_jobs_than_the_builder_keeps) {
    Failure small;
    small.job_id = "1";
    const Mail mail = mail_of(std::vector<Failure>(2000, small), 1000, "");
    const auto listed = occurrences(mail.text, "    job 1 in");
    EXPECT_GT(listed, 100U);
    EXPECT_LT(listed, most_listed);
    EXPECT_TRUE(contains(mail.text, "and " + std::to_string(2000 - listed) + " more like this"));
}

TEST(Mail, says_how_many_failures_were_reported_earlier) {
    Digest digest = named({});
    EXPECT_TRUE(contains(render(digest, 50, "").text, "No failure reported earlier still stands."));
    digest.standing = 1;
    EXPECT_TRUE(contains(render(digest, 50, "").text, "1 failure reported earlier still stands."));
    digest.standing = 12;
    EXPECT_TRUE(contains(render(digest, 50, "").html, "12 failures reported earlier still stand."));
}

TEST(Mail, carries_its_notes) {
    Digest digest = named({});
    digest.notes = {"This digest is late.", "Digest #16 is still in doubt."};
    const Mail mail = render(digest, 50, "");
    EXPECT_TRUE(contains(mail.text, "\nNote: This digest is late.\n\nNote: Digest #16 is still"));
    EXPECT_TRUE(contains(mail.html, "Digest #16 is still in doubt."));
}

TEST(Mail, of_counts_alone_says_so) {
    Digest digest = named({});
    digest.count = digest.unnamed = 4;
    const Mail mail = render(digest, 50, job_url);
    EXPECT_EQ(mail.subject, "4 jobs failed in approachnote [#17]");
    EXPECT_TRUE(
        contains(mail.text, "4 failures are only counted here. The query below lists all."));
    EXPECT_EQ(accounted(mail.text), 4);
    expect_well_made(mail);
}

TEST(Mail, without_a_number_does_not_invent_one) {
    Digest digest;
    digest.count = digest.unnamed = 1;
    digest.database = "approachnote";
    const Mail mail = render(digest, 50, "");
    EXPECT_EQ(mail.subject, "1 job failed in approachnote");
    EXPECT_TRUE(contains(mail.text, "From database approachnote."));
    EXPECT_FALSE(contains(mail.text, "#") || contains(mail.text, "SELECT"));
}

TEST(Mail, is_html_for_mail_readers) {
    const std::string html = mail_of({sample_failure()}).html;
    for (const char *part : {"<!DOCTYPE html>", "<html lang=\"en\">", "<meta charset=\"utf-8\">",
                             "<meta name=\"color-scheme\" content=\"light dark\">",
                             "mso-hide:all\">HTTP 503 from upstream</div>"})
        EXPECT_TRUE(contains(html, part)) << part;
    for (const char *part : {"<img", "<style", "<script", "http-equiv", "url("})
        EXPECT_FALSE(contains(html, part)) << part;
}

TEST(JobLink, fills_in_what_the_job_has) {
    Failure job = sample_failure();
    EXPECT_EQ(
        job_link("http://x/{queue}/{job_id}/{source}/{job_type}/{target_type}/{target_id}", job),
        "http://x/research_jobs/4711/apple/refresh_catalog/album/"
        "6f2c1a52-0d8e-4c7f-9b1c-2f3f5c1f7a10");
    EXPECT_EQ(job_link("https://x/{job_id}?s={source}&q={queue}", bare_failure()),
              "https://x/4711?s=&q=research_jobs");
    EXPECT_EQ(job_link("https://x/{other}{", job), "https://x/{other}{");
    EXPECT_EQ(job_link("", job), "");
}

TEST(JobLink, encodes_a_hostile_id) {
    Failure job = bare_failure();
    job.job_id = "../\"><b>?a=1&b=2#{queue}\r\nX \xC3\xA9%";
    EXPECT_EQ(job_link("https://x/{job_id}", job),
              "https://x/..%2F%22%3E%3Cb%3E%3Fa%3D1%26b%3D2%23%7Bqueue%7D%20X%20%C3%A9%25");
}

TEST(JobLink, is_an_http_address_or_nothing) {
    Failure job = bare_failure();
    job.job_id = "javascript:alert(1)";
    for (const char *url : {"javascript:alert(1)", "{job_id}", "ftp://x/{job_id}", "//x",
                            "HTTPS//x", "data:text/html,x", "mailto:x@y"})
        EXPECT_EQ(job_link(url, job), "");
}

TEST(JobLink, is_not_made_from_an_id_that_was_cut) {
    Failure job = bare_failure();
    job.job_id = repeated("x", most_name);
    EXPECT_NE(job_link("https://x/{job_id}", job), "");
    job.job_id += "x";
    EXPECT_EQ(job_link("https://x/{job_id}", job), "");
    EXPECT_NE(job_link("https://x/{queue}", job), "");
    job.job_id = repeated("\xF0\x9F\x8E\xB5", most_name);
    EXPECT_EQ(job_link("https://x/{job_id}", job), "") << "too long an address";
}

} // namespace

} // namespace job_alerting::core
