#include "http/key.hpp"

#include <gtest/gtest.h>

namespace job_alerting::http {

namespace {

constexpr uid_t root = 0;
constexpr uid_t server = 114;
constexpr uid_t other = 1000;

std::string fault(mode_t mode, uid_t owner, off_t size = 70) {
    struct stat file = {};
    file.st_mode = mode;
    file.st_uid = owner;
    file.st_size = size;
    return key_file_fault(file, server);
}

std::string of_file(mode_t permissions, uid_t owner) {
    return fault(S_IFREG | permissions, owner);
}

bool speaks_of(const std::string &fault, const std::string &reason) {
    return fault.find(reason) != std::string::npos;
}

TEST(KeyFile, of_the_server_user_must_exclude_others) {
    for (const mode_t permissions : {0600, 0400, 0200, 0700, 0000})
        EXPECT_EQ(of_file(permissions, server), "") << std::oct << permissions;
    for (const mode_t permissions : {0640, 0620, 0610, 0604, 0602, 0601, 0644, 0660, 0666, 0777})
        EXPECT_TRUE(speaks_of(of_file(permissions, server), "(0600) or less"))
            << std::oct << permissions;
}

TEST(KeyFile, of_root_may_be_readable_by_its_group) {
    for (const mode_t permissions : {0640, 0440, 0600, 0400, 0040, 0000})
        EXPECT_EQ(of_file(permissions, root), "") << std::oct << permissions;
    for (const mode_t permissions : {0644, 0660, 0650, 0642, 0641, 0604, 0602, 0601, 0666, 0777})
        EXPECT_TRUE(speaks_of(of_file(permissions, root), "(0640) or less"))
            << std::oct << permissions;
}

TEST(KeyFile, of_another_user_is_refused) {
    for (const mode_t permissions : {0600, 0400, 0640, 0644, 0000})
        EXPECT_TRUE(
            speaks_of(of_file(permissions, other), "neither to the server's user nor to root"))
            << std::oct << permissions;
}

TEST(KeyFile, must_be_a_regular_file) {
    for (const mode_t kind : {S_IFDIR, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK, S_IFLNK})
        for (const uid_t owner : {root, server, other})
            EXPECT_EQ(fault(kind | 0600, owner), "is not a regular file");
}

TEST(KeyFile, has_at_most_4_KiB) {
    EXPECT_EQ(fault(S_IFREG | 0600, server, 0), "");
    EXPECT_EQ(fault(S_IFREG | 0600, server, 4096), "");
    EXPECT_EQ(fault(S_IFREG | 0600, server, 4097), "is larger than 4 KiB");
    EXPECT_EQ(fault(S_IFREG | 0640, root, off_t(1) << 40), "is larger than 4 KiB");
}

TEST(Key, must_be_one_line_without_control_characters) {
    for (const std::string &key :
         {std::string("k"), std::string("SG.a-b_c.d=/+"), std::string(4096, 'k')})
        EXPECT_EQ(key_fault(key), "");
    EXPECT_EQ(key_fault(""), "is empty");
    EXPECT_EQ(key_fault(std::string(4097, 'k')), "is larger than 4 KiB");
    for (const char c : {'\0', '\n', '\r', '\t', '\x1b', '\x1f', '\x7f'})
        for (const std::size_t at : {0U, 3U, 6U}) {
            const std::string key = std::string("secret").insert(at, 1, c);
            EXPECT_TRUE(speaks_of(key_fault(key), "control character")) << int(c);
            EXPECT_FALSE(speaks_of(key_fault(key), "ecre")) << "it holds the key";
        }
}

TEST(Key, omits_byte_order_mark_and_line_end) {
    for (const char *const text : {"SG.k", "SG.k\n", "SG.k\r\n", "\xEF\xBB\xBFSG.k\r\n"})
        EXPECT_EQ(key_in(text), "SG.k");
    EXPECT_EQ(key_in("SG.k\n\n"), "SG.k\n");
    EXPECT_EQ(key_in("\xEF\xBB"), "\xEF\xBB");
    EXPECT_EQ(key_in("\xEF\xBB\xBF"), "");
}

TEST(Key, must_be_bare) {
    const struct {
        const char *text;
        const char *why;
    } cases[] = {{"\"SG.secret\"", "quotes"},
                 {"'SG.secret'", "quotes"},
                 {"\"SG.secret", "quotes"},
                 {"SG.secret'", "quotes"},
                 {"Bearer SG.secret", "Bearer"},
                 {"bearer SG.secret", "Bearer"},
                 {"SENDGRID_API_KEY=SG.secret", "a name and"},
                 {"key==SG.secret", "a name and"},
                 {"SENDGRID_API_KEY = SG.secret", "a space"},
                 {"export KEY=SG.secret", "a space"},
                 {"SG.sec ret", "a space"},
                 {" SG.secret", "a space"},
                 {"SG.secret ", "a space"},
                 {"SG.s\xC3\xA9"
                  "cret",
                  "not ASCII"},
                 {"\xFF\xFES", "not ASCII"},
                 {"SG.secret\xC2\xA0", "not ASCII"}};
    for (const auto &[text, why] : cases) {
        EXPECT_TRUE(speaks_of(key_fault(text), why)) << text << ": " << key_fault(text);
        EXPECT_FALSE(speaks_of(key_fault(text), "ecre")) << "it holds the key";
    }
    for (const char *const key :
         {"c2VjcmV0cw==", "whsec_c2VjcmV0cw=", "https://x.example/a?b=c", "SG.a=b", "bearer", "=x"})
        EXPECT_EQ(key_fault(key), "") << key;
}

TEST(Login, is_two_lines) {
    for (const char *text : {"user\nword", "user@example.com\npass word \"=' \xC3\xA9", "a\nb"})
        EXPECT_EQ(login_fault(text), "") << text;
    for (const std::string &text :
         {std::string(), std::string("user"), std::string("user\n"), std::string("\nword"),
          std::string("a\nb\nc"), std::string("a\nb\x01"), std::string("a\0\nb", 4),
          std::string("a\n") + std::string(max_key, 'x')})
        EXPECT_NE(login_fault(text), "") << text;
}

} // namespace

} // namespace job_alerting::http
