#include "server/base/prelude.hpp"

#include "server/delivery/base64.hpp"

extern "C" {
#include "common/base64.h"
}

namespace job_alerting::server {

std::string base64(const std::string &bytes) {
    const int size = static_cast<int>(bytes.size());
    std::string text(static_cast<std::size_t>(pg_b64_enc_len(size)), '\0');
    const int written = pg_b64_encode(reinterpret_cast<const Base64Byte *>(bytes.data()), size,
                                      text.data(), static_cast<int>(text.size()));
    text.resize(static_cast<std::size_t>(std::max(written, 0)));
    return text;
}

std::optional<std::string> from_base64(const std::string &text) {
    const int size = static_cast<int>(text.size());
    std::string bytes(static_cast<std::size_t>(pg_b64_dec_len(size)), '\0');
    const int written =
        pg_b64_decode(text.data(), size, reinterpret_cast<Base64Byte *>(bytes.data()),
                      static_cast<int>(bytes.size()));
    if (written < 0)
        return std::nullopt;
    bytes.resize(static_cast<std::size_t>(written));
    return bytes;
}

} // namespace job_alerting::server
