#include "server/secret.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace job_alerting::server {

namespace {

constexpr std::size_t most = 4096;

class File {
public:
    // Opened without blocking: the name may be that of a FIFO.
    explicit File(const std::string &name)
        : descriptor_(open(name.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)) {
        if (descriptor_ < 0)
            throw BadSecret("key file \"" + name + "\" cannot be opened: " + strerror(errno));
    }
    ~File() { close(descriptor_); }
    File(const File &) = delete;
    File &operator=(const File &) = delete;

    int descriptor() const { return descriptor_; }

private:
    int descriptor_;
};

// What is wrong with the file's kind, owner or permissions; empty when nothing is.
std::string fault(const struct stat &status) {
    if (!S_ISREG(status.st_mode))
        return "is not a regular file";
    if (status.st_uid != geteuid() && status.st_uid != 0)
        return "belongs neither to the server's user nor to root";
    if (status.st_uid == geteuid() && (status.st_mode & (S_IRWXG | S_IRWXO)))
        return "is open to others; its permissions must be u=rw (0600) or less";
    if (status.st_uid == 0 && (status.st_mode & (S_IWGRP | S_IXGRP | S_IRWXO)))
        return "is open to others; its permissions must be u=rw,g=r (0640) or less";
    if (static_cast<std::size_t>(status.st_size) > most)
        return "is larger than 4 KiB";
    return {};
}

std::string read_file(const std::string &name) {
    const File file(name);
    struct stat status;
    if (fstat(file.descriptor(), &status) != 0)
        throw BadSecret("key file \"" + name + "\" cannot be examined: " + strerror(errno));
    const std::string wrong = fault(status);
    if (!wrong.empty())
        throw BadSecret("key file \"" + name + "\" " + wrong);
    std::string text(most + 1, '\0');
    const ssize_t size = read(file.descriptor(), text.data(), text.size());
    if (size < 0)
        throw BadSecret("key file \"" + name + "\" cannot be read: " + strerror(errno));
    text.resize(static_cast<std::size_t>(size));
    return text;
}

std::string read_environment(const char *variable) {
    const char *text = getenv(variable);
    if (!text || !*text)
        throw BadSecret(std::string("there is no key: neither the setting for a key file nor the "
                                    "server's environment variable ") +
                        variable + " names one");
    return text;
}

void strip_line_end(std::string &text) {
    if (!text.empty() && text.back() == '\n')
        text.pop_back();
    if (!text.empty() && text.back() == '\r')
        text.pop_back();
}

bool has_control(const std::string &text) {
    for (const unsigned char c : text)
        if (c < ' ' || c == 0x7f)
            return true;
    return false;
}

} // namespace

Secret::Secret(const std::string &file, const char *variable)
    : text_(file.empty() ? read_environment(variable) : read_file(file)) {
    strip_line_end(text_);
    const char *wrong = text_.empty()         ? "is empty"
                        : text_.size() > most ? "is larger than 4 KiB"
                        : has_control(text_)  ? "contains a control character or a second line"
                                              : nullptr;
    if (!wrong)
        return;
    wipe(text_);
    throw BadSecret(
        (file.empty() ? std::string("the key in ") + variable : "key file \"" + file + "\"") + " " +
        wrong);
}

Secret::~Secret() {
    wipe(text_);
}

void wipe(std::string &text) {
    explicit_bzero(text.data(), text.size());
}

} // namespace job_alerting::server
