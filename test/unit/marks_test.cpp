// The marks of a cause (new, again, worker lost, cleared), and the break of a chain with the steps
// that never ran.

#include "core/history.hpp"
#include "core/slack.hpp"

#include "mails.hpp"

namespace job_alerting::core {

namespace {

Failure with_error(const std::string &error, std::int64_t id = 1) {
    Failure failure = sample_failure(id);
    failure.error = error;
    return failure;
}

Failure lost(std::int64_t id = 1) {
    Failure failure = sample_failure(id);
    failure.error = "";
    return failure;
}

Failure in_chain(const std::string &target, std::int64_t id) {
    Failure failure = sample_failure(id);
    failure.chain = "tonight";
    failure.target_type = target;
    return failure;
}

const EarlierDigest last_week = {12, "2026-11-20T03:00:00+01:00"};

// The mail after `earlier`, newest first.
Mail mail_after(const std::vector<Failure> &earlier, const std::vector<Failure> &now,
                bool complete = true) {
    Digest digest = digest_of(now);
    History history(digest);
    for (const Failure &failure : earlier)
        history.take(failure, last_week);
    history.finish(complete);
    return render(digest, 50, job_url);
}

// Both parts of the mail must contain the words.
void expect_in_both(const Mail &mail, const std::string &words) {
    EXPECT_TRUE(contains(mail.text, words)) << mail.text;
    EXPECT_TRUE(contains(mail.html, words)) << mail.html;
}

void expect_in_neither(const Mail &mail, const std::string &words) {
    EXPECT_FALSE(contains(mail.text, words)) << mail.text;
    EXPECT_FALSE(contains(mail.html, words)) << mail.html;
}

} // namespace

TEST(History, recognises_a_cause_by_its_normalised_error) {
    const Mail mail =
        mail_after({with_error("HTTP 503 after 30 s")}, {with_error("HTTP 503 after 7 s")});
    expect_in_both(mail, "AGAIN");
    expect_in_both(mail, "last reported 2026-11-20T03:00:00+01:00 in digest #12");
    expect_in_neither(mail, "NEW");
}

TEST(History, separates_the_causes_of_one_kind) {
    const Mail mail =
        mail_after({with_error("disk full")}, {with_error("disk full"), with_error("boom")});
    EXPECT_EQ(occurrences(mail.text, ", AGAIN\n"), 1u);
    EXPECT_EQ(occurrences(mail.text, ", NEW\n"), 1u);
    EXPECT_LT(mail.text.find("AGAIN"), mail.text.find("NEW"));
}

TEST(History, ignores_other_kinds_queues_and_sources) {
    Failure kind = sample_failure();
    kind.job_type = "rebuild_index";
    Failure queue = sample_failure();
    queue.queue = "other_jobs";
    Failure source = sample_failure();
    source.source = "google";
    expect_in_neither(mail_after({kind, queue, source, lost()}, {sample_failure()}), "AGAIN");
}

TEST(History, recognises_a_cause_in_any_chain) {
    EXPECT_EQ(
        occurrences(mail_after({sample_failure()}, {in_chain("song", 1), sample_failure(2)}).text,
                    ", AGAIN\n"),
        2u);
}

TEST(History, uses_the_newest_report) {
    Digest digest = digest_of({sample_failure()});
    History history(digest);
    history.take(sample_failure(), last_week);
    history.take(sample_failure(), {3, "long ago"});
    history.finish(true);
    EXPECT_EQ(digest.groups[0].causes[0].reported->digest, 12);
}

TEST(History, returns_whether_each_cause_has_a_mark) {
    for (const bool complete : {true, false}) {
        Digest digest = digest_of({with_error("old"), with_error("other", 2)});
        History history(digest);
        history.take(with_error("old"), last_week);
        EXPECT_EQ(history.finish(complete), complete);
    }
    Digest digest = digest_of({with_error("old")});
    History history(digest);
    history.take(with_error("old"), last_week);
    EXPECT_TRUE(history.finish(false));
}

TEST(History, marks_nothing_new_without_complete_history) {
    const Mail mail =
        mail_after({with_error("disk full")}, {with_error("disk full"), with_error("boom")}, false);
    expect_in_both(mail, "AGAIN");
    expect_in_neither(mail, "NEW");
}

TEST(Mail, separates_lost_workers_from_errors) {
    const Mail mail = mail_of({sample_failure(1), lost(2), lost(3), with_error("  \n ", 4)});
    expect_in_both(mail, "3 jobs failed without an error (worker lost)");
    expect_in_both(mail, "1 job failed");
    EXPECT_LT(mail.text.find("worker lost"), mail.text.find("1 job failed"));
    EXPECT_FALSE(contains(mail.subject, "worker lost")) << mail.subject;
    EXPECT_TRUE(contains(mail_of({lost(1)}).subject, "apple/refresh_catalog (worker lost) ["));
    EXPECT_TRUE(contains(mail_of({lost(1), lost(2)}).subject, "catalog (2, worker lost) ["));
}

TEST(Mail, reports_no_lost_worker_for_a_queue_without_errors) {
    Failure unknown = in_chain("song", 1);
    unknown.error.reset();
    const Mail mail = mail_of({unknown});
    expect_in_both(mail, "1 job failed");
    expect_in_neither(mail, "worker");
    expect_in_neither(mail, "No error");
    EXPECT_FALSE(contains(mail.subject, "worker"));
    EXPECT_TRUE(contains(mail.html, "mso-hide:all\">apple/refresh_catalog song<"));
    Failure died = in_chain("song", 2);
    died.error = "";
    const Mail both = mail_of({unknown, died});
    expect_in_both(both, "1 job failed without an error (worker lost)");
    expect_in_both(both, "1 job failed");
}

TEST(Mail, marks_failures_that_cleared_before_sending) {
    Failure cleared = sample_failure(1);
    cleared.cleared = true;
    expect_in_both(mail_of({cleared}), "1 job failed, cleared since");
    expect_in_both(mail_of({cleared, sample_failure(2)}), "2 jobs failed, 1 of them cleared since");
    expect_in_both(mail_of({cleared}), cleared.failed_at->text + ", cleared since");
    expect_in_neither(mail_of({sample_failure(1)}), "cleared");
}

TEST(Mail, counts_standing_and_cleared_failures_in_its_footer) {
    Digest digest = digest_of({sample_failure()});
    EXPECT_TRUE(contains(render(digest, 50, "").text,
                         "\nNo earlier digest was accepted.\nNo failure "
                         "reported earlier still stands.\n"));
    digest.standing = 1;
    digest.cleared = 1;
    digest.previous = EarlierDigest{16, "2026-11-23T01:00:00+01:00"};
    const Mail mail = render(digest, 50, "");
    expect_in_both(mail, "The previous digest, #16, was accepted at 2026-11-23T01:00:00+01:00.");
    EXPECT_TRUE(contains(mail.text, "\n1 failure reported earlier still stands. 1 failure has been "
                                    "cleared since the\n  previous digest.\n"));
}

TEST(History, finds_an_earlier_break_of_a_chain) {
    const auto mail_after_break = [](const Failure &earlier) {
        Digest digest = digest_of({in_chain("song", 5)});
        History history(digest);
        EXPECT_EQ(history.chains(), std::vector<std::string>{"tonight"});
        history.take_break(earlier, last_week);
        history.finish(true);
        EXPECT_EQ(contains(slack_body(digest, 50, ""), "Broke at"), earlier.target_type == "album");
        return render(digest, 50, job_url);
    };
    const Mail mail = mail_after_break(in_chain("album", 1));
    expect_in_both(mail, "Broke at apple/refresh_catalog album (job 4711) at ");
    EXPECT_TRUE(contains(mail.text, "reported in digest #12\n")) << mail.text;
    EXPECT_FALSE(contains(mail.html, "mso-hide:all\">apple/refresh_catalog album"));
    expect_in_both(mail_after_break(in_chain("artist", 9)), "Broke at apple/refresh_catalog song");
    Failure elsewhere = in_chain("index", 1);
    elsewhere.chain = "last night";
    expect_in_both(mail_after_break(elsewhere), "Broke at apple/refresh_catalog song");
    expect_in_neither(mail_after_break(elsewhere), "reported in");
}

TEST(Mail, shows_the_break_of_a_chain_and_the_steps_that_never_ran) {
    Failure later = in_chain("artist", 2);
    later.error = "no songs";
    Failure first = in_chain("song", 1);
    first.error = "quota\nexceeded";
    later.never_ran = {"apple/rebuild_index\nindex", "apple/publish <b>"};
    const Mail mail = mail_of({later, first, later});
    expect_in_both(mail,
                   "Broke at apple/refresh_catalog song (job 4711) at " + first.failed_at->text);
    expect_in_both(mail, "Never ran: apple/rebuild_index index, apple/publish ");
    EXPECT_TRUE(contains(mail.html, "publish &lt;b&gt;"));
    EXPECT_TRUE(contains(mail.html, "mso-hide:all\">apple/refresh_catalog song: quota"));
}

TEST(Mail, puts_the_break_at_a_failure_that_still_stands) {
    Failure retried = in_chain("album", 1);
    retried.cleared = true;
    const Mail mail = mail_of({retried, in_chain("song", 2)});
    expect_in_both(mail, "Broke at apple/refresh_catalog song (job 4712)");
    EXPECT_TRUE(contains(mail.html, "mso-hide:all\">apple/refresh_catalog song: "));
    expect_in_both(mail_of({in_chain("song", 2), retried}), "Broke at apple/refresh_catalog song");
    expect_in_both(mail_of({retried}), "Broke at apple/refresh_catalog album (job 4711)");
}

TEST(SlackMessage, shows_the_causes_and_chains_of_the_mail) {
    Failure broken = in_chain("song", 1);
    broken.never_ran = {"apple/rebuild_index index"};
    broken.cleared = true;
    Digest digest = digest_of({broken, lost(2)});
    History history(digest);
    history.take(broken, last_week);
    history.finish(true);
    digest.previous = last_week;
    const std::string message = slack_body(digest, 50, "");
    for (const char *words :
         {"Broke at apple/refresh_catalog song (job 4711)", "Never ran: apple/rebuild_index index",
          "1 job failed, cleared since, AGAIN",
          "last reported 2026-11-20T03:00:00+01:00 in digest #12",
          "1 job failed without an error (worker lost), NEW",
          "The previous digest, #12, was accepted"})
        EXPECT_TRUE(contains(message, words)) << words << " in " << message;
}

TEST(Mail, clips_the_steps_that_never_ran) {
    Failure failure = in_chain("song", 1);
    failure.never_ran.assign(1000, std::string(50, 'x'));
    const std::string html = mail_of({failure}).html;
    EXPECT_EQ(occurrences(html, std::string(50, 'x')), 5U);
    EXPECT_TRUE(contains(html, "x...<"));
}

TEST(Mail, shows_the_newest_list_of_steps_that_never_ran) {
    Failure early = in_chain("song", 1);
    early.never_ran = {"apple/rebuild_index index"};
    expect_in_neither(mail_of({early, in_chain("artist", 2)}), "Never ran");
    expect_in_both(mail_of({in_chain("artist", 2), early}), "Never ran");
    early.chain.reset();
    expect_in_neither(mail_of({early}), "Never ran");
}

TEST(Mail, puts_the_first_failure_into_the_preheader) {
    const auto preheader_of = [](const Mail &mail) {
        const std::size_t begin = mail.html.find("mso-hide:all\">") + 14;
        return mail.html.substr(begin, mail.html.find("</div>", begin) - begin);
    };
    EXPECT_EQ(preheader_of(mail_of({sample_failure()})),
              "apple/refresh_catalog: HTTP 503 from upstream");
    EXPECT_EQ(preheader_of(mail_of({lost()})), "apple/refresh_catalog: worker lost");
}

TEST(Mail, mentions_no_lost_worker_in_the_preheader_after_an_error) {
    const Mail mail = mail_of({with_error("quota exceeded")}, 0);
    EXPECT_TRUE(contains(mail.html, "mso-hide:all\">apple/refresh_catalog: quota exceeded<"));
}

TEST(Mail, shows_the_common_part_of_the_errors_of_a_cause) {
    const std::string common = "  | HTTP 429: resets in # s\n";
    EXPECT_TRUE(contains(mail_of({with_error("HTTP 429: resets in 8 s", 1),
                                  with_error("HTTP 429: resets in 90 s", 2)})
                             .text,
                         common));
    EXPECT_FALSE(contains(mail_of({with_error("HTTP 429: resets in 8 s")}).text, common));
}

TEST(Mail, accepts_no_status_as_an_unreadable_queue) {
    Failure failure = sample_failure();
    failure.status = "job 1 in research_jobs";
    failure.attempts.reset();
    EXPECT_EQ(occurrences(mail_of({failure}).text, "\n    job "), 1u);
}

TEST(Mail, marks_every_cause_in_a_large_digest) {
    std::vector<Failure> one(100000, sample_failure());
    const Mail flood = mail_after({sample_failure()}, one);
    expect_well_made(flood);
    expect_in_both(flood, "100000 jobs failed");
    expect_in_both(flood, "and 99950 more like this");
    expect_in_both(flood, "AGAIN");

    std::vector<Failure> many;
    for (int number = 0; number < 100000; ++number)
        many.push_back(with_error(kind(number)));
    const Mail motley = mail_after({}, many);
    expect_well_made(motley);
    expect_in_both(motley, "NEW");
    expect_in_both(motley, "100000 jobs failed");
    expect_in_both(motley, "90000 failures are only counted here");
}

} // namespace job_alerting::core
