// README shows a mail: the one that its failures become now.

#include "mails.hpp"
#include "sample_digests.hpp"

#include <fstream>
#include <iterator>

namespace job_alerting::core {

namespace {

TEST(Readme, shows_the_mail_as_it_is) {
    std::ifstream file(README);
    const std::string readme{std::istreambuf_iterator<char>(file), {}};
    const Mail mail = render(nightly_digest(), 50, job_url);
    EXPECT_TRUE(contains(readme, "\n\n" + mail.text + "```\n")) << mail.text;
    const std::size_t folded = mail.subject.find(" youtube");
    EXPECT_TRUE(contains(readme, "```\nSubject: " + mail.subject.substr(0, folded) + "\n         " +
                                     mail.subject.substr(folded + 1) + "\n\n"))
        << mail.subject;
}

} // namespace

} // namespace job_alerting::core
