#include "core/slack.hpp"

#include "core/headline.hpp"
#include "core/text.hpp"

#include "mails.hpp"
#include "sample_digests.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace job_alerting::core {

namespace {

using nlohmann::json;

json message_of(const Digest &digest, std::size_t max_listed = 50,
                const std::string &url = job_url) {
    return json::parse(slack_body(digest, max_listed, url));
}

json message_of(const std::vector<Failure> &failures) {
    return message_of(digest_of(failures));
}

// All strings under `name`, in order. The visible text is under "text" and "url".
void collect(const json &value, const std::set<std::string> &names,
             std::vector<std::string> &found) {
    if (!value.is_structured())
        return;
    for (const auto &[name, part] : value.items())
        if (value.is_object() && part.is_string() && names.count(name))
            found.push_back(part);
        else
            collect(part, names, found);
}

std::vector<std::string> strings(const json &value, const std::set<std::string> &names) {
    std::vector<std::string> found;
    collect(value, names, found);
    return found;
}

std::string read(const json &message) {
    std::string all;
    for (const std::string &text : strings(message["blocks"], {"text", "url"}))
        all += text + "\n";
    return all;
}

void expect_plain(const json &text, std::size_t most) {
    EXPECT_EQ(text["type"], "plain_text") << text;
    EXPECT_FALSE(text.value("emoji", true));
    const std::string words = text["text"];
    EXPECT_FALSE(words.empty());
    // Holds even if Slack counts escaped characters.
    EXPECT_LE(characters(words) + 4 * occurrences(words, "&") + 3 * occurrences(words, "<") +
                  3 * occurrences(words, ">"),
              most);
}

void expect_rich(const json &block) {
    EXPECT_FALSE(block["elements"].empty());
    for (const json &part : block["elements"]) {
        const std::string type = part["type"];
        EXPECT_TRUE(type == "rich_text_section" || type == "rich_text_preformatted") << type;
        EXPECT_FALSE(part["elements"].empty());
        for (const json &element : part["elements"]) {
            EXPECT_TRUE(element["type"] == "text" || element["type"] == "link") << element;
            EXPECT_NE(element.value("text", element.value("url", "")), "") << element;
        }
    }
}

void expect_block(const json &block) {
    const std::string type = block["type"];
    if (type == "header") {
        expect_plain(block["text"], 150);
    } else if (type == "section") {
        expect_plain(block["text"], 3000);
    } else if (type == "context") {
        EXPECT_LE(block["elements"].size(), 10U);
        for (const json &element : block["elements"])
            expect_plain(element, 3000);
    } else if (type == "rich_text") {
        expect_rich(block);
    } else {
        EXPECT_EQ(type, "divider");
    }
}

// The message contains nothing that Slack refuses, and no job text in an element with markup.
void expect_well_made(const std::string &body) {
    for (const char c : body)
        EXPECT_TRUE(c >= ' ' && c <= '~');
    const json message = json::parse(body);
    EXPECT_EQ(message["unfurl_links"], false);
    EXPECT_EQ(message["unfurl_media"], false);
    EXPECT_EQ(message["mrkdwn"], false);
    const std::string fallback = message["text"];
    EXPECT_FALSE(fallback.empty());
    EXPECT_LE(characters(fallback), 4000U);
    EXPECT_FALSE(contains(fallback, "<") || contains(fallback, ">"));
    EXPECT_LE(message["blocks"].size(), max_slack_blocks);
    EXPECT_LE(characters(message.dump()), max_slack_characters);
    for (const json &block : message["blocks"])
        expect_block(block);
    EXPECT_FALSE(contains(body, "\"mrkdwn\",")) << "no element of markup";
}

TEST(SlackMessage, shows_the_details_of_the_mail_for_each_job) {
    const Digest digest = ordinary_digest();
    const json message = message_of(digest);
    const std::string all = read(message);
    EXPECT_EQ(message["text"], subject(digest));
    EXPECT_EQ(message["blocks"][0]["text"]["text"], headline(digest));
    for (const char *fact :
         {"12 jobs failed and queue mail_jobs could not be read in prod/approachnote",
          "Failed from ", "queue mail_jobs could not be read\n",
          "Failures in this queue go undetected until this is fixed.",
          "permission denied for table mail_jobs",
          "Chain 2026-07-14T01:00:00+00:00: 3 of its jobs failed\n",
          "apple/refresh_catalog: 2 jobs failed\n", "from 2026-07-14T03:11:00+02:00 to",
          "job 4711 in research_jobs, album/6f2c1a52-0d8e-4c7f-9b1c-2f3f5c1f7a10\n"
          "failed, attempts 3/3, 2026-07-14T03:11:00+02:00\n",
          "https://admin.example.com/jobs/4711\n", "HTTP 503 from upstream\n",
          "No error was recorded: the worker probably died.", "Not in a chain: 9 jobs failed",
          "Digest #17 of database approachnote in cluster prod.",
          "No earlier digest was accepted. 12 failures reported earlier still stand.",
          "SELECT * FROM job_alerting.digest_failure WHERE digest_id = 17;"})
        EXPECT_TRUE(contains(all, fact)) << fact << " in " << all;
    EXPECT_LT(all.find("mail_jobs could"), all.find("\nChain "));
    EXPECT_LT(all.find("\nChain "), all.find("\nNot in a chain"));
}

TEST(SlackMessage, is_always_well_formed) {
    for (const auto &[name, digest] : sample_digests()) {
        SCOPED_TRACE(name);
        for (const std::size_t max_listed : {0, 50, 500})
            for (const char *url : {"", "https://x/{job_id}?t={job_type}&q={queue}"})
                expect_well_made(slack_body(digest, max_listed, url));
    }
}

TEST(SlackMessage, shows_hostile_text_without_interpreting_it) {
    const json message = message_of({hostile_failure()});
    const std::string shown = clean_line(hostile_text);
    const std::string fallback = message["text"];
    EXPECT_TRUE(contains(read(message), "```\n" + shown.substr(0, 100)))
        << "in a preformatted part";
    EXPECT_TRUE(contains(fallback, "&lt;script&gt;alert('1')&lt;/script&gt;")) << fallback;
    for (const std::string &url : strings(message, {"url"}))
        EXPECT_TRUE(url.starts_with("https://admin.example.com/jobs/")) << url;
    for (const std::string &type : strings(message, {"type"}))
        EXPECT_FALSE(type == "broadcast" || type == "user" || type == "emoji" || type == "mrkdwn");
}

TEST(SlackMessage, links_a_job_only_to_its_page) {
    const json linked = message_of({sample_failure()});
    EXPECT_EQ(strings(linked, {"url"}),
              std::vector<std::string>{"https://admin.example.com/jobs/4711"});
    for (const char *url : {"", "javascript:{job_id}"})
        EXPECT_TRUE(strings(message_of(digest_of({sample_failure()}), 50, url), {"url"}).empty());
}

TEST(SlackMessage, fits_its_limits_with_the_largest_fields) {
    for (const char *piece : {"'", "\"", "&", "<", "\\", "\xF0\x9F\x8E\xB5", "a ", "\"&"}) {
        for (const int kinds : {1, 40, 400}) {
            std::vector<Failure> failures;
            for (int i = 0; i < kinds + 300; ++i) {
                Failure failure = sample_failure(i);
                const std::string large = kind(i % kinds) + repeated(piece, 100);
                failure.queue = failure.job_id = large;
                failure.source = failure.job_type = large;
                failure.target_type = failure.target_id = failure.status = large;
                failure.chain = i % 3 == 0 ? large : "";
                failure.error = repeated(repeated(piece, 90) + "\n", 8);
                failures.push_back(failure);
            }
            Digest digest = digest_of(failures, 500);
            digest.database = digest.cluster = repeated(piece, 100);
            digest.notes.assign(40, repeated(piece, 1000));
            const std::string body = slack_body(digest, 500, "https://x/{queue}/{job_id}");
            SCOPED_TRACE(piece);
            expect_well_made(body);
            EXPECT_TRUE(contains(body, " more notes.")) << "omitted notes are counted";
        }
    }
}

// The sum of the numbers before every `word` in the text.
std::int64_t numbers_before(const std::string &text, const std::string &word) {
    std::int64_t all = 0;
    for (auto at = text.find(word); at != text.npos; at = text.find(word, at + 1)) {
        auto begin = at;
        while (begin > 0 && text[begin - 1] >= '0' && text[begin - 1] <= '9')
            --begin;
        if (begin < at)
            all += std::stoll(text.substr(begin, at - begin));
    }
    return all;
}

// For a digest without unnamed failures: checks that shown and omitted failures add up to all.
// Returns the number of listed jobs.
std::int64_t expect_sum(const std::vector<Failure> &failures) {
    std::string all = read(message_of(failures));
    all = all.substr(all.find('\n')); // the header counts them, too
    EXPECT_EQ(numbers_before(all, " job failed") + numbers_before(all, " jobs failed") +
                  numbers_before(all, " failure.") + numbers_before(all, " failures.") +
                  numbers_before(all, " failures are only counted here"),
              static_cast<std::int64_t>(failures.size()))
        << all;
    const auto listed = static_cast<std::int64_t>(occurrences(all, "\njob "));
    EXPECT_GE(listed, std::min<std::int64_t>(static_cast<std::int64_t>(failures.size()), 5))
        << "and uses its room";
    return listed;
}

TEST(SlackMessage, adds_up_to_the_count_of_the_digest) {
    for (const auto &[failures, kinds] : std::vector<std::pair<int, int>>{
             {1, 1}, {60, 7}, {60, 60}, {1000, 150}, {100000, 100000}}) {
        expect_sum(failures_of_kinds(failures, kinds));
        std::vector<Failure> chained = failures_of_kinds(failures, kinds);
        for (Failure &failure : chained)
            failure.chain = "c" + failure.job_type.value();
        expect_sum(chained);
    }
}

TEST(SlackMessage, counts_the_jobs_of_one_cause_that_it_does_not_list) {
    const std::vector<Failure> failures(100000, sample_failure());
    const std::int64_t listed = expect_sum(failures);
    EXPECT_EQ(listed + numbers_before(read(message_of(failures)), " more like this"), 100000);
}

TEST(SlackMessage, lists_a_job_of_each_cause_before_a_second_of_any) {
    std::vector<Failure> failures(100, of_kind(0));
    for (int i = 1; i < 10; ++i)
        failures.push_back(of_kind(i));
    const std::string all = read(message_of(digest_of(failures), 10));
    EXPECT_EQ(occurrences(all, "\njob "), 10U);
    EXPECT_TRUE(contains(all, "and 99 more like this"));
}

TEST(SlackMessage, fits_the_limit_on_blocks_with_short_texts) {
    std::vector<Failure> failures;
    for (int i = 0; i < 60; ++i) {
        failures.push_back(Failure());
        failures.back().job_id = "1";
        failures.back().chain = kind(i);
    }
    const std::string body = slack_body(digest_of(failures, 0), 0, "");
    expect_well_made(body);
    EXPECT_GT(json::parse(body)["blocks"].size(), max_slack_blocks - 10);
}

TEST(SlackMessage, shows_text_of_every_script) {
    const std::string all = read(message_of(failures_in_scripts()));
    for (const Failure &failure : failures_in_scripts())
        EXPECT_TRUE(contains(all, "\n" + *failure.error + "\n")) << *failure.error;
}

TEST(SlackMessage, drops_no_job_because_of_the_limit_on_blocks) {
    std::vector<Failure> failures;
    for (int i = 0; i < 14; ++i) {
        failures.push_back(of_kind(i, i + 1));
        failures.back().chain = kind(i);
        failures.back().never_ran = {"rebuild_index"};
        failures.back().error = "no";
    }
    const std::string all = read(message_of(failures));
    const auto causes = occurrences(all, "1 job failed");
    EXPECT_LT(causes, failures.size());
    EXPECT_GT(causes, 8U);
    EXPECT_EQ(occurrences(all, "\njob "), causes) << all;
}

TEST(SlackMessage, shows_its_notes_and_its_minimal_form) {
    for (const auto &[name, digest] : sample_digests()) {
        const std::string all = read(message_of(digest));
        for (const std::string &note : digest.notes)
            EXPECT_TRUE(contains(all, "Note: \n" + clean_line(note).substr(0, 200))) << name;
        EXPECT_EQ(contains(all, "13 failures are only counted here. The query below lists all."),
                  name == "minimal");
        EXPECT_EQ(contains(all, "SELECT"), name != "preview");
    }
}

TEST(SlackMessage, is_the_same_for_the_same_digest) {
    EXPECT_EQ(slack_body(ordinary_digest(), 50, job_url),
              slack_body(ordinary_digest(), 50, job_url));
}

TEST(SlackRequest, goes_to_the_webhook_as_json) {
    const Request request = slack_request("https://hooks.slack.com/services/T0/B0/x", "{}");
    EXPECT_EQ(request.url, "https://hooks.slack.com/services/T0/B0/x");
    EXPECT_EQ(request.headers, std::vector<std::string>{"Content-Type: application/json"});
    EXPECT_EQ(request.body, "{}");
}

} // namespace

} // namespace job_alerting::core
