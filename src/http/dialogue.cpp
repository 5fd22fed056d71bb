#include "http/dialogue.hpp"

#include <algorithm>
#include <charconv>

namespace job_alerting::http {

namespace {

using core::SmtpStage;

// Whether a command is this one, or a line of EHLO's answer names this extension.
bool begins_with(std::string_view text, std::string_view word) {
    const auto same = [](char a, char b) {
        return (a >= 'a' && a <= 'z' ? a - 'a' + 'A' : a) == b;
    };
    if (text.size() < word.size() || !std::equal(word.begin(), word.end(), text.begin(),
                                                 [&](char b, char a) { return same(a, b); }))
        return false;
    return text.size() == word.size() || text[word.size()] == ' ';
}

std::string_view without_line_end(std::string_view line) {
    while (!line.empty() && (line.back() == '\n' || line.back() == '\r'))
        line.remove_suffix(1);
    return line;
}

// The three digits that a line of a reply begins with; 0 for none.
int code_of(std::string_view line) {
    int code = 0;
    if (line.size() < 3)
        return 0;
    const auto [end, fault] = std::from_chars(line.data(), line.data() + 3, code);
    return fault == std::errc() && end == line.data() + 3 && code >= 100 ? code : 0;
}

void append(std::string &text, std::string_view more, std::size_t most) noexcept {
    text.append(more.substr(0, most - std::min(most, text.size())));
}

} // namespace

Dialogue::Dialogue(std::size_t recipients) : refused_(recipients) {
    reply_.reserve(max_reply);
    for (core::RefusedRecipient &refused : refused_)
        refused.reply.reserve(max_refusal);
}

void Dialogue::sent(std::string_view command) noexcept {
    command = without_line_end(command);
    lists_extensions_ = begins_with(command, "EHLO");
    if (lists_extensions_ || begins_with(command, "HELO")) {
        begin(SmtpStage::greeting);
        size_limit_ = 0;
        takes_utf8_ = false;
        offers_login_ = false;
    } else if (begins_with(command, "STARTTLS")) {
        begin(SmtpStage::encryption);
    } else if (begins_with(command, "AUTH")) {
        begin(SmtpStage::login);
    } else if (begins_with(command, "MAIL")) {
        begin(SmtpStage::sender);
    } else if (begins_with(command, "RCPT")) {
        begin(SmtpStage::recipients);
        ++asked_;
    } else if (begins_with(command, "DATA")) {
        begin(SmtpStage::data);
    } else if (begins_with(command, "QUIT")) {
        over_ = true;
    } else { // of a login
        begin(stage_);
    }
}

void Dialogue::received(std::string_view line) noexcept {
    read_ += line.size();
    line = without_line_end(line);
    const int code = code_of(line);
    if (over_ || is_decided() || code == 0)
        return;
    if (stage_ == SmtpStage::connection)
        begin(SmtpStage::greeting);
    if (code_ != 0) // a reply that nothing asked for
        begin(stage_);
    const std::string_view words = line.substr(std::min<std::size_t>(line.size(), 4));
    if (lists_extensions_)
        note_extension(words);
    if (!reply_.empty())
        append(reply_, " ", max_reply);
    append(reply_, words, max_reply);
    if (line.size() == 3 || line[3] == ' ')
        finish(code);
}

void Dialogue::begin(SmtpStage stage) noexcept {
    stage_ = stage;
    code_ = 0;
    reply_.clear();
}

void Dialogue::finish(int code) noexcept {
    code_ = code;
    lists_extensions_ = false;
    if (stage_ == SmtpStage::data && code / 100 == 3) {
        begin(SmtpStage::verdict);
    } else if (stage_ == SmtpStage::recipients && code / 100 != 2) {
        refuse(code);
    }
}

// The recipient that was asked for last, once.
void Dialogue::refuse(int code) noexcept {
    const std::size_t number = asked_ - 1;
    const bool known = refusals_ > 0 && refused_[refusals_ - 1].number == number;
    if (known || refusals_ == refused_.size())
        return;
    core::RefusedRecipient &refused = refused_[refusals_++];
    refused.number = number;
    refused.code = code;
    append(refused.reply, reply_, max_refusal);
}

// RFC 1870 and RFC 6531.
void Dialogue::note_extension(std::string_view words) noexcept {
    if (begins_with(words, "SMTPUTF8"))
        takes_utf8_ = true;
    if (begins_with(words, "AUTH"))
        offers_login_ = true;
    constexpr std::string_view size = "SIZE ";
    if (!begins_with(words, "SIZE") || words.size() <= size.size())
        return;
    std::size_t limit = 0;
    const auto parsed =
        std::from_chars(words.data() + size.size(), words.data() + words.size(), limit);
    if (parsed.ec == std::errc())
        size_limit_ = limit;
}

core::SmtpAnswer Dialogue::answer() const {
    core::SmtpAnswer answer;
    answer.stage = stage_;
    answer.code = code_;
    if (code_ != 0)
        answer.reply = reply_;
    answer.refused.assign(refused_.begin(),
                          refused_.begin() + static_cast<std::ptrdiff_t>(refusals_));
    answer.size_limit = size_limit_;
    return answer;
}

} // namespace job_alerting::http
