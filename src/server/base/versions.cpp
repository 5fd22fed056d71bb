#include "server/base/prelude.hpp"

#include "server/base/extension.hpp"

// A release that changes the SQL objects adds its version here. Where a statement of the library
// needs what an earlier one of these lacks, that is to be said beside it, and the statement asks.
const char *const job_alerting_versions[] = {"1.0", nullptr};
