#include "core/text.hpp"
#include "core/wrap.hpp"

#include "samples.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <set>

namespace job_alerting::core {

namespace {

using namespace std::string_view_literals;

TEST(Clean, keeps_plain_text_and_letters_of_all_scripts) {
    EXPECT_EQ(clean("a b\nc"), "a b\nc");
    const std::string scripts = "\xC3\xA9\xD0\x96\xE4\xB8\xAD\xF0\x9F\x8E\xB5";
    EXPECT_EQ(clean(scripts), scripts);
    EXPECT_EQ(clean(""), "");
}

TEST(Clean, replaces_every_line_end_by_a_line_feed) {
    EXPECT_EQ(clean("a\r\nb\rc\nd"), "a\nb\nc\nd");
    EXPECT_EQ(clean("a\xC2\x85"
                    "b\xE2\x80\xA8"
                    "c\xE2\x80\xA9"
                    "d"),
              "a\nb\nc\nd");
}

TEST(Clean, replaces_a_tab_by_a_space) {
    EXPECT_EQ(clean("a\tb\vc\fd"), "a b c d");
}

TEST(Clean, removes_control_characters) {
    EXPECT_EQ(clean("a\0b\x01\x07"
                    "c\x7F\xC2\x80\xC2\x9F"
                    "d"sv),
              "abcd");
}

TEST(Clean, removes_terminal_control_sequences) {
    for (const char *sequence : {
             "\x1B[31;1m",                        // colours
             "\x1B[0m",                           //
             "\x1B[38:2::255:0:0m",               // with colons
             "\x1B[m",                            //
             "\x1B[?25l",                         // a private mode
             "\x1B[2 q",                          // with an intermediate byte
             "\x1B[1A",                           //
             "\x1B]0;title\x07",                  // a title, ended by BEL
             "\x1B]8;;https://example.com\x1B\\", // a link, ended by ST
             "\x1B]8;;\xC2\x9C",                  // ended by ST as a C1 control
             "\x1BP1$r0m\x1B\\",                  // DCS
             "\x1BX text\x1B\\",                  // SOS
             "\x1B^ text\x1B\\",                  // PM
             "\x1B_Gf=24;AAAA\x1B\\",             // APC
             "\x1B(B",                            // a character set
             "\x1B%G",                            // another coding
             "\x1B#8",                            //
             "\x1B$(D",                           // with two intermediate bytes
             "\x1B"
             "7",     // single
             "\x1B=", //
             "\x1B"
             "c", //
             "\xC2\x9B"
             "31m", // C1 controls: CSI
             "\xC2\x9D"
             "0;title\x07", // OSC
             "\xC2\x9D"
             "0;title\xC2\x9C", //
             "\xC2\x90"
             "1$r0m\xC2\x9C",         // DCS
             "\xC2\x98 text\xC2\x9C", // SOS
             "\xC2\x9E text\xC2\x9C", // PM
             "\xC2\x9F text\x1B\\",   // APC
             "\xC2\x84",              // single
         }) {
        EXPECT_EQ(clean(std::string("ERR") + sequence + "OR"), "ERROR") << sequence + 1;
        EXPECT_EQ(clean(std::string(sequence)), "") << sequence + 1;
    }
    EXPECT_EQ(clean("\x1B[31;1mERROR\x1B[0m \x1B]8;;https://a.example\x1B\\here\x1B]8;;\x1B\\"),
              "ERROR here");
}

TEST(Clean, hides_no_text_after_an_unfinished_control_sequence) {
    EXPECT_EQ(clean("a\x1B]0;title"), "a0;title") << "without an end";
    EXPECT_EQ(clean("a\x1B]0;title\nb\x07"), "a0;title\nb") << "broken off by the end of its line";
    EXPECT_EQ(clean("a\x1B]0;b\x1B[31mc\x07"), "a0;bc") << "by another sequence";
    EXPECT_EQ(clean("a\xC2\x9D"
                    "0;b\xC2\x9B"
                    "31mc"),
              "a0;bc");
    EXPECT_EQ(clean("a\x1B[31\nb"), "a\nb");
    EXPECT_EQ(clean("a\x1B[31\xC3\xA9"), "a\xC3\xA9");
    EXPECT_EQ(clean("a\x1B\nb"), "a\nb");
    EXPECT_EQ(clean("a\x1B"), "a");
    EXPECT_EQ(clean("a\x1B("), "a(");
    EXPECT_EQ(clean("a\xC2\x85\x1B"
                    "Eb"),
              "a\nb")
        << "NEL in C1 ends a line";
}

TEST(Clean, takes_linear_time_for_unfinished_control_sequences) {
    for (const char *piece : {"\x1B]", "\x1BP\x1B", "\xC2\x9D", "\x1B[", "\x1B(", "\x1B]a"})
        EXPECT_LE(clean(repeated(piece, 1000000)).size(), 2000000U);
}

TEST(Clean, keeps_joiners_where_they_join) {
    for (const char *joined : {
             "\xD9\x85\xDB\x8C\xE2\x80\x8C\xD8\xAE\xD9\x88",         // Persian, ZWNJ
             "\xE0\xA4\x95\xE0\xA5\x8D\xE2\x80\x8D\xE0\xA4\xB7",     // Hindi, ZWJ
             "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x92\xBB",         // a technician
             "\xE2\x9D\xA4\xEF\xB8\x8F\xE2\x80\x8D\xF0\x9F\x94\xA5", // a heart on fire
             "\xE2\x9A\xA0\xEF\xB8\x8F deprecated",                  // a warning sign
         })
        EXPECT_EQ(clean(joined), joined);
    EXPECT_EQ(clean("Key\xE2\x80\x8C"
                    "Error"),
              "KeyError")
        << "nothing to join";
    EXPECT_EQ(clean("\xE2\x80\x8D \xE2\x80\x8C\n\xE3\x80\x80\xEF\xB8\x8F"), " \n\xE3\x80\x80");
    EXPECT_EQ(clean("\xC3\xA9" + repeated("\xE2\x80\x8D\xE2\x80\x8C", 9)), "\xC3\xA9\xE2\x80\x8D");
}

TEST(Clean, removes_bidirectional_characters) {
    for (const char *bidi : {"\xD8\x9C", "\xE2\x80\x8E", "\xE2\x80\x8F", "\xE2\x80\xAA",
                             "\xE2\x80\xAE", "\xE2\x81\xA6", "\xE2\x81\xA9"})
        EXPECT_EQ(clean(std::string("a") + bidi + "b"), "ab");
}

TEST(Clean, removes_invisible_characters) {
    for (const char *invisible :
         {"\xC2\xAD", "\xCD\x8F", "\xE1\x85\x9F", "\xE2\x80\x8B", "\xE2\x80\x8D", "\xE2\x81\xA0",
          "\xE3\x85\xA4", "\xEF\xB8\x8F", "\xEF\xBB\xBF", "\xEF\xBE\xA0", "\xEF\xBF\xB9",
          "\xEF\xBF\xBF", "\xF3\xA0\x80\x81", "\xF3\xA0\x81\x81", "\xF0\x9F\xBF\xBE"})
        EXPECT_EQ(clean(std::string("a") + invisible + "b"), "ab");
}

TEST(Clean, keeps_the_neighbours_of_removed_characters) {
    for (const char *visible : {"\xC2\xA0", "\xC2\xAC", "\xC2\xAE", "\xE2\x80\x90", "\xE2\x80\xAF",
                                "\xEF\xBF\xBD", "\xEE\x80\x80"})
        EXPECT_EQ(clean(visible), visible);
}

TEST(Clean, replaces_every_malformed_byte_by_a_question_mark) {
    EXPECT_EQ(clean("a\x80z"), "a?z") << "a continuation byte alone";
    EXPECT_EQ(clean("a\xC3z"), "a?z") << "a lead byte alone";
    EXPECT_EQ(clean("a\xC0\x80z"), "a??z") << "an overlong NUL";
    EXPECT_EQ(clean("a\xC1\xBFz"), "a??z") << "an overlong ASCII character";
    EXPECT_EQ(clean("a\xE0\x80\xAFz"), "a???z") << "an overlong slash in three bytes";
    EXPECT_EQ(clean("a\xF0\x80\x80\xAFz"), "a????z") << "an overlong slash in four bytes";
    EXPECT_EQ(clean("a\xED\xA0\x80z"), "a???z") << "a surrogate";
    EXPECT_EQ(clean("a\xED\xBF\xBFz"), "a???z") << "the last surrogate";
    EXPECT_EQ(clean("a\xF4\x90\x80\x80z"), "a????z") << "beyond U+10FFFF";
    EXPECT_EQ(clean("a\xF5\x80\x80\x80z"), "a????z") << "a byte that begins nothing";
    EXPECT_EQ(clean("a\xFE\xFFz"), "a??z") << "bytes that are never used";
    EXPECT_EQ(clean("a\xC3"), "a?") << "cut off after one of two";
    EXPECT_EQ(clean("a\xC3\xA9"sv.substr(0, 2)), "a?") << "cut off, with more behind the end";
    EXPECT_EQ(clean("a\xE4\xB8"), "a??") << "cut off after two of three";
    EXPECT_EQ(clean("a\xF0\x9F\x8E"), "a???") << "cut off after three of four";
    EXPECT_EQ(clean("\xE4\xB8\xE4\xB8\xAD"), "??\xE4\xB8\xAD") << "a whole one after a broken one";
}

TEST(CleanLine, replaces_each_run_of_white_space_by_one_space) {
    EXPECT_EQ(clean_line("  a \t\r\n\xC2\xA0\xE3\x80\x80 b\n"), "a b");
    EXPECT_EQ(clean_line(" \n\t "), "");
}

TEST(OneLine, equals_clean_line_and_clip) {
    const std::string hostile = repeated("a \xF0\x9F\x8E\xB5\n\x80\xE2\x80\xAE", 50);
    for (std::size_t most = 0; most < 120; ++most)
        EXPECT_EQ(one_line(hostile, most), clip(clean_line(hostile), most));
}

TEST(Clip, keeps_text_that_fits) {
    EXPECT_EQ(clip("abcde", 5), "abcde");
    EXPECT_EQ(clip("", 0), "");
}

TEST(Clip, marks_a_cut_within_the_limit) {
    EXPECT_EQ(clip("abcdef", 5), "ab...");
    EXPECT_EQ(clip("abcdef", 3), "...");
    EXPECT_EQ(clip("abcdef", 1), ".");
    EXPECT_EQ(clip("abcdef", 0), "");
}

TEST(Clip, cuts_between_characters) {
    const std::string notes = repeated("\xF0\x9F\x8E\xB5", 6);
    EXPECT_EQ(clip(notes, 6), notes);
    EXPECT_EQ(clip(notes, 5), repeated("\xF0\x9F\x8E\xB5", 2) + "...");
    EXPECT_EQ(clip("\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9", 4), "\xC3\xA9...");
}

TEST(FirstLines, skips_empty_lines_and_keeps_the_indentation) {
    EXPECT_EQ(first_lines("\n\n error  \n\n   at a\n", 6, 600), " error\n   at a");
}

TEST(FirstLines, marks_omitted_lines) {
    EXPECT_EQ(first_lines("a\nb\nc", 2, 600), "a\nb ...");
    EXPECT_EQ(first_lines("a\nb\n \n", 2, 600), "a\nb");
}

TEST(FirstLines, marks_omitted_characters) {
    EXPECT_EQ(first_lines("abcdefgh", 6, 6), "abc...");
    EXPECT_EQ(first_lines("abcdef\ng", 1, 6), "abc...");
}

TEST(FirstLines, is_idempotent) {
    for (const std::string &error : {repeated("a\n", 20), repeated("\xF0\x9F\x8E\xB5", 900),
                                     repeated("word ", 200), repeated("x", 597) + "\n\n y\nz"}) {
        const std::string once = first_lines(error, 6, 600);
        EXPECT_EQ(first_lines(once, 6, 600), once);
    }
}

TEST(FirstLines, finds_text_after_megabytes_of_white_space) {
    EXPECT_EQ(first_lines(repeated(" \n\xE2\x80\x8B", 1000000) + "late", 6, 600), "late");
}

TEST(NormaliseError, masks_parts_that_differ_from_job_to_job) {
    const std::pair<const char *, const char *> alike[] = {
        {"timeout after 31 s on host 10.0.0.7", "timeout after 45 s on host 10.0.0.9"},
        {"took 31s", "took 1,204.5s"},
        {"row 6f2c1a52-0d8e-4c7f-9b1c-2f3f5c1f7a10", "row 00000000-ABCD-ABCD-ABCD-abcdefabcdef"},
        {"at 0x7f3a10", "at 0xdeadbeef"},
        {"commit 1a2b3c4d5e gone", "commit ffeeddcc00bb gone"},
        {"no 'a' here", "no 'b c, can't d' here"},
        {"no \"a\" here", "no \"it's b\" here"},
        {"no `a` here", "no `b` here"},
        {"at 2026-07-14T03:12:09Z!", "at 2026-07-15 03:12:09.123456+02:00!"},
        {"at 2026-07-14T03:12!", "at 2026-07-15 03:12:09,5+0200!"},
        {"step12b of 3", "step7b of 4"},
        {"no account for ann.lee+x@mail.example.com.", "no account for bob@example.org."},
        {"<ann@a.example.co.uk>: unknown", "<b_o@b.example.io>: unknown"},
        {"key sk_test_4eC39HqLyjWDarjtT1zdp7dc is revoked",
         "key sk_test_9aQ27KfWbvTRzmNpX8cLq0Ys is revoked"},
        {"session dGhpcyBpcyBub3QgYSBr+XkgYXQgYWxs/Q== is over",
         "session c29tZXRoaW5nIGVs/2Ugd2+UaGVy0Z== is over"},
        {"request 01HF3K9Z2M8Q7X5V4T6W0R1S2B failed", "request 01HF3K9Z3C7P1X0B9N2M4K6J8D failed"},
        {"token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmN.",
         "token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI5In0.Xk2fQ9aTz7LbVw0c."},
        {"GET https://a.example.com/songs?q=blue&page=2 failed",
         "GET https://a.example.com/songs?q=green&sort=up failed"},
        {"refused with url: /search/?q=a%20b (Caused by x)",
         "refused with url: /search/?term=c (Caused by x)"},
        {"HTTP 503 after 30 s", "HTTP 503 after 7 s"},
        {"job 503 is lost", "job 418 is lost"},
        {"GET http://10.0.0.7/503 failed", "GET http://10.0.0.8/418 failed"},
        {"code 12345", "code 54321"},
        {"same\nat line 1", "\n  same  \nelsewhere"},
    };
    for (const auto &[one, other] : alike) {
        EXPECT_EQ(normalise_error(one), normalise_error(other)) << one;
        EXPECT_TRUE(contains(normalise_error(one), "#") || contains(one, "same")) << one;
    }
}

TEST(NormaliseError, separates_errors_with_different_words) {
    EXPECT_NE(normalise_error("can't open a"), normalise_error("can't open b"));
    EXPECT_NE(normalise_error("don't and can't a"), normalise_error("don't and can't b"));
    EXPECT_NE(normalise_error("can't open 'x'"), normalise_error("can't shut 'x'"));
    EXPECT_NE(normalise_error("users' rows of a"), normalise_error("users' rows of b"));
    EXPECT_NE(normalise_error("an open ' quote a"), normalise_error("an open ' quote b"));
    EXPECT_NE(normalise_error("facade"), normalise_error("decade"));
    EXPECT_NE(normalise_error("a 'x' b"), normalise_error("a 'x' c"));
}

TEST(NormaliseError, separates_errors_with_different_statuses) {
    for (const char *error :
         {"HTTP @ from upstream", "HTTP/1.1 @ Service Unavailable", "HTTP Error @: see above",
          "Request failed with status code @", "status: @", "status=@", "{\"status\": @}",
          "statusCode=@", "status_code: @", "the server responded with a status of @ ()",
          "exit code @", "HTTP response code: @ for URL", "urllib.error.HTTPError: HTTP Error @: x",
          "error code: @.", "(code: @)"}) {
        const auto with = [&](const char *status) {
            std::string text = error;
            return text.replace(text.find('@'), 1, status);
        };
        EXPECT_NE(normalise_error(with("500")), normalise_error(with("429"))) << error;
        EXPECT_TRUE(contains(normalise_error(with("500")), "500")) << error;
        EXPECT_EQ(normalise_error(with("5001")), normalise_error(with("4290"))) << error;
        EXPECT_EQ(normalise_error(with("500.5")), normalise_error(with("429.1"))) << error;
    }
}

TEST(NormaliseError, keeps_names_and_words) {
    for (const char *error :
         {"java.lang.IllegalStateException: no album",
          "org.springframework.beans.factory.UnsatisfiedDependencyException",
          "Illuminate\\Queue\\MaxAttemptsExceededException",
          "HTTPSConnectionPoolTimeoutErrorInOurOwnClient", "sqlalchemy.exc.DBAPIError: gone",
          "com.example.IOSURLSessionHTTPErrorHandlerFactoryBean",
          "no such file: /usr/lib/python/dist-packages/x",
          "internal_server_error_while_refreshing_the_catalog", "a-rather-long-name-of-a-queue",
          "ReadTimeout at https://catalog.example.com/songs/search", "really? yes = no", "a ? b=c",
          "user@localhost is unknown", "facade of the decade", "x=y? no"})
        EXPECT_EQ(normalise_error(error), error);
    EXPECT_EQ(normalise_error("left-pad@1.3.0 and sha256WithRSAEncryption"),
              "left-pad@# and sha#WithRSAEncryption");
    EXPECT_NE(normalise_error("KeyError: 'a'"), normalise_error("ValueError: 'a'"));
}

TEST(NormaliseError, masks_most_ids_of_one_case) {
    std::mt19937 dice(20261125);
    for (const std::string letters :
         {"0123456789ABCDEFGHJKMNPQRSTVWXYZ", "0123456789abcdefghijklmnopqrstuvwxyz"}) {
        std::set<std::string> causes;
        for (int i = 0; i < 300; ++i) {
            std::string id;
            while (id.size() < 26)
                id += letters[dice() % letters.size()];
            causes.insert(normalise_error("job " + id + " is lost"));
        }
        EXPECT_LE(causes.size(), 20U) << letters;
        EXPECT_TRUE(causes.contains("job # is lost"));
    }
    EXPECT_EQ(normalise_error("libx264encoder2pass"), "libx#encoder#pass");
}

TEST(NormaliseError, is_bounded_and_fast_for_any_input) {
    for (const char *piece :
         {"a", "'", "' '", "\"`'", "0", "f", "0x", "2026-07-14 ", "\xC3", "\n ", "\xE2\x80\x8B",
          "'a", "f-", "a@", "a.", "?a=", "aB1-", "eyJ", "HTTP 500 "}) {
        const std::string huge = repeated(piece, 5000000 / std::string_view(piece).size());
        EXPECT_LE(characters(normalise_error(huge)), 200U) << piece;
    }
}

TEST(NormaliseError, takes_linear_time_for_unclosed_quotes) {
    const auto time = [](const std::string &error) {
        const auto begin = std::chrono::steady_clock::now();
        for (int i = 0; i < 100; ++i)
            normalise_error(error);
        return std::chrono::steady_clock::now() - begin;
    };
    EXPECT_LT(time(repeated(" 'a", 1000)), 10 * time(repeated(" -a", 1000)));
}

TEST(PercentEncode, encodes_all_but_unreserved_characters) {
    EXPECT_EQ(percent_encode("Az09-._~"), "Az09-._~");
    EXPECT_EQ(percent_encode("/?#&=+ %\"<>{}'\n"), "%2F%3F%23%26%3D%2B%20%25%22%3C%3E%7B%7D%27%0A");
    EXPECT_EQ(percent_encode("\xC3\xA9"), "%C3%A9");
    EXPECT_EQ(percent_encode(std::string_view("\0\xFF", 2)), "%00%FF");
}

TEST(Wrap, breaks_long_lines_between_words) {
    EXPECT_EQ(wrap("aaa bbb ccc", 7), "aaa bbb\n  ccc\n");
    EXPECT_EQ(wrap("aaa  bbb", 20), "aaa  bbb\n");
    EXPECT_EQ(wrap("\xC3\xA9\xC3\xA9 \xC3\xA9\xC3\xA9", 5), "\xC3\xA9\xC3\xA9 \xC3\xA9\xC3\xA9\n");
}

TEST(Wrap, indents_continuation_lines_or_repeats_the_bar) {
    EXPECT_EQ(wrap("  aaa bbb", 6), "  aaa\n    bbb\n");
    EXPECT_EQ(wrap("* aaa bbb", 6), "* aaa\n  bbb\n");
    EXPECT_EQ(wrap("  | aaa bbb", 8), "  | aaa\n  | bbb\n");
}

TEST(Wrap, never_breaks_a_word) {
    EXPECT_EQ(wrap("  aaaaaaaaaa b", 5), "  aaaaaaaaaa\n    b\n");
    EXPECT_EQ(wrap("* aaaaaaaaaa b", 5), "* aaaaaaaaaa\n  b\n");
}

TEST(Wrap, removes_trailing_spaces_and_double_empty_lines) {
    EXPECT_EQ(wrap("\n\na  \n \n\n\nb \n\n", 78), "a\n\nb\n");
    EXPECT_EQ(wrap("", 78), "\n");
}

TEST(Text, recognises_invisible_text) {
    for (const char *text : {"", " ", "\t\r\n", "\xE2\x80\x8B", "\xE2\x80\x8D\xE2\x80\x8C",
                             "\xC2\xA0", "\xE3\x80\x80", "\xEF\xBB\xBF", "\xC2\xAD", "\x1B[1m"})
        EXPECT_TRUE(shows_nothing(text)) << text;
    for (const char *text : {"a", " .", "\xF0\x9F\x90\x8C", "\xE2\x80\x8B-", "\xFF"})
        EXPECT_FALSE(shows_nothing(text)) << text;
}

} // namespace

} // namespace job_alerting::core
