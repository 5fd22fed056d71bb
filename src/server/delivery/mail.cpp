#include "server/base/prelude.hpp"

#include "server/delivery/mail.hpp"

#include "server/base/encoding.hpp"
#include "server/delivery/route.hpp"
#include "server/delivery/stamp.hpp"

namespace job_alerting::server {

namespace {

// Uses only letters, digits, '.' and '-' in the domain: mail systems mangle or reject other
// characters.
std::string make_message_id(std::int64_t digest, const std::string &sender) {
    std::string domain = sender.substr(sender.find('@') + 1);
    for (char &c : domain)
        if (!isalnum(static_cast<unsigned char>(c)) && c != '.')
            c = '-';
    return "<job-alerting." + std::to_string(digest) + "." + random_token() + "@" + domain + ">";
}

std::vector<core::Address> addresses(const char *setting, const std::string &list,
                                     core::LocalPart local_part) {
    if (list.empty())
        throw CannotSend(std::string(setting) + " is not set");
    try {
        return core::parse_addresses(to_utf8(list), local_part);
    } catch (const core::BadAddress &bad) {
        throw CannotSend(std::string(setting) + " is malformed: " + bad.unquoted());
    }
}

} // namespace

core::Mail mail_of(const core::Digest &content, const Settings &settings) {
    return core::render(content, settings.max_listed, to_utf8(settings.job_url));
}

core::Envelope envelope_of(const DigestRow &digest, const Settings &settings,
                           core::LocalPart local_part) {
    const std::vector<core::Address> from =
        addresses("job_alerting.mail_from", settings.mail_from, local_part);
    if (from.size() != 1)
        throw CannotSend("job_alerting.mail_from names more than one sender");
    core::Envelope envelope;
    envelope.digest_id = digest.id;
    envelope.from = from[0];
    envelope.to = addresses("job_alerting.mail_to", settings.mail_to, local_part);
    envelope.message_id =
        digest.message_id.empty() ? make_message_id(digest.id, from[0].email) : digest.message_id;
    envelope.date = utc_now("%a, %d %b %Y %H:%M:%S +0000");
    return envelope;
}

} // namespace job_alerting::server
