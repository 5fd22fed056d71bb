// A failure query: what it must be, and the queries that a scan makes of it. C regime.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

// A column that a failure query may return.
struct FailureColumn {
    const char *name;
    Oid type;
    bool required;
    int most; // characters of it that the ledger keeps; 0 for all
};

inline constexpr int failure_column_count = 13;
extern const FailureColumn failure_columns[failure_column_count];

// The columns that a scan reads of each failure: all but the last, never_ran, which belongs to a
// chain and is read with steps_query().
inline constexpr int failure_row_columns = failure_column_count - 1;

// Which of failure_columns a query returns.
struct FailureColumns {
    bool present[failure_column_count];
};

// Returns the text of the one plain SELECT in `text`, without the rest. Raises an error for a
// syntax error, no or several statements, another kind of statement, SELECT INTO, or a WITH that
// modifies data.
char *single_select(const char *text);

// Analyses the query without running it. Raises an error when it is not one statement that returns
// rows. Runs in a sandbox, with SPI connected; the result lasts as long as the connection.
const CachedPlanSource *analyse(const char *query);

// Finds the columns that the query returns, without running it. Raises an error when one is
// missing, unknown or of the wrong type. Runs in a sandbox, with SPI connected.
FailureColumns describe_failure_query(const char *query);

// Only the columns that form a failure's identity.
FailureColumns without_details(FailureColumns columns);

// The columns that are in both.
FailureColumns common(FailureColumns columns, const FailureColumns &others);

// Queries around a failure query. `since`: a timestamptz, as text.
//
// The identity of a failure within its queue is two texts: its job_id, and the occurrence, which
// tells one failure of a job from the next and is NULL where the query returns none. If a text is
// too long for an index, the identity has its beginning and a digest of the whole.

// The identities of all failures that stand now: job_id and occurrence.
char *identities_query(const char *query, const FailureColumns &columns, const char *since);

// The columns of a failure's row, with job_id and occurrence as the identity has them. `of_jobs`:
// only of the jobs whose job_hash() is in $1, a bigint[].
char *failures_query(const char *query, const FailureColumns &columns, const char *since,
                     bool of_jobs);

// The steps that never ran of the chains in $1, a text[]: chain, and never_ran, which is clipped.
// `never_ran_query` returns both by these names for the chains in its $1. Without one the failure
// query may tell them itself, and the last failure of a chain counts; null when it does not.
char *steps_query(const char *never_ran_query);
char *steps_query(const char *failure_query, const FailureColumns &columns);

// The chains of all failures that stand, as one text[]; NULL when there are none. Null when the
// failure query has no chains.
char *chains_query(const char *query, const FailureColumns &columns, const char *since);

// In SQL, a hash of a job_id. Two jobs may have the same.
char *job_hash(const char *job_id);

// The to_char() format, for a time in UTC, of an occurrence that the extension makes itself.
#define AS_OCCURRENCE "'YYYY-MM-DD HH24:MI:SS.US'"

// The identities, in the ledger, of the standing failures of queue $1.
extern const char *const ledger_identities;

// In SQL, whether s is the identity of ledger row f. Either side may be large: hash and merge joins
// can use this condition.
extern const char *const same_failure;

} // namespace job_alerting::server
