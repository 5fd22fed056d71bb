#include "http/key.hpp"

#include <algorithm>

namespace job_alerting::http {

namespace {

bool is_control(char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < ' ' || byte == 0x7f;
}

bool is_ascii(char c) {
    return static_cast<unsigned char>(c) < 0x80;
}

bool begins_with_bearer(const std::string &text) {
    constexpr std::string_view bearer = "bearer ";
    return text.size() >= bearer.size() &&
           std::equal(bearer.begin(), bearer.end(), text.begin(),
                      [](char a, char b) { return a == (b | 0x20); });
}

// A line of an environment file. A key may end in =, as base64 does.
bool is_assignment(const std::string &text) {
    const std::size_t name = text.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                                    "abcdefghijklmnopqrstuvwxyz0123456789_");
    return name != text.npos && name > 0 && text[name] == '=' &&
           text.find_first_not_of('=', name) != text.npos;
}

bool is_quoted(const std::string &text) {
    const auto is_quote = [](char c) { return c == '"' || c == '\'' || c == '`'; };
    return is_quote(text.front()) || is_quote(text.back());
}

} // namespace

std::string key_file_fault(const struct stat &file, uid_t user) {
    const auto open_to = [&](mode_t permissions) { return (file.st_mode & permissions) != 0; };
    if (!S_ISREG(file.st_mode))
        return "is not a regular file";
    if (file.st_uid == user) {
        if (open_to(S_IRWXG | S_IRWXO))
            return "is open to others; its permissions must be u=rw (0600) or less";
    } else if (file.st_uid == 0) {
        if (open_to(S_IWGRP | S_IXGRP | S_IRWXO))
            return "is open to others; its permissions must be u=rw,g=r (0640) or less";
    } else {
        return "belongs neither to the server's user nor to root";
    }
    if (static_cast<std::size_t>(file.st_size) > max_key)
        return "is larger than 4 KiB";
    return {};
}

std::string key_in(std::string text) {
    if (text.starts_with("\xEF\xBB\xBF"))
        text.erase(0, 3);
    if (text.ends_with('\n'))
        text.pop_back();
    if (text.ends_with('\r'))
        text.pop_back();
    return text;
}

std::string key_fault(const std::string &text) {
    if (text.empty())
        return "is empty";
    if (text.size() > max_key)
        return "is larger than 4 KiB";
    if (std::any_of(text.begin(), text.end(), is_control))
        return "contains a control character or a second line";
    if (!std::all_of(text.begin(), text.end(), is_ascii))
        return "contains a character that is not ASCII";
    if (is_quoted(text))
        return "has quotes around it; remove them";
    if (begins_with_bearer(text))
        return "begins with \"Bearer\"; remove that word";
    if (text.find(' ') != text.npos)
        return "contains a space";
    if (is_assignment(text))
        return "begins with a name and \"=\"; keep only the value";
    return {};
}

std::string login_fault(const std::string &text) {
    if (text.empty())
        return "is empty";
    if (text.size() > max_key)
        return "is larger than 4 KiB";
    const std::size_t end = text.find('\n');
    if (end == text.npos)
        return "has no second line; the user is on the first, and the password on the second";
    if (text.find('\n', end + 1) != text.npos)
        return "has more than two lines";
    if (end == 0 || end + 1 == text.size())
        return "has an empty line";
    if (std::count_if(text.begin(), text.end(), is_control) > 1)
        return "contains a control character";
    return {};
}

} // namespace job_alerting::http
