// The objects that a failure query uses, found without running it. C regime.

#pragma once

#include "server/queue/scan.hpp"

namespace job_alerting::server {

// Lists of objects are comma-separated names for messages, null if there are none.
struct QueryFacts {
    char *row_security;     // relations whose row-level security may hide rows from the owner
    char *others;           // for a superuser's query: objects that ordinary roles own
    char *remotes;          // foreign tables that the query reads
    char *views;            // views that the query reads
    bool assumes_time_zone; // a timestamp without time zone is cast to timestamptz
};

// Analyses the query in its sandbox. Only a worker may set a time limit (ms; 0 for none).
QueryFacts examine_query(const ScannedQueue &queue, int time_limit);

} // namespace job_alerting::server
