// The extension as it is installed in this database. C regime.

#pragma once

#include "server/base/prelude.hpp"

// The versions of the SQL objects that this library serves, the oldest first; null ends them. A
// database keeps the objects of a release before until its ALTER EXTENSION UPDATE, and its rounds
// go on. Visible, so that a test can put the versions of a later release in its place.
extern "C" PGDLLEXPORT __attribute__((visibility("default")))
const char *const job_alerting_versions[];

namespace job_alerting::server {

inline constexpr const char *extension_name = "job_alerting";

struct Extension {
    Oid oid;             // InvalidOid when the database does not have it
    Oid owner;           // whom the ledger is written as
    bool created_here;   // by the transaction that asks
    const char *version; // of its SQL objects
};

Extension find_extension();

// Looks the extension up, and holds it (ACCESS SHARE on the extension itself) to the end of the
// transaction, so that DROP EXTENSION waits for us and we for it.
Extension hold_extension();

// The newest of job_alerting_versions.
const char *newest_version();

// Why this library cannot work with the extension's SQL objects; null when it can. The error has
// the SQLSTATE and the hint below.
const char *version_fault(const Extension &extension);

inline constexpr int version_sqlstate = ERRCODE_FEATURE_NOT_SUPPORTED;
inline constexpr const char *version_hint =
    "Restart the server if it has been running since before the library was installed; then run "
    "ALTER EXTENSION job_alerting UPDATE.";

} // namespace job_alerting::server
