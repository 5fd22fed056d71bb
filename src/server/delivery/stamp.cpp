#include "server/base/prelude.hpp"

#include "server/delivery/stamp.hpp"

#include "server/delivery/route.hpp"

extern "C" {
#include "pgtime.h"
#include "port.h"
}

namespace job_alerting::server {

std::string utc_now(const char *format) {
    const pg_time_t now = static_cast<pg_time_t>(seconds_now());
    char text[64];
    pg_strftime(text, sizeof(text), format, pg_gmtime(&now));
    return text;
}

std::string random_token() {
    unsigned char bytes[12];
    if (!pg_strong_random(bytes, sizeof(bytes)))
        throw std::runtime_error("could not generate random numbers");
    std::string token;
    for (const unsigned char byte : bytes)
        for (const int half : {byte >> 4, byte & 15})
            token += "0123456789abcdef"[half];
    return token;
}

} // namespace job_alerting::server
