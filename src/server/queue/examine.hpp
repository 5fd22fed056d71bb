// The objects that a failure query uses, found without running it. C regime.

#pragma once

#include "server/queue/scan.hpp"

namespace job_alerting::server {

// Lists of objects are for people, null when there are none.
struct QueryFacts {
    char *row_security;     // relations of which row-level security may hide rows from the owner
    char *others;           // objects of ordinary roles that a superuser's query uses
    char *remotes;          // foreign tables that it reads
    char *views;            // and views
    bool assumes_time_zone; // it takes a timestamp without time zone for one with
};

// Looks into the query in its sandbox. Only a worker may set a time limit (ms; 0 for none).
QueryFacts examine_query(const ScannedQueue &queue, int time_limit);

} // namespace job_alerting::server
