#include "server/secret.hpp"

#include "http/key.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace job_alerting::server {

namespace {

// What a file is called in messages. One that is not named by its whole path may be the key itself,
// put into the wrong setting.
std::string called(const std::string &name) {
    return name.front() == '/' ? "key file \"" + name + "\""
                               : "the key file, which is not named by an absolute path,";
}

class File {
public:
    // Opened without blocking: the name may be that of a FIFO.
    explicit File(const std::string &name)
        : descriptor_(open(name.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)) {
        if (descriptor_ < 0)
            throw BadSecret(called(name) + " cannot be opened: " + strerror(errno));
    }
    ~File() { close(descriptor_); }
    File(const File &) = delete;
    File &operator=(const File &) = delete;

    int descriptor() const { return descriptor_; }

private:
    int descriptor_;
};

std::string read_file(const std::string &name) {
    const File file(name);
    struct stat status;
    if (fstat(file.descriptor(), &status) != 0)
        throw BadSecret(called(name) + " cannot be examined: " + strerror(errno));
    const std::string fault = http::key_file_fault(status, geteuid());
    if (!fault.empty())
        throw BadSecret(called(name) + " " + fault);
    std::string text(http::most_key + 1, '\0');
    const ssize_t size = read(file.descriptor(), text.data(), text.size());
    if (size < 0)
        throw BadSecret(called(name) + " cannot be read: " + strerror(errno));
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

} // namespace

Secret::Secret(const std::string &file, const char *variable)
    : text_(file.empty() ? read_environment(variable) : read_file(file)) {
    strip_line_end(text_);
    const std::string fault = http::key_fault(text_);
    if (fault.empty())
        return;
    wipe(text_);
    throw BadSecret((file.empty() ? std::string("the key in ") + variable : called(file)) + " " +
                    fault);
}

Secret::~Secret() {
    wipe(text_);
}

void wipe(std::string &text) {
    explicit_bzero(text.data(), text.size());
}

} // namespace job_alerting::server
