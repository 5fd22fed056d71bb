#include "server/delivery/secret.hpp"

#include "http/key.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace job_alerting::server {

namespace {

// Names the file in a message by its setting. The path is not shown: a role that may read the
// message may not see it, and the setting may contain the secret itself by mistake.
std::string name_of(const SecretPlace &place) {
    return std::string(place.kind) + " file of " + place.setting +
           (place.file.front() == '/' ? "" : ", whose path is not absolute,");
}

class File {
public:
    // Opens without blocking, in case the path names a FIFO.
    explicit File(const SecretPlace &place)
        : descriptor_(open(place.file.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)) {
        if (descriptor_ < 0)
            throw BadSecret(name_of(place) + " cannot be opened: " + strerror(errno));
    }
    ~File() { close(descriptor_); }
    File(const File &) = delete;
    File &operator=(const File &) = delete;

    int descriptor() const { return descriptor_; }

private:
    int descriptor_;
};

std::string read_file(const SecretPlace &place) {
    const File file(place);
    struct stat status;
    if (fstat(file.descriptor(), &status) != 0)
        throw BadSecret(name_of(place) + " cannot be examined: " + strerror(errno));
    const std::string fault = http::key_file_fault(status, geteuid());
    if (!fault.empty())
        throw BadSecret(name_of(place) + " " + fault);
    std::string text(http::max_key + 1, '\0');
    const ssize_t size = read(file.descriptor(), text.data(), text.size());
    if (size < 0)
        throw BadSecret(name_of(place) + " cannot be read: " + strerror(errno));
    text.resize(static_cast<std::size_t>(size));
    return text;
}

std::string read_environment(const SecretPlace &place) {
    const char *text = getenv(place.variable);
    if (!text || !*text)
        throw BadSecret(std::string("there is no ") + place.kind + ": neither " + place.setting +
                        " nor the server's environment variable " + place.variable + " is set");
    return text;
}

} // namespace

Secret::Secret(const SecretPlace &place)
    : text_(http::key_in(place.file.empty() ? read_environment(place) : read_file(place))) {
    const std::string fault = http::key_fault(text_);
    if (fault.empty())
        return;
    wipe(text_);
    throw BadSecret((place.file.empty() ? std::string("the ") + place.kind + " in " + place.variable
                                        : name_of(place)) +
                    " " + fault);
}

Secret::~Secret() {
    wipe(text_);
}

Login::Login(const SecretPlace &place) {
    std::string text = http::key_in(read_file(place));
    std::erase(text, '\r');
    const std::string fault = http::login_fault(text);
    if (fault.empty()) {
        const std::size_t end = text.find('\n');
        user_ = text.substr(0, end);
        password_ = text.substr(end + 1);
    }
    wipe(text);
    if (!fault.empty())
        throw BadSecret(name_of(place) + " " + fault);
}

Login::~Login() {
    wipe(user_);
    wipe(password_);
}

void wipe(std::string &text) {
    explicit_bzero(text.data(), text.size());
}

} // namespace job_alerting::server
