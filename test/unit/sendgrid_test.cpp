#include "core/sendgrid.hpp"

#include "core/text.hpp"

#include "samples.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace job_alerting::core {

namespace {

using nlohmann::json;

Mail sample_mail() {
    return {"subject \xC3\xA9", "text\n", "<p>html \xF0\x9F\x8E\xB5</p>"};
}

Envelope sample_envelope() {
    Envelope envelope;
    envelope.digest_id = 17;
    envelope.from = {"jobs@example.com", "Jobs"};
    envelope.to = {{"a@example.com", "A"}, {"b@example.com", ""}};
    envelope.message_id = "<17.abc@example.com>";
    envelope.date = "Tue, 14 Jul 2026 03:00:00 +0000";
    return envelope;
}

void expect_bad(std::string_view list, std::string_view why) {
    try {
        parse_addresses(list);
        ADD_FAILURE() << list << " passes";
    } catch (const BadAddress &bad) {
        EXPECT_TRUE(contains(bad.what(), why)) << bad.what();
    }
}

TEST(SendgridBody, contains_all_parts_of_a_mail) {
    const json expected = json::parse(R"({
        "personalizations": [{
            "to": [{"email": "a@example.com", "name": "A"}, {"email": "b@example.com"}],
            "custom_args": {"digest_id": "17"}
        }],
        "from": {"email": "jobs@example.com", "name": "Jobs"},
        "subject": "subject \u00e9",
        "content": [
            {"type": "text/plain", "value": "text\n"},
            {"type": "text/html", "value": "<p>html \ud83c\udfb5</p>"}
        ],
        "headers": {
            "Message-ID": "<17.abc@example.com>",
            "References": "<17.abc.thread@example.com>",
            "Date": "Tue, 14 Jul 2026 03:00:00 +0000",
            "Auto-Submitted": "auto-generated"
        },
        "categories": ["job_alerting"],
        "tracking_settings": {
            "click_tracking": {"enable": false, "enable_text": false},
            "open_tracking": {"enable": false},
            "subscription_tracking": {"enable": false},
            "ganalytics": {"enable": false}
        },
        "mail_settings": {"footer": {"enable": false}}
    })");
    EXPECT_EQ(json::parse(sendgrid_body(sample_mail(), sample_envelope())), expected);
}

TEST(SendgridBody, puts_a_single_recipient_into_a_list) {
    Envelope envelope = sample_envelope();
    envelope.to.pop_back();
    const json body = json::parse(sendgrid_body(sample_mail(), envelope));
    ASSERT_TRUE(body["personalizations"].is_array());
    ASSERT_TRUE(body["personalizations"][0]["to"].is_array());
    EXPECT_EQ(body["personalizations"][0]["to"].size(), 1U);
}

TEST(SendgridBody, is_always_ascii) {
    Mail mail = sample_mail();
    mail.text = "\x01\"\\\x80\xED\xA0\x80 \xE2\x80\xA8";
    const std::string body = sendgrid_body(mail, sample_envelope());
    for (const char c : body)
        EXPECT_TRUE(c >= ' ' && c <= '~');
    EXPECT_EQ(json::parse(body)["subject"], mail.subject);
}

TEST(SendgridBody, is_the_same_for_the_same_mail) {
    EXPECT_EQ(sendgrid_body(sample_mail(), sample_envelope()),
              sendgrid_body(sample_mail(), sample_envelope()));
}

TEST(SendgridRequest, goes_to_mail_send_below_the_endpoint) {
    for (const char *endpoint : {"https://api.sendgrid.com", "https://api.sendgrid.com//"}) {
        const Request request = sendgrid_request(endpoint, "SG.key", "{}");
        EXPECT_EQ(request.url, "https://api.sendgrid.com/v3/mail/send");
        EXPECT_EQ(request.body, "{}");
        EXPECT_EQ(request.headers, (std::vector<std::string>{"Authorization: Bearer SG.key",
                                                             "Content-Type: application/json",
                                                             "Accept: application/json"}));
    }
}

TEST(SendgridRequest, refuses_a_malformed_key_without_quoting_it) {
    for (const char *key : {"", "SG.key\n", "SG.\r\nX: y", "\tSG", "SG\x7F"}) {
        try {
            sendgrid_request("https://api.sendgrid.com", key, "{}");
            ADD_FAILURE();
        } catch (const std::invalid_argument &refused) {
            EXPECT_FALSE(contains(refused.what(), "SG"));
        }
    }
}

TEST(ParseAddresses, accepts_addresses_with_and_without_names) {
    const auto addresses = parse_addresses(
        " a@example.com ,Ops Team <ops@example.com>,\"Doe, \\\"J\\\"; Jr\" <j@x>, <k@x.org>");
    ASSERT_EQ(addresses.size(), 4U);
    EXPECT_EQ(addresses[0].email, "a@example.com");
    EXPECT_EQ(addresses[0].name, "");
    EXPECT_EQ(addresses[1].email, "ops@example.com");
    EXPECT_EQ(addresses[1].name, "Ops Team");
    EXPECT_EQ(addresses[2].email, "j@x");
    EXPECT_EQ(addresses[2].name, "Doe, \"J\"; Jr");
    EXPECT_EQ(addresses[3].email, "k@x.org");
    EXPECT_EQ(addresses[3].name, "");
}

TEST(SendgridBody, puts_a_name_with_a_comma_in_quotes) {
    Envelope envelope;
    envelope.from = parse_addresses("Alerts; all <f@x>")[0];
    envelope.to = parse_addresses("\"Doe, \\\"J\\\"\" <j@x>, Plain <p@x>, \"A, B\\\\\" <b@x>");
    const json body = json::parse(sendgrid_body(Mail{}, envelope));
    EXPECT_EQ(body["from"]["name"], "\"Alerts; all\"");
    EXPECT_EQ(body["personalizations"][0]["to"][0]["name"], "\"Doe, 'J'\"");
    EXPECT_EQ(body["personalizations"][0]["to"][1]["name"], "Plain");
    EXPECT_EQ(body["personalizations"][0]["to"][2]["name"], "\"A, B/\"");
}

TEST(ParseAddresses, drops_repeated_addresses) {
    const auto addresses = parse_addresses("A@Example.com, b@x.org, a@example.COM");
    ASSERT_EQ(addresses.size(), 2U);
    EXPECT_EQ(addresses[0].email, "A@Example.com");
    EXPECT_EQ(addresses[1].email, "b@x.org");
}

TEST(ParseAddresses, cleans_a_name_and_keeps_its_letters) {
    EXPECT_EQ(parse_addresses("\xC3\x9C"
                              "b\xE2\x80\xAE  er <a@x>")[0]
                  .name,
              "\xC3\x9C"
              "b er");
}

TEST(ParseAddresses, refuses_an_invalid_address_with_a_reason) {
    expect_bad("", "missing");
    expect_bad("  ", "missing");
    expect_bad("a@x,", "missing");
    expect_bad("a@x,,b@x", "missing");
    expect_bad("nobody", "exactly one @");
    expect_bad("Name <nobody>", "exactly one @");
    expect_bad("a@b@c", "exactly one @");
    expect_bad("@x", "before or after");
    expect_bad("a@", "before or after");
    expect_bad("a b@x", "character");
    expect_bad("a@x b@x", "character");
    expect_bad("a@x;b@x", "character");
    expect_bad("<a@x> Name", "character");
    expect_bad("Name <a@x", "character");
    expect_bad("a@x>", "without a <");
    expect_bad("\xC3\xA9@x", "ASCII");
    expect_bad("\"Doe, J <a@x>", "not closed");
    expect_bad("a@x\r\nBcc: b@x", "control");
    expect_bad("Ops (night) <a@x>", "parentheses");
    expect_bad("a@x (Ops)", "character");
    expect_bad("\"a b\"@x", "character");
    expect_bad("a@m\xC3\xBCller.example", "xn--");
}

TEST(ParseAddresses, checks_the_parts_of_an_address) {
    const std::string label(63, 'd');
    const std::string local(64, 'l');
    for (const std::string &good :
         {std::string("a.b+c'd@x-1.example"), "a@" + label + "." + label, local + "@x",
          std::string("a@1.2.3"), std::string("a@xn--mller-kva.example"),
          "a@" + label + "." + label + "." + label + "." + std::string(60, 'd')})
        EXPECT_EQ(parse_addresses(good)[0].email, good);
    for (const char *const bad : {"a@.x", "a@x.", "a@x..y", "a@."})
        expect_bad(bad, "domain begins or ends with a dot");
    for (const char *const bad : {"a@-x", "a@x-", "a@x.-y", "a@x-.y", "a@-"})
        expect_bad(bad, "hyphen");
    for (const char *const bad : {"a@x_y", "a@x!", "a@[1.2.3.4]", "a@x/y", "a@x:25"})
        expect_bad(bad, "domain has an invalid");
    for (const char *const bad : {".a@x", "a.@x", "a..b@x", ".@x"})
        expect_bad(bad, "before its @ begins or ends");
    for (const char *const bad : {"a:b@x", "a[b@x"})
        expect_bad(bad, "before its @ has an invalid");
    expect_bad("a@" + label + "d", "63");
    expect_bad(local + "l@x", "64");
    expect_bad("a@" + label + "." + label + "." + label + "." + std::string(61, 'd'), "254");
}

TEST(ParseAddresses, can_locate_a_fault_without_quoting_it) {
    try {
        parse_addresses("a@example.com, secret-ops, b@example.com");
        ADD_FAILURE();
    } catch (const BadAddress &bad) {
        EXPECT_EQ(bad.unquoted(), "address 2 is invalid: it must have exactly one @");
    }
}

TEST(ParseAddresses, quotes_in_whole_characters) {
    try {
        parse_addresses("M\xC3\xBCller");
        ADD_FAILURE();
    } catch (const BadAddress &bad) {
        EXPECT_TRUE(contains(bad.what(), "\"M\xC3\xBCller\""));
    }
    for (std::size_t size = 90; size < 110; ++size)
        try {
            parse_addresses(std::string(size, 'x') + "\xC3\xBC\xC3\xBC\xC3\xBC");
            ADD_FAILURE();
        } catch (const BadAddress &bad) {
            EXPECT_EQ(clean_line(bad.what()), bad.what()) << "no broken character";
        }
}

TEST(ParseAddresses, parses_thousands_quickly) {
    std::string list;
    for (int i = 0; i < 20000; ++i)
        list += "a" + std::to_string(i) + "@example.com,A" + std::to_string(i) + "@example.com,";
    list += "last@example.com";
    EXPECT_EQ(parse_addresses(list).size(), 20001U);
}

TEST(ParseAddresses, quotes_the_invalid_address_and_clips_it) {
    expect_bad("a@x, b", "\"b\"");
    try {
        parse_addresses(std::string(100000, 'x'));
        ADD_FAILURE();
    } catch (const BadAddress &bad) {
        EXPECT_LE(std::string_view(bad.what()).size(), 200U);
    }
}

TEST(Addresses, are_not_ascii_before_the_at_where_that_is_allowed) {
    const auto taken = [](const std::string &list) {
        return parse_addresses(list, LocalPart::utf8)[0].email;
    };
    EXPECT_EQ(taken("J <j\xC3\xB6rg@example.com>"), "j\xC3\xB6rg@example.com");
    EXPECT_EQ(taken("\xF0\x9F\x8E\xB5@example.com"), "\xF0\x9F\x8E\xB5@example.com");
    for (const char *list :
         {"j\xC3@example.com", "j\xC2\xA0@example.com", "j\xE2\x80\x8B@example.com",
          "\xE2\x80\xAE@example.com", "a@m\xC3\xBCller.example", "j\xC3\xB6rg",
          "\xC3\xB6 \xC3\xB6@example.com"})
        EXPECT_THROW(parse_addresses(list, LocalPart::utf8), BadAddress) << list;
}

} // namespace

} // namespace job_alerting::core
