#include "core/link.hpp"

#include "core/digest.hpp"

#include "samples.hpp"

#include <gtest/gtest.h>

namespace job_alerting::core {

namespace {

TEST(JobLink, replaces_its_placeholders) {
    Failure job = sample_failure();
    EXPECT_EQ(
        job_link("http://x/{queue}/{job_id}/{source}/{job_type}/{target_type}/{target_id}", job),
        "http://x/research_jobs/4711/apple/refresh_catalog/album/"
        "6f2c1a52-0d8e-4c7f-9b1c-2f3f5c1f7a10");
    EXPECT_EQ(job_link("https://x/{job_id}?s={source}&q={queue}", bare_failure()),
              "https://x/4711?s=&q=research_jobs");
    EXPECT_EQ(job_link("https://x/{other}{", job), "https://x/{other}{");
    EXPECT_EQ(job_link("", job), "");
}

TEST(JobLink, encodes_a_hostile_id) {
    Failure job = bare_failure();
    job.job_id = "../\"><b>?a=1&b=2#{queue}\r\nX \xC3\xA9%";
    EXPECT_EQ(job_link("https://x/{job_id}", job),
              "https://x/..%2F%22%3E%3Cb%3E%3Fa%3D1%26b%3D2%23%7Bqueue%7D%20X%20%C3%A9%25");
}

TEST(JobLink, is_an_http_address_or_empty) {
    Failure job = bare_failure();
    job.job_id = "javascript:alert(1)";
    for (const char *url : {"javascript:alert(1)", "{job_id}", "ftp://x/{job_id}", "//x",
                            "HTTPS//x", "data:text/html,x", "mailto:x@y", "https://x y/4711"})
        EXPECT_EQ(job_link(url, job), "");
}

TEST(JobUrl, has_a_fault_if_it_gives_no_links) {
    for (const char *url : {"", "https://x/{job_id}", "http://x", "https://x/\xC3\xA9{other}{"})
        EXPECT_EQ(job_url_fault(url), "") << url;
    for (const char *url : {"x/{job_id}", "javascript:alert(1)", "{job_id}", "//x", "HTTPS://x",
                            " ", "https://x y", "https://x\n", "https://x\x7f"})
        EXPECT_NE(job_url_fault(url), "") << url;
}

TEST(JobLink, omits_a_clipped_id) {
    Failure job = bare_failure();
    job.job_id = repeated("x", max_name);
    EXPECT_NE(job_link("https://x/{job_id}", job), "");
    job.job_id += "x";
    EXPECT_EQ(job_link("https://x/{job_id}", job), "");
    EXPECT_NE(job_link("https://x/{queue}", job), "");
    job.job_id = repeated("\xF0\x9F\x8E\xB5", max_name);
    EXPECT_EQ(job_link("https://x/{job_id}", job), "") << "too long an address";
}

} // namespace

} // namespace job_alerting::core
