// A table shaped like research_jobs: what watch() asks of it, and the failure query that it writes
// for it. C regime. Texts are in the current memory context.

#pragma once

#include "server/prelude.hpp"

namespace job_alerting::server {

// Opens it with a reader's lock, which stays to the end of the transaction; the caller closes it.
// An error when it does not exist, is no table or a temporary one, or belongs to a role that the
// current user is no member of.
Relation open_jobs(Oid table);

// An error that names every required column that is missing or of another type.
void check_columns(Relation relation);

// The failure query of a table whose columns were checked. An error when its primary key is not of
// one column.
char *write_failure_query(Relation relation);

// Which rows of a job table are final failures: `dead`, but for those that somebody cancelled, and
// `failed` with the attempts used up. A limit that is not known counts as reached. `status` and
// `error` are how a query says those columns; no `error`, where there is none.
char *final_failure_condition(const char *status, const char *error);

} // namespace job_alerting::server
