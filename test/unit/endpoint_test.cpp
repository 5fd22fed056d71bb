#include "http/endpoint.hpp"

#include <gtest/gtest.h>

#include <string>

namespace job_alerting::http {

namespace {

using namespace std::string_literals;

void expect_endpoint_refused(const std::string &url, const std::string &reason) {
    EXPECT_NE(endpoint_fault(url).find(reason), std::string::npos)
        << "of \"" << url << "\" it says: \"" << endpoint_fault(url) << "\"";
}

void expect_proxy_refused(const std::string &url, const std::string &reason) {
    EXPECT_NE(proxy_fault(url).find(reason), std::string::npos)
        << "of \"" << url << "\" it says: \"" << proxy_fault(url) << "\"";
}

TEST(Endpoint, accepts_https_to_any_host) {
    for (const char *url : {"https://api.sendgrid.com", "https://api.eu.sendgrid.com/",
                            "https://relay.example.com:8443/sendgrid/v3", "https://192.0.2.7:443",
                            "https://[2001:db8::1]:8443/a", "HTTPS://API.SENDGRID.COM",
                            "https://127.evil.example.com"})
        EXPECT_EQ(endpoint_fault(url), "") << url;
}

TEST(Endpoint, accepts_plain_http_to_this_machine) {
    for (const char *url : {"http://127.0.0.1", "http://127.0.0.1:1", "http://127.0.0.1:65535/path",
                            "http://127.1.2.3", "http://127.255.255.255", "http://[::1]",
                            "http://[::1]:8", "http://localhost", "http://localhost:8080/a/b"})
        EXPECT_EQ(endpoint_fault(url), "") << url;
}

TEST(Endpoint, refuses_plain_http_to_other_machines) {
    for (const char *url :
         {"http://example.com", "http://api.sendgrid.com:443", "http://127.evil.example.com",
          "http://127.0.0.1.example.com", "http://127.example", "http://127", "http://128.0.0.1",
          "http://126.255.255.255", "http://0.0.0.0", "http://10.0.0.1", "http://192.168.1.1",
          "http://[::]", "http://[::2]", "http://[2001:db8::1]", "http://localhost.example.com",
          "http://localhost.", "http://xlocalhost", "http://127.0.0.1@example.com",
          "http://localhost:80@example.com"})
        EXPECT_NE(endpoint_fault(url), "") << url;
    for (const char *url : {"http://example.com", "http://127.evil.example.com", "http://[::2]"})
        expect_endpoint_refused(url, "only to this machine");
}

TEST(Receiver, follows_the_same_rules_and_accepts_a_query) {
    for (const char *good : {"https://hooks.example.com", "https://hooks.example.com/x?sig=a%3Db",
                             "http://127.0.0.1:8080/x"})
        EXPECT_EQ(receiver_fault(good), "") << good;
    for (const char *bad : {"", "http://hooks.example.com/x", "ftp://127.0.0.1/x",
                            "https://u:p@hooks.example.com/x", "https://hooks.example.com/ x"})
        EXPECT_NE(receiver_fault(bad), "") << bad;
}

TEST(Heartbeat, follows_the_same_rules_and_accepts_a_query) {
    for (const char *url : {"https://hc-ping.com/0b1c", "http://127.0.0.1:1/ping/a",
                            "https://kuma.example.com/api/push/token?status=up&msg=OK"})
        EXPECT_EQ(heartbeat_fault(url), "") << url;
    for (const char *url : {"http://hc-ping.com/0b1c", "https://user:word@hc-ping.com/0b1c",
                            "ftp://hc-ping.com/0b1c", "https://hc-ping.com/0b1c d", "", "0b1c"})
        EXPECT_NE(heartbeat_fault(url), "") << url;
}

TEST(Endpoint, is_plain_if_libcurl_reads_it_as_plain_http) {
    for (const char *url : {"http://127.0.0.1:1", "HTTP://localhost", "http:/127.0.0.1"})
        EXPECT_TRUE(is_plain(url)) << url;
    for (const char *url : {"https://127.0.0.1:1", "HTTPS://http://a", "", "http", "http://["})
        EXPECT_FALSE(is_plain(url)) << url;
}

TEST(Endpoint, refuses_other_schemes) {
    for (const char *url : {"ftp://example.com", "ftps://localhost", "file:///etc/passwd",
                            "smtp://127.0.0.1:25", "gopher://localhost", "ldap://localhost"})
        EXPECT_NE(endpoint_fault(url), "") << url;
    expect_endpoint_refused("ftp://example.com", "its scheme is not https");
}

TEST(Endpoint, refuses_incomplete_urls) {
    for (const char *url :
         {"", "api.sendgrid.com", "localhost", "127.0.0.1:1", "//api.sendgrid.com", "/v3/mail/send",
          "https", "https:", "https://", "://", "nonsense", "https://a:99999", "https://a:port",
          "http://[::1", "xyz://localhost"})
        EXPECT_NE(endpoint_fault(url), "") << url;
    expect_endpoint_refused("", "it is not a URL");
}

TEST(Endpoint, refuses_user_and_password) {
    for (const char *url : {"https://user@api.sendgrid.com", "https://user:secret@api.sendgrid.com",
                            "https://:secret@api.sendgrid.com", "http://user:secret@127.0.0.1:1",
                            "https://a%40b@c.d"})
        expect_endpoint_refused(url, "a user name or a password");
}

TEST(Endpoint, refuses_query_and_fragment) {
    for (const char *url :
         {"https://api.sendgrid.com?a=b", "https://api.sendgrid.com/?a", "https://a.b/c?d=e#f",
          "https://api.sendgrid.com#there", "http://127.0.0.1:1/#x", "https://api.sendgrid.com?",
          "https://api.sendgrid.com/a?", "https://api.sendgrid.com#",
          "https://api.sendgrid.com/?#"})
        expect_endpoint_refused(url, "a query or a fragment");
}

TEST(Endpoint, refuses_spaces_and_control_characters) {
    for (const std::string &url :
         {" https://api.sendgrid.com"s, "https://api.sendgrid.com "s, "https://api.send grid.com"s,
          "https://api.sendgrid.com/a b"s, "https://api.sendgrid.com\n"s,
          "https://api.sendgrid.com/\r\nX-Header:1"s, "https://api.sendgrid.com/\t"s,
          "https://api.sendgrid.com/\x01"s, "https://api.sendgrid.com/\x7F"s,
          "https://api.sendgrid.com\0.example.com"s, " "s})
        expect_endpoint_refused(url, "a space or a control character");
}

TEST(Endpoint, has_faults_that_never_quote_it) {
    for (const char *url : {"https://user:secret@a.b", "http://secret.example.com", "secret",
                            "ftp://secret", "https://a.b?secret", "https://a.b/ secret"})
        EXPECT_EQ(endpoint_fault(url).find("secret"), std::string::npos) << url;
}

TEST(UrlParts, are_the_host_without_its_port_and_the_path_with_its_query) {
    const struct {
        const char *url, *host, *path;
    } cases[] = {
        {"https://a.example", "a.example", ""},
        {"https://a.example:8443/b/c?d=e", "a.example", "/b/c?d=e"},
        {"https://a.example?token", "a.example", "?token"},
        {"http://[2001:db8::1]:3128/a", "[2001:db8::1]", "/a"},
        {"http://[::1]", "[::1]", ""},
        {"http:/127.0.0.1/x", "127.0.0.1", "/x"},
        {"", "", ""},
        {"https://", "", ""},
        {"http://[::1", "[::1", ""},
    };
    for (const auto &[url, host, path] : cases) {
        EXPECT_EQ(parts_of(url).host, host) << url;
        EXPECT_EQ(parts_of(url).path, path) << url;
    }
}

TEST(Webhook, accepts_https_and_plain_http_to_this_machine) {
    for (const char *url : {"https://hooks.slack.com/services/T0/B0/x",
                            "https://hooks.slack-gov.com/services/T0/B0/x",
                            "http://127.0.0.1:8080/services/T0/B0/x", "http://localhost/hook"})
        EXPECT_EQ(webhook_fault(url), "") << url;
    for (const char *url :
         {"", "canary", "http://hooks.slack.com/canary", "ftp://127.0.0.1/canary",
          "https://user:canary@hooks.slack.com/canary", "https://hooks.slack.com/?canary",
          "https://hooks.slack.com/a#canary", "https://hooks.slack.com/a canary",
          "https://hooks.slack.com/canary\r\nX: y"}) {
        EXPECT_NE(webhook_fault(url), "") << url;
        EXPECT_EQ(webhook_fault(url).find("canary"), std::string::npos) << url;
    }
}

TEST(Webhook, needs_a_path) {
    for (const char *url : {"https://hooks.slack.com", "https://hooks.slack.com/"})
        EXPECT_EQ(webhook_fault(url), "it has no path");
}

TEST(Proxy, is_optional_and_accepts_http_and_https) {
    for (const char *url : {"", "http://proxy.example.com:3128", "https://proxy.example.com",
                            "http://127.0.0.1:1", "http://[2001:db8::1]:3128"})
        EXPECT_EQ(proxy_fault(url), "") << url;
}

TEST(Proxy, refuses_other_schemes) {
    for (const char *url : {"ftp://proxy.example.com", "socks5://proxy.example.com:1080",
                            "socks4a://localhost", "file:///etc/passwd"})
        EXPECT_NE(proxy_fault(url), "") << url;
    expect_proxy_refused("ftp://proxy.example.com", "its scheme is neither http nor https");
}

TEST(Proxy, refuses_incomplete_urls) {
    expect_proxy_refused("http://", "it is not a URL");
    for (const char *url : {"proxy", "http://", "http://a:99999", "127.0.0.1:3128"})
        EXPECT_NE(proxy_fault(url), "") << url;
}

TEST(Proxy, refuses_user_and_password) {
    for (const char *url :
         {"http://user@proxy.example.com", "http://user:secret@proxy.example.com:1"})
        expect_proxy_refused(url, "which every role could read");
}

TEST(Proxy, refuses_spaces_and_control_characters) {
    for (const std::string &url : {" "s, "http://proxy.example.com "s, "http://proxy\t"s,
                                   "http://proxy.example.com\r\nX: y"s, "http://a\0b"s})
        expect_proxy_refused(url, "a space or a control character");
}

TEST(MailServer, is_smtp_or_smtps) {
    for (const char *url : {"smtp://mail.example.com", "smtp://mail.example.com:587",
                            "smtps://mail.example.com:465/", "smtp://127.0.0.1:25",
                            "smtp://[2001:db8::1]:587", "smtp://mail.example.com/db1.example.com"})
        EXPECT_EQ(mail_server_fault(url), "") << url;
    for (const char *url :
         {"", "mail.example.com", "mail.example.com:587", "http://mail.example.com",
          "smtp://user@mail.example.com", "smtp://user:word@mail.example.com",
          "smtp://;AUTH=NTLM@mail.example.com", "smtp://mail.example.com/?a", "smtp://a b",
          "smtp://mail.example.com/#a", "smtp://mail.example.com/a/b", "smtp://a\r\nQUIT",
          "smtp://mail.example.com/%0d%0aQUIT", "smtp://mail.example.com/a_b", "smtp://"})
        EXPECT_NE(mail_server_fault(url), "") << url;
}

TEST(MailServer, is_plain_on_this_machine_only) {
    for (const char *url : {"smtp://localhost:25", "smtp://127.0.0.1", "smtp://[::1]:587/name"})
        EXPECT_TRUE(is_plain_mail(url)) << url;
    for (const char *url : {"smtps://localhost:465", "smtp://mail.example.com",
                            "smtp://127.example.com", "smtp://localhost.example.com", ""})
        EXPECT_FALSE(is_plain_mail(url)) << url;
}

} // namespace

} // namespace job_alerting::http
