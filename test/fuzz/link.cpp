// core::job_link() on a hostile job in any job_url. The link is empty or begins with http:// or
// https://, is one clean line of at most 1000 bytes, and has no more structural characters of a URL
// than job_url itself, so that a job cannot redirect it. Where only the job's id is inserted, it
// can be read back from the link.
//
// Input: job_url, queue, job_id, source, job_type, target_type, target_id.

#include "property.hpp"

#include "core/digest.hpp"
#include "core/link.hpp"
#include "core/text.hpp"

using namespace job_alerting::core;
using namespace job_alerting::fuzz;

namespace {

std::string percent_decoded(std::string_view text) {
    std::string decoded;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '%' && i + 2 < text.size()) {
            decoded +=
                static_cast<char>(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16));
            i += 2;
        } else {
            decoded += text[i];
        }
    }
    return decoded;
}

void check_structure(const std::string &link, const std::string &job_url) {
    const std::string pattern = one_line(job_url, 1000);
    for (const char *mark :
         {"/", "?", "#", "&", "=", ":", "@", ";", "\\", "<", ">", "\"", "'", " "})
        require(occurrences(link, mark) == occurrences(pattern, mark),
                "a job adds nothing to the structure of its link");
}

void check_round_trip(const Failure &job) {
    const std::string base = "https://admin.example.com/jobs/";
    const std::string link = job_link(base + "{job_id}", job);
    const std::string id = one_line(job.job_id, max_name);
    require(link.empty() ? id.ends_with("...") || percent_encode(id).size() > 1000 - base.size()
                         : percent_decoded(link.substr(base.size())) == id,
            "the job's id can be read back");
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    Fields fields(input_of(data, size), unit_separator);
    const std::string job_url = fields.next();
    Failure job;
    job.queue = fields.next();
    job.job_id = fields.next();
    job.source = fields.next();
    job.job_type = fields.next();
    job.target_type = fields.next();
    job.target_id = fields.rest();

    const std::string link = job_link(job_url, job);
    if (!link.empty()) {
        require(link.starts_with("http://") || link.starts_with("https://"), "a link is http");
        require(link.size() <= 1000, "a link is bounded");
        require(is_one_line(link), "a link is one line, fit to show");
        check_structure(link, job_url);
    }
    check_round_trip(job);
    return 0;
}
