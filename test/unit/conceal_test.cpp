#include "core/conceal.hpp"

#include <gtest/gtest.h>

#include <chrono>

namespace job_alerting::core {

namespace {

const std::string key = "SG.canary-key/AAAABBBB.CCCCDDDD+EEEE=";

std::string concealed(std::string text, const std::string &secret = key) {
    conceal(text, secret, "(key)");
    return text;
}

std::string replaced(std::string text, char c, const std::string &with) {
    for (std::size_t at = 0; (at = text.find(c, at)) != text.npos; at += with.size())
        text.replace(at, 1, with);
    return text;
}

TEST(Conceal, removes_a_whole_secret) {
    EXPECT_EQ(concealed(key), "(key)");
    EXPECT_EQ(concealed("the key " + key + " is unknown"), "the key (key) is unknown");
    EXPECT_EQ(concealed(key + ", " + key), "(key), (key)");
    EXPECT_EQ(concealed(key + key), "(key)");
}

TEST(Conceal, removes_eight_consecutive_characters) {
    for (std::size_t at = 0; at + min_run <= key.size(); ++at)
        for (std::size_t size = min_run; at + size <= key.size(); ++size)
            EXPECT_EQ(concealed("<" + key.substr(at, size) + ">"), "<(key)>") << at << " " << size;
}

TEST(Conceal, keeps_shorter_parts_and_all_other_text) {
    const std::string page = "SG.cana DDDD+EE CCC %2 \\u00 &amp; &#; \xC3\xA9 \n\t{\"errors\":[]}";
    EXPECT_EQ(concealed(page), page);
    for (std::size_t at = 0; at + 7 <= key.size(); ++at)
        EXPECT_EQ(concealed("<" + key.substr(at, 7) + ">"), "<" + key.substr(at, 7) + ">");
    EXPECT_EQ(concealed(""), "");
}

TEST(Conceal, finds_an_escaped_secret) {
    for (const char *const escape :
         {"\\u002e", "\\u002E", "%2e", "%2E", "&#46;", "&#x2e;", "&#X02E;"})
        EXPECT_EQ(concealed("<" + replaced(key, '.', escape) + ">"), "<(key)>") << escape;
    for (const char *const escape : {"\\/", "\\u002f", "%2F", "&#x2F;", "&#47;"})
        EXPECT_EQ(concealed("<" + replaced(key.substr(5, 20), '/', escape) + ">"), "<(key)>")
            << escape;
    std::string all;
    for (const char c : key)
        all += "&#" + std::to_string(int(c)) + ";";
    EXPECT_EQ(concealed(all), "(key)");
    EXPECT_EQ(concealed("a&amp;b&lt;c&quot;d", "xa&b<c\"dx"), "a&amp;b&lt;c&quot;d"); // seven
    EXPECT_EQ(concealed("a&amp;b&lt;c&quot;de", "xa&b<c\"dex"), "(key)");
}

TEST(Conceal, finds_a_secret_that_contains_escapes) {
    EXPECT_EQ(concealed("/T0/a%2Fb%2Fc", "/T0/a%2Fb%2Fc"), "(key)");
    EXPECT_EQ(concealed("/T0/a/b/c", "/T0/a%2Fb%2Fc"), "(key)");
    EXPECT_EQ(concealed("%41secret", "41secret"), "(key)");
}

TEST(Conceal, replaces_an_escape_as_a_whole) {
    const std::string secret = "a%2Fb%2Fc%2Fd";
    const std::string once = concealed("a/b/c/d a%2Fb%22Fb%2Fc%2a/b/c/d a%2FbFd\x1f"
                                       "a/b/c/d a%2Fb%2Fc%2FFc%2Fd",
                                       secret);
    EXPECT_EQ(concealed(once, secret), once);
}

TEST(Conceal, keeps_parts_below_the_minimum_length) {
    const auto whole = [](std::string text, const std::string &name) {
        conceal(text, name, "(name)", name.size());
        return text;
    };
    const std::string file = "/etc/ssl/certs/ca-certificates.crt";
    const std::string problem = "SSL certificate problem: unable to get local issuer certificate";
    EXPECT_EQ(whole(problem, file), problem);
    EXPECT_EQ(whole("error setting certificate file: " + file, file),
              "error setting certificate file: (name)");
    EXPECT_EQ(whole("\"" + replaced(file, '/', "\\/") + "\", certificate", file),
              "\"(name)\", certificate");
    EXPECT_EQ(whole("500 internal server error", "proxy.internal"), "500 internal server error");
    EXPECT_EQ(whole("proxy, proxy.internal", "proxy.internal"), "proxy, (name)");
}

TEST(Conceal, finds_a_short_secret_only_as_a_whole) {
    EXPECT_EQ(concealed("a secret word", "secret"), "a (key) word");
    EXPECT_EQ(concealed("a secre word", "secret"), "a secre word");
    EXPECT_EQ(concealed("anything", ""), "anything");
}

TEST(Conceal, is_fast_for_the_largest_answer) {
    std::string secret(4096, 'a');
    std::string text;
    while (text.size() < 18 * 1024)
        text += "aaaaaaab";
    const auto before = std::chrono::steady_clock::now();
    EXPECT_EQ(concealed(text, secret), text);
    EXPECT_EQ(concealed(std::string(18 * 1024, 'a'), secret), "(key)");
    EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(2));
}

} // namespace

} // namespace job_alerting::core
