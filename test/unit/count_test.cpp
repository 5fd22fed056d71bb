// Every number in a message is exact, or marked as a minimum, even when there are more causes and
// kinds than a digest separates.

#include "core/headline.hpp"
#include "core/render.hpp"
#include "core/slack.hpp"

#include "mails.hpp"

#include <nlohmann/json.hpp>

#include <array>

namespace job_alerting::core {

namespace {

constexpr int many = static_cast<int>(max_causes) + 2000;

Failure chained(Failure failure, const std::string &chain) {
    failure.chain = chain;
    return failure;
}

std::vector<Failure> failures_by(Failure (*make)(int)) {
    std::vector<Failure> failures;
    for (int i = 0; i < many; ++i)
        failures.push_back(make(i));
    return failures;
}

std::string slack_of(const Digest &digest) {
    return slack_body(digest, 50, "");
}

// The rendering for each channel.
std::array<std::string, 3> bodies_of(const Digest &digest) {
    const Mail mail = render(digest, 50, "");
    return {mail.text, mail.html, slack_of(digest)};
}

void expect_in_all(const Digest &digest, const std::string &words) {
    for (const std::string &body : bodies_of(digest))
        EXPECT_TRUE(contains(body, words)) << words << " in " << body.substr(0, 2000);
}

// The sum of all numbers before a word.
std::int64_t sum_before(const std::string &text, const std::string &word) {
    std::int64_t all = 0;
    for (auto at = text.find(word); at != text.npos; at = text.find(word, at + 1)) {
        const auto begin = text.find_last_not_of("0123456789", at - 1) + 1;
        all += begin < at ? std::stoll(text.substr(begin, at - begin)) : 0;
    }
    return all;
}

// Blocks, rests and unnamed failures add up to all failures.
void expect_sum(const Digest &digest, std::int64_t failures) {
    for (std::string body : bodies_of(digest)) {
        body = body.substr(body.find("Failed ")); // the headline counts them, too
        EXPECT_EQ(sum_before(body, " job failed") + sum_before(body, " failures.") +
                      sum_before(body, " failures are only counted here"),
                  failures)
            << body.substr(0, 2000);
    }
}

TEST(Count, of_a_kind_is_exact_across_many_chains) {
    const Digest digest = digest_of(failures_by(
        [](int i) { return chained(sample_failure(i), "chain " + std::to_string(i)); }));
    EXPECT_EQ(subject(digest),
              "12000 jobs failed in approachnote: apple/refresh_catalog (12000) [#17]");
    EXPECT_EQ(nlohmann::json::parse(slack_of(digest))["text"], subject(digest));
    expect_in_all(digest, "12000 jobs failed");
    expect_in_all(digest, "2000 failures are only counted here");
    expect_in_all(digest, "And at least ");
    expect_sum(digest, many);
}

TEST(Count, of_a_chain_is_exact_with_many_causes) {
    std::vector<Failure> failures = failures_by([](int i) {
        Failure failure = chained(sample_failure(i + 1), "tonight");
        failure.error = kind(i);
        return failure;
    });
    failures.back().failed_at = Moment{-1, "first of all"};
    const Digest digest = digest_of(failures);
    EXPECT_EQ(subject(digest),
              "12000 jobs failed in approachnote: apple/refresh_catalog (12000) [#17]");
    expect_in_all(digest, "Chain tonight: 12000 of its jobs failed");
    expect_in_all(digest, "(job " + failures.back().job_id + ") at first of all");
    expect_in_all(digest, "2000 failures are only counted here");
    expect_in_all(digest, "And at least ");
    expect_sum(digest, many);
}

TEST(Count, of_jobs_without_a_chain_is_exact_with_many_causes) {
    std::vector<Failure> failures = failures_by([](int i) {
        Failure failure = sample_failure(i);
        failure.error = kind(i);
        return failure;
    });
    failures.insert(failures.begin(), chained(sample_failure(), "tonight"));
    const Digest digest = digest_of(failures);
    EXPECT_TRUE(contains(subject(digest), "apple/refresh_catalog (12001) ["));
    expect_in_all(digest, "Chain tonight: 1 of its jobs failed");
    expect_in_all(digest, "Not in a chain: 12000 jobs failed");
    expect_in_all(digest, "2001 failures are only counted here");
    expect_sum(digest, many + 1);
}

TEST(Count, of_kinds_is_a_minimum_if_not_all_are_known) {
    std::vector<Failure> failures = failures_by([](int i) { return of_kind(i, i); });
    failures.push_back(of_kind(0));
    const Digest digest = digest_of(failures);
    const std::string line = subject(digest);
    EXPECT_TRUE(line.starts_with("12001 jobs failed in approachnote: kind_ (2), kind_b, ")) << line;
    const auto named = static_cast<std::int64_t>(occurrences(line, "kind_"));
    EXPECT_TRUE(contains(line, " and at least " +
                                   std::to_string(max_kinds - static_cast<std::size_t>(named)) +
                                   " more kinds [#17]"))
        << line;
    expect_in_all(digest, "And at least ");
}

TEST(Count, of_the_rest_is_exact_if_all_is_known) {
    std::vector<Failure> failures = failures_by([](int i) { return of_kind(i % 300, i); });
    const Digest digest = digest_of(failures);
    for (const std::string &body : bodies_of(digest)) {
        EXPECT_TRUE(contains(body, " more causes, with "));
        EXPECT_FALSE(contains(body, "at least"));
        EXPECT_FALSE(contains(body, "only counted here"));
    }
    EXPECT_EQ(digest.unnamed, 0);
}

TEST(Count, of_kinds_with_similar_names_is_exact) {
    Failure one = sample_failure();
    Failure other = sample_failure();
    one.job_type = repeated("x", 80) + "a";
    other.job_type = repeated("x", 80) + "b";
    const Digest digest = digest_of({one, other, other});
    ASSERT_EQ(digest.kinds.size(), 2U);
    EXPECT_EQ(digest.kinds[1].count, 2);
    EXPECT_TRUE(contains(subject(digest), "... and 1 more kind [#17]")) << subject(digest);
}

TEST(Count, of_jobs_in_a_minimal_digest_excludes_queues) {
    const std::vector<Failure> failures = {sample_failure(1), sample_failure(2),
                                           unreadable_queue("mail_jobs")};
    EXPECT_EQ(subject(minimal(digest_of(failures))),
              "2 jobs failed and 1 queue could not be read in approachnote [#17]");
    EXPECT_EQ(subject(minimal(digest_of({unreadable_queue("a"), unreadable_queue("b")}))),
              "2 queues could not be read in approachnote [#17]");
    EXPECT_FALSE(contains(bodies_of(minimal(digest_of(failures)))[0], "mail_jobs"));
}

} // namespace

} // namespace job_alerting::core
