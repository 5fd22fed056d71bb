#include "server/base/prelude.hpp"

#include "server/delivery/signature.hpp"

#include "server/base/guard.hpp"
#include "server/delivery/base64.hpp"
#include "server/delivery/route.hpp"

extern "C" {
#include "common/hmac.h"
#include "common/sha2.h"
}

namespace job_alerting::server {

namespace {

// The server registers an HMAC with the current resource owner. Outside a transaction there is
// none.
class Resources {
public:
    Resources() {
        guarded([&] { owner_ = ResourceOwnerCreate(nullptr, "job_alerting signature"); });
        CurrentResourceOwner = owner_;
    }
    Resources(const Resources &) = delete;
    Resources &operator=(const Resources &) = delete;
    ~Resources() {
        CurrentResourceOwner = before_;
        ResourceOwnerDelete(owner_);
    }

private:
    ResourceOwner before_ = CurrentResourceOwner;
    ResourceOwner owner_ = nullptr;
};

const uint8 *bytes_of(const std::string &text) {
    return reinterpret_cast<const uint8 *>(text.data());
}

} // namespace

std::string signature_of(const std::string &text, const std::string &key) {
    std::string digest(PG_SHA256_DIGEST_LENGTH, '\0');
    bool good = false;
    const Resources resources;
    guarded([&] {
        pg_hmac_ctx *const context = pg_hmac_create(PG_SHA256);
        good = context && pg_hmac_init(context, bytes_of(key), key.size()) >= 0 &&
               pg_hmac_update(context, bytes_of(text), text.size()) >= 0 &&
               pg_hmac_final(context, reinterpret_cast<uint8 *>(digest.data()), digest.size()) >= 0;
        pg_hmac_free(context);
    });
    if (!good)
        throw CannotSend("the message cannot be signed");
    return base64(digest);
}

} // namespace job_alerting::server
