// Python's `email` package judges what is written, and reads it back.

#include "core/mail_message.hpp"

#include "mails.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <unistd.h>

namespace job_alerting::core {

namespace {

using nlohmann::json;

Envelope sample_envelope() {
    Envelope envelope;
    envelope.digest_id = 17;
    envelope.from = {"jobs@example.com", "Jobs"};
    envelope.to = {{"a@example.com", "A"}, {"b@example.com", ""}};
    envelope.message_id = "<job-alerting.17.0123456789abcdef@example.com>";
    envelope.date = "Tue, 14 Jul 2026 03:00:00 +0000";
    return envelope;
}

Mail sample_mail() {
    return {"4 jobs failed in approachnote: apple/refresh_catalog [#17]", "text\n",
            "<p>html</p>\n"};
}

// A folder of its own, gone with the test.
class Folder {
public:
    Folder() { EXPECT_NE(mkdtemp(path_.data()), nullptr); }
    ~Folder() {
        unlink(file().c_str());
        rmdir(path_.c_str());
    }
    std::string file() const { return path_ + "/mail"; }

private:
    std::string path_ = (std::getenv("TMPDIR") ? std::getenv("TMPDIR") : std::string("/tmp")) +
                        "/job_alerting_mail_XXXXXX";
};

json read_back(const std::string &message) {
    const Folder folder;
    std::ofstream(folder.file(), std::ios::binary) << message;
    const std::string command = std::string("python3 ") + READ_MAIL + " " + folder.file();
    const std::unique_ptr<FILE, int (*)(FILE *)> pipe(popen(command.c_str(), "r"), pclose);
    std::string output;
    std::array<char, 4096> piece;
    while (const std::size_t size = fread(piece.data(), 1, piece.size(), pipe.get()))
        output.append(piece.data(), size);
    return json::parse(output);
}

std::string header(const json &mail, const std::string &name) {
    std::string all;
    for (const json &header : mail["headers"])
        if (header[0] == name)
            all += (all.empty() ? "" : " | ") + header[1].get<std::string>();
    return all;
}

// What every message has to be, whatever it holds.
void expect_transportable(const std::string &message, std::size_t longest = 76) {
    EXPECT_TRUE(message.ends_with("\r\n"));
    std::size_t column = 0;
    for (std::size_t i = 0; i < message.size(); ++i) {
        const char c = message[i];
        if (c == '\r' && i + 1 < message.size() && message[i + 1] == '\n') {
            EXPECT_LE(column, longest) << message.substr(i - column, column);
            column = 0;
            ++i;
            continue;
        }
        EXPECT_TRUE((c >= ' ' && c < 0x7F) || c == '\t')
            << "byte " << static_cast<int>(c) << " at " << i;
        ++column;
    }
    EXPECT_FALSE(contains(message, "\r\n.")) << "a line begins with a dot";
}

json well_made(const Mail &mail, const Envelope &envelope, std::size_t longest = 76) {
    const std::string message = mail_message(mail, envelope);
    EXPECT_EQ(message, mail_message(mail, envelope));
    expect_transportable(message, longest);
    json read = read_back(message);
    EXPECT_EQ(read["defects"], json::array());
    EXPECT_EQ(read["type"], "multipart/alternative");
    EXPECT_EQ(read["parts"].size(), 2U);
    return read;
}

std::string with_line_ends(const std::string &text) {
    std::string lines;
    for (const char c : text)
        lines += c == '\n' ? "\r\n" : std::string(1, c);
    return lines;
}

void expect_bodies(const Mail &mail) {
    const json read = well_made(mail, sample_envelope());
    EXPECT_EQ(read["parts"][0], (json{{"type", "text/plain"},
                                      {"charset", "utf-8"},
                                      {"content", with_line_ends(mail.text)}}));
    EXPECT_EQ(read["parts"][1], (json{{"type", "text/html"},
                                      {"charset", "utf-8"},
                                      {"content", with_line_ends(mail.html)}}));
}

void expect_subject(const std::string &subject) {
    Mail mail = sample_mail();
    mail.subject = subject;
    EXPECT_EQ(header(well_made(mail, sample_envelope()), "Subject"), subject);
}

void expect_name(const std::string &name) {
    Envelope envelope = sample_envelope();
    envelope.from.name = name;
    envelope.to = {{"a@example.com", name}, {"b@example.com", "B"}, {"c@example.com", name}};
    const json read = well_made(sample_mail(), envelope);
    EXPECT_EQ(read["from"], (json::array({json::array({name, "jobs@example.com"})})));
    EXPECT_EQ(read["to"], json::array({json::array({name, "a@example.com"}),
                                       json::array({"B", "b@example.com"}),
                                       json::array({name, "c@example.com"})}));
}

const std::string cafe = "caf\xC3\xA9";
const std::string note = "\xF0\x9F\x8E\xB5";

TEST(MailMessage, has_the_headers_that_sendgrid_is_given) {
    const json read = well_made(sample_mail(), sample_envelope());
    EXPECT_EQ(
        read["headers"],
        json::array(
            {json::array({"Date", "Tue, 14 Jul 2026 03:00:00 +0000"}),
             json::array({"From", "Jobs <jobs@example.com>"}),
             json::array({"To", "A <a@example.com>, b@example.com"}),
             json::array({"Subject", "4 jobs failed in approachnote: apple/refresh_catalog [#17]"}),
             json::array({"Message-ID", "<job-alerting.17.0123456789abcdef@example.com>"}),
             json::array({"References", "<job-alerting.17.0123456789abcdef.thread@example.com>"}),
             json::array({"Auto-Submitted", "auto-generated"}),
             json::array({"MIME-Version", "1.0"}),
             json::array({"Content-Type", "multipart/alternative; boundary=\"=_job_alerting\""})}));
}

TEST(MailMessage, holds_both_bodies) {
    expect_bodies(sample_mail());
    expect_bodies(mail_of({sample_failure()}));
    Mail mail = sample_mail();
    mail.text = "";
    mail.html = "no line end";
    expect_bodies(mail);
    mail.text = "\n\nempty lines \n \n\ttabs\t\nblanks   \n   ";
    mail.html = cafe + "\n" + note + "=3D =\n--=_job_alerting\n--=_job_alerting--\n";
    expect_bodies(mail);
}

TEST(MailMessage, holds_long_lines) {
    Mail mail = sample_mail();
    for (std::size_t i = 0; i < 5000; ++i)
        mail.text += "abcdefghijklmno. "[i % 17];
    for (std::size_t i = 0; i < 1000; ++i)
        mail.html += i % 3 ? note : cafe;
    expect_bodies(mail);
    mail.text = std::string(5000, '.');
    mail.html = std::string(5000, ' ') + "\n" + std::string(5000, '=');
    expect_bodies(mail);
}

TEST(MailMessage, holds_lone_dots) {
    Mail mail = sample_mail();
    mail.text = ".\n..\n.\n\n.a\n" + std::string(75, 'x') + ".\n" + std::string(76, 'x') + ".\n.";
    mail.html = "\n.\n";
    expect_bodies(mail);
}

TEST(MailMessage, holds_control_characters) {
    Mail mail = sample_mail();
    mail.text = std::string("a\0b\x01\x7F\x1B[1m\n", 10);
    mail.html = "From here\nFrom there\n";
    expect_bodies(mail);
    // A lone carriage return is no line end: decoded, it is one again.
    mail.text = "a\rb\r\nc\n.\r\n";
    const json read = well_made(mail, sample_envelope());
    EXPECT_EQ(read["parts"][0]["content"], "a\rb\r\r\nc\r\n.\r\r\n");
}

TEST(MailMessage, holds_any_subject) {
    expect_subject(cafe);
    expect_subject("4 jobs failed in " + cafe +
                   ": apple/refresh_catalog, youtube/search (3) [#17]");
    expect_subject("=?utf-8?q?no?= encoded word");
    expect_subject("one " + std::string(300, 'x') + " long word");
    expect_subject(std::string(60, 'x') + " " + std::string(65, 'y') + " " + std::string(66, 'z'));
    std::string many, high;
    for (int i = 0; i < 100; ++i) {
        many += "word" + std::to_string(i) + " ";
        high += note;
    }
    expect_subject(many + "end");
    expect_subject(high);
    for (std::size_t size = 50; size < 66; ++size)
        expect_subject(std::string(size, 'x') + ": word: and another: " + std::string(20, 'y'));
    expect_subject("with \"quotes\", (parentheses), <brackets>; a \\ and an = _ ?");
}

TEST(MailMessage, holds_no_line_end_in_a_header) {
    Mail mail = sample_mail();
    mail.subject = std::string("a\r\nBcc: c@example.com\r\n\r\nb\0c", 28);
    Envelope envelope = sample_envelope();
    envelope.from.name = "x\r\nBcc: c@example.com";
    const json read = well_made(mail, envelope);
    EXPECT_EQ(header(read, "Bcc"), "");
    EXPECT_EQ(read["from"],
              json::array({json::array({"x Bcc: c@example.com", "jobs@example.com"})}));
    EXPECT_TRUE(header(read, "Subject").starts_with("a Bcc: c@example.com b"));
}

TEST(MailMessage, holds_any_name) {
    expect_name("J\xC3\xB6rg M\xC3\xBCller");
    expect_name("Miller, John (ops); \"the\" \\ <boss> @ work");
    expect_name("=?utf-8?q?no?=");
    expect_name(std::string(200, 'x'));
    std::string high;
    for (int i = 0; i < 60; ++i)
        high += i % 7 ? note : " ";
    expect_name("x" + high + "y");
    expect_name("a.b c");
}

TEST(MailMessage, names_many_recipients) {
    Envelope envelope = sample_envelope();
    envelope.to.clear();
    json expected = json::array();
    for (std::size_t i = 0; i < max_recipients; ++i) {
        const std::string number = std::to_string(i);
        envelope.to.push_back({"somebody" + number + "@example.com", i % 2 ? "N " + number : ""});
        expected.push_back(
            json::array({i % 2 ? "N " + number : "", "somebody" + number + "@example.com"}));
    }
    EXPECT_EQ(well_made(sample_mail(), envelope)["to"], expected);
}

TEST(MailMessage, keeps_an_identifier_whole) {
    Envelope envelope = sample_envelope();
    envelope.message_id = "<job-alerting.17.0123456789abcdef@" + std::string(60, 'a') + "." +
                          std::string(60, 'b') + "." + std::string(60, 'c') + ".example.com>";
    const json read = well_made(sample_mail(), envelope, 300);
    EXPECT_EQ(header(read, "Message-ID"), envelope.message_id);
    EXPECT_EQ(header(read, "References"), thread_root_of(envelope.message_id));
}

TEST(MailMessage, holds_an_address_that_is_not_ascii) {
    Envelope envelope = sample_envelope();
    envelope.to = {{"j\xC3\xB6rg@example.com", "J\xC3\xB6rg"}, {"b@example.com", ""}};
    const json read = read_back(mail_message(sample_mail(), envelope));
    for (const json &defect : read["defects"]) // the package knows RFC 5322, but not RFC 6532
        EXPECT_TRUE(contains(defect.get<std::string>(), "NonASCIILocalPartDefect") ||
                    contains(defect.get<std::string>(), "Non-ASCII characters found"))
            << defect;
    EXPECT_EQ(read["to"], json::array({json::array({"J\xC3\xB6rg", "j\xC3\xB6rg@example.com"}),
                                       json::array({"", "b@example.com"})}));
}

} // namespace

} // namespace job_alerting::core
