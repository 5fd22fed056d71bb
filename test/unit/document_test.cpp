// The mail in doc/digest.md must be the current rendering of the sample failures.

#include "mails.hpp"
#include "sample_digests.hpp"

#include <fstream>
#include <iterator>

namespace job_alerting::core {

namespace {

TEST(Document, shows_the_current_mail) {
    std::ifstream file(DIGEST_DOCUMENT);
    const std::string document{std::istreambuf_iterator<char>(file), {}};
    const Mail mail = render(nightly_digest(), 50, job_url);
    EXPECT_TRUE(contains(document, "\n\n" + mail.text + "```\n")) << mail.text;
    const std::size_t folded = mail.subject.find(" youtube");
    EXPECT_TRUE(contains(document, "```\nSubject: " + mail.subject.substr(0, folded) +
                                       "\n         " + mail.subject.substr(folded + 1) + "\n\n"))
        << mail.subject;
}

} // namespace

} // namespace job_alerting::core
