// Where this database lives. What differs from what its tables say was changed behind their back:
// they are a copy of others, or their server was promoted.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

struct Installation {
    std::string place;      // system identifier and oid of the database; a copy has another
    std::int64_t timeline;  // another one after a promotion
    std::int64_t recovered; // the last timeline that a restored cluster left; 0 for none
    std::string backup; // where the base backup began that the cluster was restored from, if any
};

// Called while the server starts: whether it is about to recover from an archive, and no standby.
// C regime.
void note_restoring();

// Reads it. Throws ServerError.
Installation find_installation();

} // namespace job_alerting::server
