#include "server/base/prelude.hpp"

#include "server/base/extension.hpp"

// A release that changes the SQL objects adds its version here. A statement that needs an object
// which an earlier version in this list lacks must have another form for that version; note this
// beside the statement.
const char *const job_alerting_versions[] = {"1.0", nullptr};
