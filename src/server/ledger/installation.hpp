// The identity of this database. When it differs from the identity in its tables, the database is a
// copy, or its server was promoted.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

struct Installation {
    std::string place;      // system identifier and database OID; they differ in a copy
    std::int64_t timeline;  // changes with a promotion
    std::int64_t recovered; // the last timeline before a restore; 0 for none
    std::string backup;     // start of the base backup that the cluster was restored from, if any
};

// Called while the server starts: notes whether it is about to recover from an archive rather than
// run as a standby. C regime.
void note_restoring();

// Reads the identity. Throws ServerError.
Installation find_installation();

} // namespace job_alerting::server
