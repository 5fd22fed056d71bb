#include "core/smtp.hpp"

#include "core/mail_message.hpp"
#include "core/text.hpp"

#include <charconv>
#include <string_view>

namespace job_alerting::core {

namespace {

constexpr std::size_t max_reply = 250;
constexpr std::size_t max_error_line = 500;
constexpr std::size_t max_refused_named = 20;

constexpr std::string_view sender_command = "MAIL FROM:<";
constexpr std::string_view recipient_command = "RCPT TO:<";
constexpr std::string_view data_command = "DATA\r\n";

std::string as_ascii(const std::string &text);
std::string from_ascii(std::string_view text);
std::optional<std::string> take_address(std::string_view &rest, std::string_view command);
State state_after(const SmtpAnswer &answer);
bool refuses_content(const SmtpAnswer &answer, const Submission &submission);
std::string describe(const SmtpAnswer &answer, const Submission &submission);
std::string refused_recipients(const SmtpAnswer &answer, const Submission &submission);

} // namespace

std::string smtp_request(const Mail &mail, const Envelope &envelope) {
    const auto command = [](std::string_view words, const std::string &address) {
        return std::string(words) + address + ">\r\n";
    };
    std::string request = command(sender_command, envelope.from.email);
    for (const Address &address : envelope.to)
        request += command(recipient_command, address.email);
    return as_ascii(request + std::string(data_command) + mail_message(mail, envelope));
}

std::optional<Submission> submission_of(const std::string &request) {
    Submission submission;
    const std::string bytes = from_ascii(request);
    std::string_view rest = bytes;
    const std::optional<std::string> from = take_address(rest, sender_command);
    if (!from)
        return std::nullopt;
    submission.from = *from;
    while (const std::optional<std::string> to = take_address(rest, recipient_command))
        submission.to.push_back(*to);
    if (submission.to.empty() || !rest.starts_with(data_command))
        return std::nullopt;
    submission.message = rest.substr(data_command.size());
    return submission;
}

Outcome interpret_smtp(const SmtpAnswer &answer, const Submission &submission) {
    Outcome outcome;
    outcome.state = state_after(answer);
    outcome.http_status = answer.code;
    if (outcome.state != State::pending)
        outcome.refused = refused_recipients(answer, submission);
    if (outcome.state != State::accepted)
        outcome.error = ascii_line(describe(answer, submission), max_error_line);
    outcome.content_refused =
        outcome.state == State::pending && refuses_content(answer, submission);
    return outcome;
}

namespace {

// Neither a message nor an address has a backslash of its own.
std::string as_ascii(const std::string &text) {
    std::string ascii;
    for (const char c : text)
        if (static_cast<unsigned char>(c) < 0x80)
            ascii += c;
        else
            append_hex(ascii, '\\', c);
    return ascii;
}

std::string from_ascii(std::string_view text) {
    std::string bytes;
    for (std::size_t i = 0; i < text.size(); ++i) {
        unsigned byte = 0;
        const char *const digits = text.data() + i + 1;
        if (text[i] == '\\' && i + 2 < text.size() &&
            std::from_chars(digits, digits + 2, byte, 16).ptr == digits + 2) {
            bytes += static_cast<char>(byte);
            i += 2;
        } else {
            bytes += text[i];
        }
    }
    return bytes;
}

// Takes a line with this command off the rest, and returns its address.
std::optional<std::string> take_address(std::string_view &rest, std::string_view command) {
    if (!rest.starts_with(command))
        return std::nullopt;
    const std::size_t end = rest.find(">\r\n");
    if (end == rest.npos)
        return std::nullopt;
    const std::string address(rest.substr(command.size(), end - command.size()));
    rest.remove_prefix(end + 3);
    return address;
}

// RFC 5321, 4.2.1: 2xx is yes; 4xx not now, and 5xx no.
State state_after(const SmtpAnswer &answer) {
    const bool is_verdict = answer.stage == SmtpStage::verdict;
    if (is_verdict && answer.code >= 400 && answer.code <= 599)
        return State::pending;
    if (is_verdict && answer.code >= 200 && answer.code <= 299)
        return State::accepted;
    return answer.handed_over ? State::in_doubt : State::pending;
}

bool exceeds_limit(const SmtpAnswer &answer, const Submission &submission) {
    // Before, the server may have refused for another reason.
    return answer.stage >= SmtpStage::sender && answer.size_limit > 0 &&
           submission.message.size() > answer.size_limit;
}

// The size is known to the server with the sender already (RFC 1870), and 552 is about it there.
bool refuses_content(const SmtpAnswer &answer, const Submission &submission) {
    return exceeds_limit(answer, submission) ||
           (answer.stage == SmtpStage::verdict && answer.code >= 500) ||
           (answer.stage == SmtpStage::sender && answer.code == 552);
}

const char *name_of(SmtpStage stage) {
    switch (stage) {
    case SmtpStage::connection:
        return "the connection";
    case SmtpStage::greeting:
        return "the greeting";
    case SmtpStage::encryption:
        return "STARTTLS";
    case SmtpStage::login:
        return "the login";
    case SmtpStage::sender:
        return "the sender";
    case SmtpStage::recipients:
        return "the recipients";
    case SmtpStage::data:
        return "DATA";
    case SmtpStage::verdict:
        return "the mail";
    }
    return "";
}

// The setting to look at after a permanent refusal.
const char *hint_of(SmtpStage stage) {
    switch (stage) {
    case SmtpStage::connection:
    case SmtpStage::data:
    case SmtpStage::verdict: // of the mail, not of a setting
        return "";
    case SmtpStage::greeting:
    case SmtpStage::encryption:
        return "check smtp_url";
    case SmtpStage::login:
        return "check smtp_credentials_file";
    case SmtpStage::sender:
        return "check mail_from and smtp_credentials_file";
    case SmtpStage::recipients:
        return "check mail_to";
    }
    return "";
}

std::string reply_text(int code, const std::string &reply) {
    const std::string words = ascii_line(reply, max_reply);
    return std::to_string(code) + (words.empty() ? "" : " " + words);
}

std::string describe(const SmtpAnswer &answer, const Submission &submission) {
    if (exceeds_limit(answer, submission))
        return "the mail has " + std::to_string(submission.message.size()) +
               " bytes, and the server takes " + std::to_string(answer.size_limit) +
               " (lower max_listed)";
    if (answer.code >= 400 && answer.code <= 599) {
        const std::string hint = answer.code >= 500 ? hint_of(answer.stage) : "";
        return std::string("the server refuses ") + name_of(answer.stage) + ": " +
               reply_text(answer.code, answer.reply) + (hint.empty() ? "" : " (" + hint + ")");
    }
    const std::string words = answer.error.empty() ? "no answer" : answer.error;
    if (answer.handed_over)
        return "no verdict on the mail after it was handed over: " + words;
    if (answer.stage == SmtpStage::connection)
        return words;
    return std::string("broken off at ") + name_of(answer.stage) + ": " + words;
}

std::string refused_recipients(const SmtpAnswer &answer, const Submission &submission) {
    std::string text;
    std::size_t named = 0;
    for (const RefusedRecipient &refused : answer.refused) {
        if (refused.number >= submission.to.size())
            continue;
        if (named++ == max_refused_named)
            break;
        text += (text.empty() ? "" : "; ") + ascii_line(submission.to[refused.number], max_reply) +
                " (" + reply_text(refused.code, refused.reply) + ")";
    }
    if (answer.refused.size() > max_refused_named)
        text += "; and " + std::to_string(answer.refused.size() - max_refused_named) + " more";
    return text;
}

} // namespace

} // namespace job_alerting::core
