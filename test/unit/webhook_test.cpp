// The schema that the documents publish judges each body, by Python's jsonschema.

#include "core/webhook.hpp"

#include "core/text.hpp"
#include "sample_digests.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cstdio>

namespace job_alerting::core {

namespace {

using nlohmann::json;

const std::string job_url = "https://admin.example.com/jobs/{job_id}";
const WebhookEvent event = {"job-alerting-17-0123456789abcdef01234567", "2026-07-14T01:00:00Z"};

std::string body_of(const Digest &digest, std::size_t max_listed = 50) {
    return webhook_body(digest, event, max_listed, job_url);
}

json data_of(const Digest &digest, std::size_t max_listed = 50) {
    return json::parse(body_of(digest, max_listed))["data"];
}

bool are_good(const std::vector<std::string> &bodies, const char *output = "") {
    const std::string judge = std::string(JUDGE_WEBHOOK) + " " + WEBHOOK_SCHEMA;
    FILE *const pipe = popen((judge + output).c_str(), "w");
    for (const std::string &body : bodies)
        fprintf(pipe, "%s\n", body.c_str());
    return pclose(pipe) == 0;
}

// Failures whose every text is as long as it can be, each of another cause.
std::vector<Failure> large_failures(const std::string &piece, int number) {
    std::vector<Failure> failures;
    for (int i = 0; i < number; ++i) {
        Failure failure = sample_failure(i);
        const std::string large = kind(i) + repeated(piece, 100);
        failure.queue = failure.job_id = large;
        failure.source = failure.job_type = large;
        failure.target_type = failure.target_id = failure.status = large;
        failure.chain = i % 3 == 0 ? large : "";
        failure.never_ran = {large, large, large, large};
        failure.error = repeated(repeated(piece, 90) + "\n", 8);
        failures.push_back(failure);
    }
    return failures;
}

void expect_exact(const json &data) {
    for (const char *what : {"chains", "causes", "failures"})
        EXPECT_EQ(data["omitted"][what].get<std::size_t>() + data[what].size(),
                  data["counts"][what].get<std::size_t>())
            << what;
    const bool omitted = data["omitted"] != json{{"chains", 0}, {"causes", 0}, {"failures", 0}};
    EXPECT_EQ(data["truncated"], omitted);
}

TEST(WebhookBody, follows_its_schema_whatever_the_digest) {
    std::vector<std::string> bodies = {webhook_test_body({"subject", "text\n", ""}, event)};
    for (const auto &[name, digest] : sample_digests())
        if (name != "hostile") // its times are none
            for (const std::size_t max_listed : {0, 50, 1000})
                bodies.push_back(body_of(digest, max_listed));
    EXPECT_TRUE(are_good(bodies));
}

TEST(WebhookBody, is_judged_by_a_schema_that_finds_faults) {
    const json good = json::parse(body_of(nightly_digest()));
    ASSERT_TRUE(are_good({good.dump()}));
    for (const auto &[place, value] :
         std::vector<std::pair<const char *, json>>{{"/data/failures/0/id", "1"},
                                                    {"/data/failures/0/failed_at", "Tuesday"},
                                                    {"/data/failures/0/occurence", "x"},
                                                    {"/data/causes/0/failures", 0},
                                                    {"/data/chains/0/broke/step", nullptr},
                                                    {"/data/omitted", 0},
                                                    {"/timestamp", "2026-07-14T01:00:00+02:00"}}) {
        json bad = good;
        bad[json::json_pointer(place)] = value;
        EXPECT_FALSE(are_good({bad.dump()}, " >/dev/null")) << place;
    }
    json bad = good;
    bad["data"]["failures"][0].erase("chain");
    EXPECT_FALSE(are_good({bad.dump()}, " >/dev/null"));
}

TEST(WebhookBody, has_the_facts_of_the_digest) {
    const Digest digest = nightly_digest();
    const json body = json::parse(body_of(digest));
    EXPECT_EQ(body["type"], "job_alerting.digest");
    EXPECT_EQ(body["timestamp"], event.timestamp);
    const json data = body["data"];
    const Mail mail = render(digest, 50, job_url);
    EXPECT_EQ(data["subject"], mail.subject);
    EXPECT_EQ(data["text"], mail.text);
    EXPECT_EQ(data["message_id"], event.message_id);
    EXPECT_EQ(data["digest_id"], 2);
    EXPECT_EQ(data["database"], "approachnote");
    EXPECT_EQ(data["cluster"], nullptr);
    EXPECT_EQ(data["counts"], (json{{"failures", 3},
                                    {"chains", 1},
                                    {"causes", 2},
                                    {"of_other_causes", 0},
                                    {"standing", 0},
                                    {"cleared", 1},
                                    {"unreadable_queues", 0}}));
    EXPECT_EQ(data["period"], (json{{"first", "2026-11-23T03:07:09+01:00"},
                                    {"last", "2026-11-23T03:31:07+01:00"}}));
    EXPECT_EQ(data["chains"][0]["never_ran"], json{"apple/rebuild_index index"});
    EXPECT_EQ(data["chains"][0]["broke"]["lost_worker"], true);
    EXPECT_EQ(data["causes"][0]["new"], true);
    EXPECT_EQ(data["causes"][0]["chain"], "2026-11-23T02:00:00+01:00");
    EXPECT_EQ(data["causes"][1]["new"], false);
    EXPECT_EQ(data["causes"][1]["failures"], 2);
    EXPECT_EQ(data["causes"][1]["reported"],
              (json{{"digest_id", 1}, {"at", "2026-11-22T04:00:01+01:00"}}));
    EXPECT_EQ(data["failures"].size(), 3U);
    EXPECT_EQ(data["failures"][1], (json{{"id", 10},
                                         {"queue", "research_jobs"},
                                         {"job_id", "4720"},
                                         {"source", "youtube"},
                                         {"job_type", "search_song"},
                                         {"target_type", "song"},
                                         {"target_id", "2d9c5a1e-6a8e-4f6e-9d51-0c8f3a1b2c3d"},
                                         {"status", "dead"},
                                         {"attempts", 3},
                                         {"max_attempts", 3},
                                         {"error", "HTTP 403: quota exceeded, resets in 4380 s"},
                                         {"failed_at", "2026-11-23T03:29:40+01:00"},
                                         {"chain", nullptr},
                                         {"cleared", false},
                                         {"url", "https://admin.example.com/jobs/4720"}}));
    EXPECT_EQ(data["truncated"], false);
    expect_exact(data);
}

TEST(WebhookBody, does_not_know_whether_an_unmarked_cause_is_new) {
    EXPECT_EQ(data_of(digest_of({sample_failure()}))["causes"][0]["new"], nullptr);
}

TEST(WebhookBody, tells_a_queue_that_cannot_be_read) {
    const json data = data_of(ordinary_digest(), 0);
    EXPECT_EQ(data["counts"]["unreadable_queues"], 1);
    EXPECT_EQ(data["causes"][0]["unreadable_queue"], true);
    ASSERT_EQ(data["failures"].size(), 1U) << "also where no job is listed";
    EXPECT_EQ(data["failures"][0]["status"], "unreadable");
    EXPECT_EQ(data["failures"][0]["url"], nullptr);
    expect_exact(data);
}

TEST(WebhookBody, is_ascii_of_one_line_and_holds_hostile_text_as_it_is) {
    for (const auto &[name, digest] : sample_digests()) {
        const std::string body = body_of(digest, 1000);
        for (const char c : body)
            ASSERT_TRUE(c >= ' ' && c <= '~') << name;
    }
    const json data = data_of(digest_of({hostile_failure()}));
    EXPECT_EQ(data["failures"][0]["job_type"], one_line(hostile_text, max_name));
    const json scripts = data_of(digest_of(failures_in_scripts()));
    for (std::size_t i = 0; i < failures_in_scripts().size(); ++i)
        EXPECT_EQ(scripts["failures"][i]["error"], *failures_in_scripts()[i].error);
}

TEST(WebhookBody, is_bounded_and_counts_what_it_leaves_out) {
    std::vector<std::string> bodies;
    for (const char *piece : {"'", "\"", "\\", "\xC3\xA9", "\xE8\xBF\x9E", "\xF0\x9F\x8E\xB5"}) {
        Digest digest = digest_of(large_failures(piece, 1100), 1000);
        digest.database = digest.cluster = repeated(piece, 100);
        digest.notes.assign(40, repeated(piece, 1000));
        bodies.push_back(body_of(digest, 1000));
        EXPECT_LE(bodies.back().size(), max_webhook_bytes) << piece;
        EXPECT_GT(bodies.back().size(), max_webhook_bytes / 3) << piece << " makes use of its room";
        const json data = json::parse(bodies.back())["data"];
        EXPECT_EQ(data["counts"]["failures"], 1100);
        EXPECT_EQ(data["truncated"], true);
        EXPECT_GT(data["failures"].size(), 0U);
        EXPECT_TRUE(contains(data["notes"].dump(), "more notes")) << data["notes"].dump();
        expect_exact(data);
    }
    EXPECT_TRUE(are_good(bodies));
    for (const auto &[name, digest] : sample_digests())
        expect_exact(data_of(digest));
}

TEST(WebhookBody, of_a_minimal_digest_has_its_counts_and_no_text_of_a_job) {
    Digest digest = digest_of(failures_of_kinds(13, 3));
    digest.notes = {minimal_note("HTTP 413")};
    const json data = data_of(minimal(digest));
    EXPECT_EQ(data["counts"]["failures"], 13);
    EXPECT_EQ(data["counts"]["of_other_causes"], 13);
    EXPECT_EQ(data["omitted"]["failures"], 13);
    EXPECT_EQ(data["failures"], json::array());
    EXPECT_FALSE(contains(data.dump(), "upstream"));
}

TEST(WebhookBody, is_the_same_bytes_for_the_same_digest) {
    EXPECT_EQ(body_of(ordinary_digest()), body_of(ordinary_digest()));
}

TEST(WebhookRequest, says_who_it_is_and_since_when) {
    const Request request =
        webhook_request("https://hooks.example.com/x?token=y", "job-1", 17, "", "{}");
    EXPECT_EQ(request.url, "https://hooks.example.com/x?token=y");
    EXPECT_EQ(request.body, "{}");
    const std::vector<std::string> headers = {"Content-Type: application/json",
                                              "User-Agent: job_alerting", "webhook-id: job-1",
                                              "webhook-timestamp: 17", "Idempotency-Key: job-1"};
    EXPECT_EQ(request.headers, headers);
}

TEST(WebhookRequest, is_signed_where_there_is_a_signature) {
    EXPECT_EQ(signed_text("job-1", 17, "{}"), "job-1.17.{}");
    EXPECT_EQ(webhook_request("", "job-1", 17, "c2lnbmF0dXJl", "").headers.back(),
              "webhook-signature: v1,c2lnbmF0dXJl");
}

} // namespace

} // namespace job_alerting::core
