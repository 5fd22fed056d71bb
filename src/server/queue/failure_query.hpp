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

// Which of failure_columns a query returns.
struct FailureColumns {
    bool present[failure_column_count];
};

// The text of the one plain SELECT that `text` must be, without what follows it. Otherwise an
// error: a syntax error, no or several statements, another kind of statement, SELECT INTO, or a
// WITH that modifies data.
char *single_select(const char *text);

// Looks at the columns that the query returns, without running it. An error when one is
// missing, unknown or of the wrong type. Runs in a sandbox, with SPI connected.
FailureColumns describe_failure_query(const char *query);

// never_ran, which can take long, and which a digest can do without.
bool has_steps(const FailureColumns &columns);
FailureColumns without_steps(FailureColumns columns);

// Of all columns just those that a failure's identity is made of.
FailureColumns without_details(FailureColumns columns);

// Those that are in both.
FailureColumns common(FailureColumns columns, const FailureColumns &others);

// Queries around a failure query. `since`: a timestamptz, as text.
//
// The identity of a failure within its queue is two texts: its job_id, and the occurrence, which
// tells one failure of a job from the next and is NULL where the query has nothing for it. Of a
// text too long for an index the identity has its beginning and a digest of the whole.

// The identities of all failures that stand now: job_id and occurrence.
char *identities_query(const char *query, const FailureColumns &columns, const char *since);

// All of failure_columns, with job_id and occurrence as the identity has them. `of_jobs`: only of
// the jobs whose job_hash() is in $1, a bigint[].
char *failures_query(const char *query, const FailureColumns &columns, const char *since,
                     bool of_jobs);

// In SQL, a number that stands for a job_id. Two jobs may have the same.
char *job_hash(const char *job_id);

// How an occurrence tells a time in UTC that the query does not know: the format of to_char().
#define AS_OCCURRENCE "'YYYY-MM-DD HH24:MI:SS.US'"

// The identities that the ledger has of the queue $1, of the failures that stand.
extern const char *const ledger_identities;

// In SQL, whether the identity s is that of ledger row f. For joins of both in which either side
// may be large: every plan but a nested loop can use it.
extern const char *const same_failure;

} // namespace job_alerting::server
