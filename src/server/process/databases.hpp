// The databases that the launcher serves, from the shared catalog. C regime.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

struct Database {
    Oid oid;
    NameData name;
    TimestampTz due; // when its round is due; set by the launcher
};

// Returns a list of Database, allocated in the caller's memory context. Leaves out templates,
// databases that do not allow connections and partially dropped ones (connection limit -2). Call it
// outside a transaction.
List *list_databases();

// Reads the database's name again, since time has passed while other databases had their rounds.
// Returns false if the database must no longer be served.
bool refresh(Database *database);

} // namespace job_alerting::server
