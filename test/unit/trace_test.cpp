#include "core/trace.hpp"
#include "core/history.hpp"
#include "core/slack.hpp"
#include "core/text.hpp"

#include "mails.hpp"
#include "traces.hpp"

#include <chrono>

namespace job_alerting::core {

namespace {

std::string telling_of(const Trace &trace, const std::string &exception, int number) {
    const std::string telling = trace.telling == "*" ? trace.text : trace.telling;
    return clean_line(filled_in(telling, filled_in(exception, "", number), number));
}

std::string text_of(const Trace &trace, const std::string &exception, int number) {
    return filled_in(trace.text, filled_in(exception, "", number), number);
}

TEST(TellingLine, is_the_exception_of_every_trace) {
    for (const Trace &trace : traces())
        for (const std::string &exception : {trace.one, trace.other}) {
            const std::string text = text_of(trace, exception, 17);
            EXPECT_EQ(telling_line(text), telling_of(trace, exception, 17)) << trace.name;
            EXPECT_EQ(telling_line("\n\n" + text + "\n"), telling_line(text)) << trace.name;
        }
}

TEST(TellingLine, separates_two_exceptions_with_the_same_frames) {
    for (const Trace &trace : traces())
        EXPECT_NE(normalise_error(text_of(trace, trace.one, 17)),
                  normalise_error(text_of(trace, trace.other, 17)))
            << trace.name;
}

TEST(TellingLine, recognises_an_exception_at_other_lines_and_addresses) {
    for (const Trace &trace : traces())
        EXPECT_EQ(normalise_error(text_of(trace, trace.one, 17)),
                  normalise_error(text_of(trace, trace.one, 1204)))
            << trace.name;
}

TEST(TellingLine, is_idempotent) {
    for (const Trace &trace : traces()) {
        const std::string telling = telling_line(text_of(trace, trace.one, 17));
        EXPECT_EQ(telling_line(telling), telling) << trace.name;
    }
}

TEST(TellingLine, is_found_in_a_trace_without_its_middle) {
    const std::string python = "  File \"/app/worker.py\", line 17, in run\n    step(job)\n";
    EXPECT_EQ(telling_line("Traceback (most recent call last):\n" + python +
                           "  File \"/a\n...\n, in f\n" + python + "KeyError: 'album'\n"),
              "KeyError: 'album'");
    const std::string java = "\tat com.example.Worker.run(Worker.java:17)\n";
    EXPECT_EQ(telling_line("java.lang.Error: outer\n" + java +
                           "\tat co\n...\nexample.Worker.f(W\n" + java +
                           "Caused by: java.io.EOFException\n" + java),
              "java.io.EOFException");
}

TEST(TellingLine, is_the_first_line_of_other_text) {
    EXPECT_EQ(telling_line("\n  HTTP 503\tfrom upstream \nretry later"), "HTTP 503 from upstream");
    EXPECT_EQ(telling_line("no album\n  at the end of the list"), "no album");
    EXPECT_EQ(telling_line("state A ---> B\nnothing more"), "state A ---> B");
    EXPECT_EQ(telling_line("no errors\nNO_ERROR: ok\nERRORS: 0"), "no errors");
    EXPECT_EQ(telling_line("Next step failed: x"), "Next step failed: x");
    EXPECT_EQ(telling_line("404: Not Found"), "404: Not Found");
    EXPECT_EQ(telling_line("the command failed\nCaused by:\n\nno idea"), "the command failed");
}

TEST(TellingLine, is_never_empty_for_visible_text) {
    for (const char *text : {"Traceback (most recent call last):",
                             "...",
                             "  File \"a\", line 1, in f",
                             "\tat a(b:1)",
                             "goroutine 1 [running]:",
                             "Caused by: ",
                             "Caused by:\n    0: ",
                             "** (",
                             "[cause]: ",
                             "thread 'a' panicked at '', b:1",
                             "thread 'a' panicked at ' ', b:1",
                             "+-+---------------- 1",
                             "Uncaught \nStack trace:\n#0 {main}",
                             "\nStack trace:\n#0 {main}",
                             " ---> \n at a(b)",
                             "[errors]: [",
                             "a:1:in `b': ",
                             "panic:  [recovered]",
                             "ERROR:",
                             "| "}) {
        EXPECT_NE(telling_line(text), "") << text;
        EXPECT_EQ(telling_line(telling_line(text)), telling_line(text)) << text;
    }
    EXPECT_EQ(telling_line(" \n\t\x1B[0m"), "");
    EXPECT_EQ(telling_line(repeated(" \n", 100000) + "in the midst" + repeated(" \n", 100000)),
              "in the midst");
}

TEST(TellingLine, is_bounded_and_takes_linear_time) {
    const auto time = [](const std::string &piece) {
        const std::string huge = "a\n" + repeated(piece, 300000 / piece.size()) + "\na";
        const auto begin = std::chrono::steady_clock::now();
        for (int i = 0; i < 20; ++i)
            EXPECT_LE(characters(telling_line(huge)), 2000U) << piece;
        return std::chrono::steady_clock::now() - begin;
    };
    const auto ordinary = time("some words\n");
    for (const char *piece :
         {"File \"a\", line 1\n", "panicked at 'thread ', ", "Caused by: ", " at a(\n", "+-+---\n",
          "** (", "Stack trace:\n#0 a\n", " ---> ", "[cause]: ", "| ", "\n", "[errors]: [\n"})
        EXPECT_LT(time(piece), 20 * ordinary) << piece;
}

TEST(Excerpt, begins_with_the_telling_line_and_ends_with_the_nearest_frames) {
    EXPECT_EQ(excerpt(text_of(traces()[0], "KeyError: 'album'", 17), 6, 600),
              "KeyError: 'album'\n"
              "  File \"/app/worker.py\", line 17, in run\n"
              "    handler(job)\n"
              "  File \"/app/refresh.py\", line 17, in refresh\n"
              "    album = catalog[job.album]");
    EXPECT_EQ(excerpt("java.lang.IllegalStateException: album 3\n"
                      "\tat com.example.Refresh.run(Refresh.java:12)\n"
                      "Caused by: java.net.ConnectException: Connection refused\n"
                      "and no more\n"
                      "\tat java.base/sun.nio.ch.Net.connect0(Native Method)\n"
                      "\t... 7 more\n",
                      6, 600),
              "java.net.ConnectException: Connection refused\n"
              "and no more\n"
              "java.lang.IllegalStateException: album 3\n"
              " at java.base/sun.nio.ch.Net.connect0(Native Method)\n"
              " ... 7 more\n"
              "...");
    EXPECT_EQ(excerpt("TypeError: fetch failed\n"
                      "    at fetch (/app/refresh.js:17:11) {\n"
                      "  [cause]: Error: read ECONNRESET\n"
                      "      at TCP.onread (node:net:17:16) {\n"
                      "    errno: -104\n"
                      "    }\n"
                      "  ]\n"
                      "}\n",
                      6, 600),
              "Error: read ECONNRESET\n"
              "TypeError: fetch failed\n"
              "      at TCP.onread (node:net:17:16) {\n"
              "    errno: -104\n"
              "...");
    EXPECT_EQ(excerpt("a\nNOTICE: b\nERROR: c\nDETAIL: d", 6, 600), "ERROR: c\nDETAIL: d\n...");
}

TEST(Excerpt, has_the_frames_of_its_exception) {
    EXPECT_EQ(excerpt(text_of(traces()[2], "worker.StepFailed", 17), 6, 600),
              "worker.StepFailed\n"
              "  File \"/app/worker.py\", line 17, in run\n"
              "    step(job)\n"
              "...");
    EXPECT_EQ(excerpt(text_of(traces()[3], "TimeoutError", 17), 6, 600),
              "TimeoutError\n"
              "  File \"/app/songs.py\", line 17, in fetch\n"
              "    await get(url)\n"
              "...");
    EXPECT_EQ(excerpt("  + Exception Group Traceback (most recent call last):\n"
                      "  |   File \"/app/worker.py\", line 17, in run\n"
                      "  | ExceptionGroup: songs (1 sub-exception)\n"
                      "  +-+---------------- 1 ----------------\n"
                      "    | OSError: broken\n"
                      "    | \n"
                      "    | The above exception was the direct cause of the following exception:\n"
                      "    | \n"
                      "    | ValueError: bad id\n"
                      "    +------------------------------------\n",
                      6, 600)
                  .find("The above"),
              std::string::npos);
}

TEST(Excerpt, is_the_first_lines_of_other_text) {
    for (const std::string &text : {std::string("HTTP 503\nretry later"), std::string("a\nb\nc\nd"),
                                    repeated("word ", 300), std::string("a\n\n  b\n at the end")})
        EXPECT_EQ(excerpt(text, 3, 100), first_lines(text, 3, 100));
}

TEST(Excerpt, fits_its_limits_and_begins_with_the_telling_line) {
    for (const Trace &trace : traces()) {
        const std::string text = text_of(trace, trace.one, 17);
        const std::string shown = excerpt(text, max_error_lines, max_error);
        EXPECT_TRUE(shown.starts_with(telling_line(text))) << shown;
        EXPECT_LE(lines_of(shown).size(), max_error_lines) << shown;
        EXPECT_LE(characters(shown), max_error) << shown;
        EXPECT_EQ(first_lines(shown, max_error_lines, max_error), shown);
    }
}

TEST(Digest, groups_every_trace_by_its_exception) {
    for (const Trace &trace : traces()) {
        SCOPED_TRACE(trace.name);
        std::vector<Failure> failures(3, sample_failure());
        for (Failure &failure : failures)
            failure.chain = "tonight";
        failures[0].error = text_of(trace, trace.one, 17);
        failures[1].error = text_of(trace, trace.other, 17);
        failures[2].error = text_of(trace, trace.one, 1204);
        Digest digest = digest_of(failures);
        ASSERT_EQ(digest.groups[0].causes.size(), 2U);
        EXPECT_EQ(digest.groups[0].causes[0].count, 2);

        History history(digest);
        history.take(failures[2], {12, "last week"});
        history.finish(true);
        EXPECT_TRUE(digest.groups[0].causes[0].reported);
        EXPECT_TRUE(digest.groups[0].causes[1].is_new);

        const std::string telling = clip(telling_line(*failures[0].error), 60);
        const Mail mail = render(digest, 50, "");
        EXPECT_TRUE(contains(mail.text, "    | " + telling.substr(0, 40))) << mail.text;
        EXPECT_TRUE(contains(digest.groups[0].broke->error, telling.substr(0, 40)));
        EXPECT_EQ(
            digest.groups[0].causes[1].listed[0].error->find(telling_line(*failures[1].error)), 0U);
    }
}

} // namespace

} // namespace job_alerting::core
