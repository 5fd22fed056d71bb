// Mails for the tests, and the checks that every mail passes.

#pragma once

#include "core/lines.hpp"
#include "core/render.hpp"
#include "core/text.hpp"

#include "samples.hpp"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace job_alerting::core {

inline const std::string job_url = "https://admin.example.com/jobs/{job_id}";

inline Mail mail_of(const std::vector<Failure> &failures, std::size_t max_listed = 50,
                    const std::string &url = job_url) {
    return render(digest_of(failures, max_listed), max_listed, url);
}

inline void expect_well_made(const Mail &mail) {
    EXPECT_FALSE(contains(mail.subject, "\n"));
    EXPECT_LE(mail.html.size(), max_html_bytes);
    EXPECT_TRUE(mail.text.ends_with("\n"));
    EXPECT_FALSE(mail.text.ends_with("\n\n"));
    EXPECT_FALSE(contains(mail.text, " \n"));
    EXPECT_FALSE(contains(mail.text, "\n\n\n"));
    for (const std::string_view line : lines_of(mail.text)) {
        const std::size_t word = line.find_first_not_of(" |*");
        EXPECT_TRUE(characters(line) <= 78 || line.find(' ', word) == line.npos) << line;
    }
    const std::set<std::string> ours = {"!DOCTYPE", "html", "head", "meta", "title", "body", "div",
                                        "table",    "tr",   "td",   "b",    "br",    "span", "a"};
    for (std::size_t at = mail.html.find('<'); at != std::string::npos;
         at = mail.html.find('<', at + 1)) {
        const std::size_t begin = mail.html[at + 1] == '/' ? at + 2 : at + 1;
        const std::size_t end = mail.html.find_first_of(" >", begin);
        EXPECT_TRUE(ours.count(mail.html.substr(begin, end - begin))) << mail.html.substr(at, 40);
    }
    for (const char *tag : {"table", "tr", "td", "div", "span", "b", "a"}) {
        const std::string name = tag;
        EXPECT_EQ(occurrences(mail.html, "<" + name + ">") +
                      occurrences(mail.html, "<" + name + " "),
                  occurrences(mail.html, "</" + name + ">"))
            << name;
    }
}

} // namespace job_alerting::core
