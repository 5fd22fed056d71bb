#include "http/key.hpp"

#include <algorithm>

namespace job_alerting::http {

namespace {

bool is_control(char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < ' ' || byte == 0x7f;
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
    if (static_cast<std::size_t>(file.st_size) > most_key)
        return "is larger than 4 KiB";
    return {};
}

std::string key_fault(const std::string &text) {
    if (text.empty())
        return "is empty";
    if (text.size() > most_key)
        return "is larger than 4 KiB";
    if (std::any_of(text.begin(), text.end(), is_control))
        return "contains a control character or a second line";
    return {};
}

} // namespace job_alerting::http
