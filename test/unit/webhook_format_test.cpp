#include "core/webhook_format.hpp"

#include "sample_digests.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace job_alerting::core {

namespace {

using nlohmann::json;

const char *const names[] = {"discord", "google_chat", "mattermost", "teams"};
const WebhookEvent event = {"job-alerting-17-0123456789abcdef01234567", "2026-07-14T01:00:00Z"};

std::string body_of(const char *name, const Digest &digest, std::size_t max_listed = 50) {
    return formatted_body(digest, event, *webhook_format(name), max_listed,
                          "https://admin.example.com/jobs/{job_id}");
}

// The text that the receiver shows.
std::string shown(const char *name, const std::string &body) {
    const json message = json::parse(body);
    if (message.contains("attachments"))
        return message["attachments"][0]["content"]["body"][1]["inlines"][0]["text"];
    std::string text = message[std::string(name) == "discord" ? "content" : "text"];
    EXPECT_TRUE(text.starts_with("```\n") && text.ends_with("\n```")) << text;
    return text.substr(4, text.size() - 7);
}

std::size_t utf16_units(const std::string &text) {
    std::size_t units = 0;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        units += byte < 0x80 || byte >= 0xC0 ? (byte >= 0xF0 ? 2 : 1) : 0;
    }
    return units;
}

// The limits that the receivers publish.
void expect_accepted(const std::string &name, const std::string &body) {
    const json message = json::parse(body);
    if (name == "discord") {
        EXPECT_LE(utf16_units(message["content"]), 2000U);
        EXPECT_EQ(message["allowed_mentions"], (json{{"parse", json::array()}}));
    } else if (name == "mattermost") {
        EXPECT_LE(message["text"].get<std::string>().size(), 16383U);
    } else {
        EXPECT_LE(body.size(), name == "teams" ? 28000U : 32000U);
    }
}

// The digests of a cluster and a database with the longest names that PostgreSQL has.
std::vector<SampleDigest> large_digests() {
    std::vector<SampleDigest> all;
    for (const char *piece : {"'", "\"", "`", "\xC3\xA9", "\xF0\x9F\x8E\xB5"}) {
        std::vector<Failure> failures;
        for (int i = 0; i < 1100; ++i) {
            failures.push_back(of_kind(i, i));
            failures.back().target_type = kind(i) + repeated(piece, 100);
            failures.back().error = repeated(repeated(piece, 90) + "\n", 8);
        }
        Digest digest = digest_of(failures, 1000);
        digest.database = repeated(piece, 63 / std::string(piece).size());
        digest.cluster = repeated("c", 63);
        digest.notes.assign(40, repeated(piece, 1000));
        all.push_back({piece, std::move(digest)});
    }
    return all;
}

TEST(WebhookFormat, is_known_by_its_name) {
    for (const char *name : names)
        EXPECT_STREQ(webhook_format(name)->name, name);
    for (const char *name : {"", "json", "Discord", "slack"})
        EXPECT_EQ(webhook_format(name), nullptr) << name;
    EXPECT_EQ(webhook_format_names(), "discord, google_chat, mattermost and teams");
}

TEST(WebhookFormat, shows_the_text_of_the_mail) {
    const Mail mail = render(nightly_digest(), 50, "https://admin.example.com/jobs/{job_id}");
    for (const char *name : names)
        EXPECT_EQ(shown(name, body_of(name, nightly_digest())), mail.text) << name;
}

TEST(WebhookFormat, obeys_the_limits_of_its_receiver_and_counts_what_they_omit) {
    std::vector<SampleDigest> digests = large_digests();
    for (SampleDigest &sample : sample_digests())
        if (sample.name != "hostile") // its database has a name that PostgreSQL would not allow
            digests.push_back(std::move(sample));
    for (const char *name : names)
        for (const auto &[sample, digest] : digests) {
            SCOPED_TRACE(std::string(name) + " " + sample);
            const std::string body = body_of(name, digest, 1000);
            expect_accepted(name, body);
            EXPECT_TRUE(contains(shown(name, body), std::to_string(digest.count) + " job") ||
                        contains(shown(name, body), "queue"))
                << body;
        }
}

TEST(WebhookFormat, is_ascii_and_holds_hostile_text_as_text) {
    const std::string hostile = hostile_text + "```\"}]}\\u0022\\";
    Failure failure = sample_failure();
    failure.error = failure.job_type = hostile;
    const Digest digest = digest_of({failure});
    const std::string text = render(digest, 50, "").text;
    for (const char *name : names) {
        const std::string body = formatted_body(digest, event, *webhook_format(name), 50, "");
        for (const char c : body)
            ASSERT_TRUE(c >= ' ' && c <= '~') << name;
        std::string expected = text;
        if (std::string(name) != "teams")
            std::replace(expected.begin(), expected.end(), '`', '\'');
        EXPECT_EQ(shown(name, body), expected) << name;
    }
}

TEST(WebhookFormat, has_a_test_message) {
    const Mail test = {"Test \"message\"", "It works.\n", ""};
    for (const char *name : names)
        EXPECT_EQ(shown(name, formatted_test_body(test, event, *webhook_format(name))),
                  "It works.\n")
            << name;
}

TEST(WebhookFormat, is_the_same_bytes_for_the_same_digest) {
    for (const char *name : names)
        EXPECT_EQ(body_of(name, ordinary_digest()), body_of(name, ordinary_digest()));
}

} // namespace

} // namespace job_alerting::core
