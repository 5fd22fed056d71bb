// The extension as it is installed in this database. C regime.

#pragma once

#include "server/prelude.hpp"

namespace job_alerting::server {

inline constexpr const char *extension_name = "job_alerting";

// The version of the SQL objects that this library works with.
inline constexpr const char *supported_version = "1.0";

struct Extension {
    Oid oid;                // InvalidOid when the database does not have it
    Oid owner;              // whom the ledger is written as
    bool created_here;      // by the transaction that asks
    bool version_supported; // extversion is supported_version
};

Extension find_extension();

// Looks the extension up, and holds it (ACCESS SHARE on the extension itself) to the end of the
// transaction, so that DROP EXTENSION waits for us and we for it.
Extension hold_extension();

} // namespace job_alerting::server
