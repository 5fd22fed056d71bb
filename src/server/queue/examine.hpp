// What check() finds out about a failure query, in its sandbox. C regime.

#pragma once

#include "server/queue/scan.hpp"

namespace job_alerting::server {

// Lists of objects are for people, null when there are none.
struct QueryFacts {
    char *plan;             // of the statement that a scan runs first, as EXPLAIN's JSON
    char *row_security;     // relations of which row-level security may hide rows from the owner
    char *others;           // what ordinary roles own of all that a superuser's query uses
    char *remotes;          // foreign tables that it reads
    char *views;            // and views
    bool assumes_time_zone; // it takes a timestamp without time zone for one with
};

QueryFacts examine_query(const ScannedQueue &queue, int time_limit);

// The same without the plan, in a user's session.
QueryFacts examine_tree(const char *query, Oid owner);

// How many rows of a table have one of these keys, a text[], as the queue's owner sees it.
int64 count_rows(const ScannedQueue &queue, int time_limit, const char *table, const char *key,
                 Datum keys);

} // namespace job_alerting::server
