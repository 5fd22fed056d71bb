// A table shaped like research_jobs: what watch() asks of it, and the failure query that it writes
// for it. C regime. Texts are in the current memory context.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

// Opens it with a reader's lock, which stays to the end of the transaction; the caller closes it.
// An error when it does not exist, is no table or a temporary one, or belongs to a role that the
// current user is no member of.
Relation open_jobs(Oid table);

// The same by its qualified name, without any error: null where there is none.
Relation find_jobs(const char *name);

// An error that names every required column that is missing or of another type.
void check_columns(Relation relation);

// The failure query of a table whose columns were checked. An error when its primary key is not of
// one column.
char *write_failure_query(Relation relation);

// The statement that makes the index, on that table or partition, which serves a failure query of
// this table index-only: its condition is the query's, word for word. Null for a query that
// write_failure_query() would not write now, and where no index can have that condition.
char *advise_index(Relation relation, const char *query, const char *on);

// A status, in SQL, as it is compared: without regard to case and surrounding blanks.
char *status_word(const char *status);

} // namespace job_alerting::server
