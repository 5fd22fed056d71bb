// The extension as installed in this database. C regime.

#pragma once

#include "server/base/prelude.hpp"

// Versions of the SQL objects that this library supports, oldest first; null-terminated. A database
// keeps the objects of an earlier release until ALTER EXTENSION UPDATE, and its rounds continue
// meanwhile. The symbol is exported so that a test can replace the list.
extern "C" PGDLLEXPORT __attribute__((visibility("default")))
const char *const job_alerting_versions[];

namespace job_alerting::server {

inline constexpr const char *extension_name = "job_alerting";

struct Extension {
    Oid oid;             // InvalidOid if the extension is not installed
    Oid owner;           // role that writes to the ledger
    bool created_here;   // the current transaction created it
    const char *version; // version of its SQL objects
};

Extension find_extension();

// Looks up the extension and locks it (ACCESS SHARE on the extension itself) until the end of the
// transaction, so that a concurrent DROP EXTENSION waits for us and we for it.
Extension hold_extension();

// The newest entry of job_alerting_versions.
const char *newest_version();

// Returns why this library cannot work with the extension's SQL objects, or null if it can. Report
// it with the SQLSTATE and the hint below.
const char *version_fault(const Extension &extension);

inline constexpr int version_sqlstate = ERRCODE_FEATURE_NOT_SUPPORTED;
inline constexpr const char *version_hint =
    "Restart the server if it has been running since before the library was installed; then run "
    "ALTER EXTENSION job_alerting UPDATE.";

} // namespace job_alerting::server
