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

// The name of the file in messages: that of its setting. Not every role that is shown a message may
// see the path, and a secret that was put into the setting itself would be told.
std::string called(const SecretPlace &place) {
    return std::string(place.what) + " file of " + place.setting +
           (place.file.front() == '/' ? "" : ", which is not named by an absolute path,");
}

class File {
public:
    // Opened without blocking: the name may be that of a FIFO.
    explicit File(const SecretPlace &place)
        : descriptor_(open(place.file.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)) {
        if (descriptor_ < 0)
            throw BadSecret(called(place) + " cannot be opened: " + strerror(errno));
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
        throw BadSecret(called(place) + " cannot be examined: " + strerror(errno));
    const std::string fault = http::key_file_fault(status, geteuid());
    if (!fault.empty())
        throw BadSecret(called(place) + " " + fault);
    std::string text(http::max_key + 1, '\0');
    const ssize_t size = read(file.descriptor(), text.data(), text.size());
    if (size < 0)
        throw BadSecret(called(place) + " cannot be read: " + strerror(errno));
    text.resize(static_cast<std::size_t>(size));
    return text;
}

std::string read_environment(const SecretPlace &place) {
    const char *text = getenv(place.variable);
    if (!text || !*text)
        throw BadSecret(std::string("there is no ") + place.what + ": neither " + place.setting +
                        " nor the server's environment variable " + place.variable + " names one");
    return text;
}

} // namespace

Secret::Secret(const SecretPlace &place)
    : text_(http::key_in(place.file.empty() ? read_environment(place) : read_file(place))) {
    const std::string fault = http::key_fault(text_);
    if (fault.empty())
        return;
    wipe(text_);
    throw BadSecret((place.file.empty() ? std::string("the ") + place.what + " in " + place.variable
                                        : called(place)) +
                    " " + fault);
}

Secret::~Secret() {
    wipe(text_);
}

void wipe(std::string &text) {
    explicit_bzero(text.data(), text.size());
}

} // namespace job_alerting::server
