// Named digests of every sort. `make samples` renders each for every channel, so that people and
// external checkers can judge the results.

#pragma once

#include "core/notes.hpp"

#include "samples.hpp"
#include "traces.hpp"

#include <string>
#include <utility>
#include <vector>

namespace job_alerting::core {

struct SampleDigest {
    std::string name;
    Digest digest;
};

// Markup of every kind that a mail, a message or a template might interpret.
inline const std::string hostile_text =
    "<script>alert('1')</script> <!channel> <!here|here> <@U024BE7LH> "
    "<https://evil.example.com|ok> "
    "*bold* _it_ ~no~ `code` ```x``` :boom: @channel \"{{query}}{{{query}}}{{/x}} &amp; &lt; "
    "http://evil.example.com \x1B[31m\x1B]0;x\x07\x1B(B\xC2\x9B"
    "1m\xE2\x80\xAE\x80";

inline Failure hostile_failure() {
    Failure failure = sample_failure();
    failure.queue = failure.job_id = hostile_text;
    failure.source = failure.job_type = hostile_text;
    failure.target_type = failure.target_id = failure.status = failure.chain = hostile_text;
    failure.error = hostile_text + "\n```\n" + hostile_text + "\r\n-- \nDigest #18";
    failure.failed_at = Moment{1, hostile_text};
    return failure;
}

// Errors in a dozen scripts. Three are written from right to left, and two need joiners.
inline std::vector<Failure> failures_in_scripts() {
    const std::vector<std::string> errors = {
        "Zeit\u00FCberschreitung beim L\u00F6schen",
        "\u041E\u0448\u0438\u0431\u043A\u0430 "
        "\u0441\u043E\u0435\u0434\u0438\u043D\u0435\u043D\u0438\u044F",
        "\u03A3\u03C6\u03AC\u03BB\u03BC\u03B1 \u03C3\u03CD\u03BD\u03B4\u03B5\u03C3\u03B7\u03C2",
        "\u0641\u0634\u0644 \u0627\u0644\u0627\u062A\u0635\u0627\u0644 (404)",
        "\u05D4\u05D7\u05D9\u05D1\u05D5\u05E8 \u05E0\u05DB\u05E9\u05DC (404)",
        "\u0915\u0928\u0947\u0915\u094D\u0936\u0928 \u0935\u093F\u092B\u0932",
        "\u0E01\u0E32\u0E23\u0E40\u0E0A\u0E37\u0E48\u0E2D\u0E21\u0E15\u0E48\u0E2D\u0E25\u0E49\u0E21"
        "\u0E40\u0E2B\u0E25\u0E27",
        "\u8FDE\u63A5\u5931\u8D25",
        "\u63A5\u7D9A\u306B\u5931\u6557\u3057\u307E\u3057\u305F",
        "\uC5F0\uACB0 \uC2E4\uD328 \U0001F4A5",
        "\u062E\u0637\u0627 \u0645\u06CC\u200C\u062F\u0647\u062F (404)",
        "\U0001F469\u200D\U0001F4BB \u26A0\uFE0F",
    };
    std::vector<Failure> failures;
    for (const std::string &error : errors) {
        const auto id = static_cast<std::int64_t>(failures.size() + 1);
        failures.push_back(sample_failure(id));
        failures.back().error = error;
        failures.back().job_type = "step " + std::to_string(id) + " " + error;
    }
    return failures;
}

inline std::vector<Failure> failures_of_kinds(int failures, int kinds) {
    std::vector<Failure> all;
    for (int i = 0; i < failures; ++i)
        all.push_back(of_kind(i % kinds, i + 1));
    return all;
}

inline Failure nightly_failure(std::int64_t id, const std::string &source,
                               const std::string &job_type, const std::string &time) {
    Failure failure = sample_failure(id);
    failure.source = source;
    failure.job_type = job_type;
    failure.failed_at = Moment{id, "2026-11-23T" + time + "+01:00"};
    return failure;
}

// The digest in doc/digest.md and in the screenshots of doc/.
inline Digest nightly_digest() {
    Failure died = nightly_failure(2, "apple", "refresh_catalog", "03:07:09");
    died.target_type = "artist";
    died.status = "dead";
    died.attempts = 1;
    died.error = "";
    died.chain = "2026-11-23T02:00:00+01:00";
    died.never_ran = {"apple/rebuild_index index"};

    Failure first_song = nightly_failure(10, "youtube", "search_song", "03:29:40");
    first_song.target_type = "song";
    first_song.target_id = "2d9c5a1e-6a8e-4f6e-9d51-0c8f3a1b2c3d";
    first_song.status = "dead";
    first_song.error = "HTTP 403: quota exceeded, resets in 4380 s";

    Failure second_song = nightly_failure(11, "youtube", "search_song", "03:31:07");
    second_song.target_type = "song";
    second_song.target_id = "b81f0a47-52c3-4e0b-8a66-7d2f9e1c4b05";
    second_song.status = "dead";
    second_song.error = "HTTP 403: quota exceeded, resets in 4293 s";

    Digest digest = digest_of({died, first_song, second_song});
    digest.id = 2;
    digest.cleared = 1;
    digest.previous = EarlierDigest{1, "2026-11-22T04:00:01+01:00"};
    digest.groups.front().causes.front().is_new = true;
    digest.groups.back().causes.front().reported = digest.previous;
    return digest;
}

// A broken chain, an unreadable queue, and jobs without a chain.
inline Digest ordinary_digest() {
    std::vector<Failure> failures;
    for (std::int64_t id = 1; id <= 3; ++id) {
        failures.push_back(sample_failure(id));
        failures.back().chain = "2026-07-14T01:00:00+00:00";
        failures.back().job_type = id < 3 ? "refresh_catalog" : "rebuild_index";
    }
    failures.back().error = "";
    failures.push_back(unreadable_queue("mail_jobs"));
    for (const Failure &failure : failures_of_kinds(9, 2))
        failures.push_back(failure);
    Digest digest = digest_of(failures);
    digest.cluster = "prod";
    digest.standing = 12;
    return digest;
}

// Stack traces of three languages, for two jobs each.
inline Digest digest_of_traces() {
    std::vector<Failure> failures;
    for (const Trace &trace : traces()) {
        if (trace.name != "Python" && trace.name != "Java" && trace.name != "Node, a cause")
            continue;
        for (const int line : {17, 1204}) {
            failures.push_back(sample_failure(static_cast<std::int64_t>(failures.size() + 1)));
            failures.back().error = filled_in(trace.text, trace.one, line);
        }
    }
    return digest_of(failures);
}

inline std::vector<SampleDigest> sample_digests() {
    Digest hostile = digest_of({hostile_failure(), unreadable_queue(hostile_text)});
    hostile.database = hostile.cluster = hostile_text;
    hostile.notes = {hostile_text};

    Digest late = digest_of({sample_failure()});
    late.notes = {late_note(3, "HTTP 403: action_prohibited"),
                  doubt_note(15, 2, "Connection timed out after 10001 milliseconds"),
                  promotion_note("2026-07-14T03:00:00+02:00")};

    Digest refused = ordinary_digest();
    refused.notes = {minimal_note("HTTP 400: invalid_blocks")};

    Digest previewed = digest_of({sample_failure()});
    previewed.id = 0;

    return {{"nightly", nightly_digest()},
            {"ordinary", ordinary_digest()},
            {"bare", digest_of({Failure(), bare_failure()})},
            {"hostile", std::move(hostile)},
            {"scripts", digest_of(failures_in_scripts())},
            {"traces", digest_of_traces()},
            {"one_cause", digest_of(std::vector<Failure>(100000, sample_failure()))},
            {"many_causes", digest_of(failures_of_kinds(100000, 100000))},
            {"late", std::move(late)},
            {"minimal", minimal(std::move(refused))},
            {"preview", std::move(previewed)}};
}

} // namespace job_alerting::core
