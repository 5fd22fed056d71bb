// A failure query: what it must be, and the queries that a scan makes of it. C regime.

#pragma once

#include "server/prelude.hpp"

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

// Queries around a failure query. Each takes in $1, a text[], the keys that the ledger has; a key
// is the identity of a failure within its queue, as one text.

// never_ran, which can take long, and which a digest can do without.
bool has_steps(const FailureColumns &columns);
FailureColumns without_steps(FailureColumns columns);

// One row: new failures, known failures, a sum over the keys of the known ones (as text), and
// rows without job_id.
char *summary_query(const char *query, const FailureColumns &columns, TimestampTz since);

// The new failures: all of failure_columns, with occurrence NULL where it is not known.
char *new_failures_query(const char *query, const FailureColumns &columns, TimestampTz since);

// The keys of all failures that stand now.
char *standing_keys_query(const char *query, const FailureColumns &columns, TimestampTz since);

// What a key, in SQL, says of the job alone.
char *job_of_key(const char *key);

// The key of ledger row f, in SQL.
extern const char *const ledger_key;

} // namespace job_alerting::server
