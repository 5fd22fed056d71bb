#include "core/digest.hpp"
#include "core/layout.hpp"

#include "samples.hpp"

#include <gtest/gtest.h>

namespace job_alerting::core {

namespace {

// The promise that every failure is counted once.
void expect_exact_counts(const Digest &digest) {
    std::int64_t all = digest.unnamed;
    for (const Group &group : digest.groups) {
        std::int64_t in_group = 0;
        for (const Cause &cause : group.causes) {
            in_group += cause.count;
            EXPECT_LE(static_cast<std::int64_t>(cause.listed.size()), cause.count);
        }
        EXPECT_EQ(in_group + group.unnamed, group.count);
        all += in_group;
    }
    EXPECT_EQ(all, digest.count);
    std::int64_t of_kinds = digest.jobs_of_other_kinds + digest.queue_failures;
    for (const Kind &kind : digest.kinds)
        of_kinds += kind.count;
    EXPECT_EQ(digest.kinds.empty() ? digest.count : of_kinds, digest.count);
}

std::size_t listed(const Digest &digest) {
    std::size_t count = 0;
    for (const Group &group : digest.groups)
        for (const Cause &cause : group.causes)
            count += cause.listed.size();
    return count;
}

TEST(Kind, is_source_and_job_type_or_the_one_that_is_set) {
    Cause cause;
    cause.queue = "q";
    EXPECT_EQ(cause.kind(), "q");
    cause.job_type = "t";
    EXPECT_EQ(cause.kind(), "t");
    cause.source = "s";
    EXPECT_EQ(cause.kind(), "s/t");
    cause.job_type = "";
    EXPECT_EQ(cause.kind(), "s");
}

TEST(DigestBuilder, groups_failures_by_cause) {
    DigestBuilder builder(50);
    Failure one = sample_failure(1);
    Failure two = sample_failure(2);
    one.error = "timeout after 31 s on host 10.0.0.7";
    two.error = "timeout after 45 s on host 10.0.0.9";
    builder.add(two);
    builder.add(one);
    const Digest digest = builder.finish();
    ASSERT_EQ(digest.groups.size(), 1U);
    ASSERT_EQ(digest.groups[0].causes.size(), 1U);
    const Cause &cause = digest.groups[0].causes[0];
    EXPECT_EQ(cause.count, 2);
    EXPECT_EQ(cause.first->micros, 1);
    EXPECT_EQ(cause.last->micros, 2);
    ASSERT_EQ(cause.listed.size(), 2U);
    EXPECT_EQ(cause.listed[0].job_id, two.job_id) << "ledger order";
    expect_exact_counts(digest);
}

TEST(DigestBuilder, separates_causes_by_queue_source_job_type_error_and_chain) {
    DigestBuilder builder(50);
    Failure failure = sample_failure();
    builder.add(failure);
    failure.queue = "other";
    builder.add(failure);
    failure.source = "other";
    builder.add(failure);
    failure.job_type = "other";
    builder.add(failure);
    failure.error = "other";
    builder.add(failure);
    failure.chain = "other";
    builder.add(failure);
    const Digest digest = builder.finish();
    ASSERT_EQ(digest.groups.size(), 2U);
    EXPECT_EQ(digest.groups[0].causes.size(), 1U);
    EXPECT_EQ(digest.groups[1].causes.size(), 5U);
    expect_exact_counts(digest);
}

TEST(DigestBuilder, puts_chains_in_ledger_order_before_jobs_without_one) {
    DigestBuilder builder(50);
    for (const char *chain : {"", "b", "", "a", "b"}) {
        Failure failure = sample_failure();
        failure.chain = chain;
        builder.add(failure);
    }
    const Digest digest = builder.finish();
    ASSERT_EQ(digest.groups.size(), 3U);
    EXPECT_EQ(digest.groups[0].chain, "b");
    EXPECT_EQ(digest.groups[0].count, 2);
    EXPECT_EQ(digest.groups[1].chain, "a");
    EXPECT_EQ(digest.groups[2].chain, "");
    EXPECT_EQ(digest.groups[2].count, 2);
}

TEST(DigestBuilder, accepts_failures_without_any_details) {
    DigestBuilder builder(50);
    builder.add(Failure());
    builder.add(bare_failure());
    const Digest digest = builder.finish();
    EXPECT_EQ(digest.count, 2);
    EXPECT_FALSE(digest.first);
    EXPECT_FALSE(digest.last);
    expect_exact_counts(digest);
}

TEST(DigestBuilder, keeps_only_clean_and_clipped_text) {
    const std::string hostile = repeated("a\xE2\x80\xAE\x80\n\x1B", 100000);
    Failure failure = sample_failure();
    failure.queue = failure.job_id = hostile;
    failure.source = failure.job_type = failure.target_type = failure.target_id = hostile;
    failure.status = failure.chain = failure.error = hostile;
    DigestBuilder builder(50);
    builder.add(failure);
    const Digest digest = builder.finish();
    const Cause &cause = digest.groups[0].causes[0];
    const Failure &kept = cause.listed[0];
    for (const std::string &text :
         {digest.groups[0].chain, cause.queue, cause.source, cause.job_type, kept.queue,
          kept.job_id, *kept.source, *kept.job_type, *kept.target_type, *kept.target_id,
          *kept.status}) {
        EXPECT_LE(text.size(), max_name);
        EXPECT_FALSE(contains(text, "\n") || contains(text, "\x1B") || contains(text, "\xE2"));
    }
    EXPECT_LE(kept.error->size(), max_error);
}

TEST(DigestBuilder, counts_a_hundred_thousand_failures_of_one_cause_and_keeps_few) {
    DigestBuilder builder(50);
    for (int i = 0; i < 100000; ++i)
        builder.add(sample_failure(i));
    const Digest digest = builder.finish();
    EXPECT_EQ(digest.count, 100000);
    EXPECT_EQ(digest.groups[0].causes[0].count, 100000);
    EXPECT_EQ(digest.groups[0].causes[0].listed.size(), 50U);
    expect_exact_counts(digest);
}

TEST(DigestBuilder, keeps_and_shows_as_many_jobs_as_the_largest_max_listed) {
    const Digest digest = digest_of(std::vector<Failure>(1200, sample_failure()), 1000);
    EXPECT_EQ(listed(digest), 1000U);
    EXPECT_EQ(full_extent(digest, 1000).jobs, 1000U) << "if the mail has room for them";
    expect_exact_counts(digest);
}

std::string name_of(int number) {
    std::string name;
    for (; number > 0; number /= 26)
        name += static_cast<char>('a' + number % 26);
    return name;
}

TEST(DigestBuilder, separates_ten_thousand_causes_and_counts_the_rest) {
    DigestBuilder builder(50);
    for (int i = 0; i < 100000; ++i) {
        Failure failure = sample_failure(i);
        failure.job_type = name_of(i);
        builder.add(failure);
    }
    builder.add(unreadable_queue("mail_jobs"));
    const Digest digest = builder.finish();
    EXPECT_EQ(digest.count, 100001);
    EXPECT_EQ(digest.unnamed, 90000);
    EXPECT_EQ(digest.groups[0].causes.size(), max_causes + 1);
    EXPECT_TRUE(digest.groups[0].causes.back().unreadable_queue) << "it is exempt from max_causes";
    EXPECT_EQ(listed(digest), 51U);
    expect_exact_counts(digest);
}

TEST(DigestBuilder, keeps_a_job_of_each_cause_after_one_with_many) {
    DigestBuilder builder(50);
    for (int i = 0; i < 1000; ++i)
        builder.add(sample_failure(i));
    for (int i = 0; i < 49; ++i) {
        Failure failure = sample_failure(i);
        failure.job_type = name_of(i);
        builder.add(failure);
    }
    const Digest digest = builder.finish();
    for (const Cause &cause : digest.groups[0].causes)
        EXPECT_GE(cause.listed.size(), 1U);
}

TEST(DigestBuilder, keeps_enough_jobs_for_a_mail_in_any_order) {
    for (const std::size_t most : {1U, 2U, 7U, 50U, 500U}) {
        for (const int causes : {1, 2, 3, 7, 40, 300}) {
            DigestBuilder builder(most);
            for (int i = 0; i < 1000; ++i) {
                Failure failure = sample_failure(i);
                failure.job_type = name_of(i * i % causes);
                builder.add(failure);
            }
            const Digest digest = builder.finish();
            EXPECT_GE(listed(digest), most);
            EXPECT_LE(listed(digest), most * 8);
        }
    }
}

TEST(DigestBuilder, keeps_only_counts_if_nothing_is_listed) {
    DigestBuilder builder(0);
    builder.add(sample_failure());
    builder.add(unreadable_queue("mail_jobs"));
    const Digest digest = builder.finish();
    EXPECT_EQ(digest.count, 2);
    EXPECT_EQ(listed(digest), 1U) << "why a queue cannot be read";
}

TEST(DigestBuilder, is_empty_after_finish) {
    DigestBuilder builder(1);
    builder.add(sample_failure());
    builder.finish();
    EXPECT_EQ(builder.finish().count, 0);
    builder.add(sample_failure());
    const Digest digest = builder.finish();
    EXPECT_EQ(digest.count, 1);
    EXPECT_EQ(listed(digest), 1U);
    expect_exact_counts(digest);
}

TEST(Minimal, has_counts_and_no_text_of_jobs) {
    DigestBuilder builder(50);
    for (std::int64_t id = 1; id <= 3; ++id)
        builder.add(sample_failure(id));
    const Digest full = named(builder.finish());
    const Digest digest = minimal(full);
    expect_exact_counts(digest);
    EXPECT_EQ(digest.count, 3);
    EXPECT_EQ(listed(digest), 0U);
    EXPECT_EQ(digest.id, full.id);
    EXPECT_EQ(digest.first->micros, full.first->micros);
}

} // namespace

} // namespace job_alerting::core
