// The databases that the launcher looks into, from the shared catalog. C regime.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

struct Database {
    Oid oid;
    NameData name;
    TimestampTz due; // the launcher's: when its round is due
};

// A list of Database, in the caller's memory: no templates, none that takes no connections, none
// that was dropped halfway (its connection limit is -2). To be called outside a transaction.
List *list_databases();

// Brings up to date what is known of a database: the rounds of others may have taken long. Returns
// false when it is not to be looked into any more.
bool refresh(Database *database);

} // namespace job_alerting::server
