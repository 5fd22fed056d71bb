// A table shaped like research_jobs: its required columns, and the queries that watch() writes for
// it. C regime. Texts are in the current memory context.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

// Opens the table with a reader's lock, which lasts to the end of the transaction; the caller
// closes it. Raises an error when the table does not exist, is no table or a temporary one, or
// belongs to a role that the current user is no member of.
Relation open_jobs(Oid table);

// The same by its qualified name, without any of these errors: null where there is no such table.
Relation find_jobs(const char *name);

// Raises an error that names every required column that is missing or of another type.
void check_columns(Relation relation);

// The table as SQL names it.
const char *table_name(Relation relation);

// The only column of its primary key. Raises an error when there is not just one.
const char *key_column(Relation relation);

// The failure query of a table whose columns were checked.
char *write_failure_query(Relation relation);

// For steps_query(); null when the table does not tell chains and steps.
char *write_never_ran_query(Relation relation);

// The statement that creates the index, on that table or partition, which serves a failure query of
// this table index-only: its condition is the query's, word for word. Null for a query that
// write_failure_query() would not write now, and where no index can have that condition.
char *advise_index(Relation relation, const char *query, const char *on);

// A status, in SQL, as it is compared: without regard to case and surrounding blanks.
char *status_word(const char *status);

} // namespace job_alerting::server
