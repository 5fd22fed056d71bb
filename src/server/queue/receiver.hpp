// Where the rows of a failure query go, and those of the ledger that they are compared with. C
// regime.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

TupleDesc failure_description();  // the columns of a failure's row
TupleDesc identity_description(); // job_id and occurrence
TupleDesc steps_description();    // chain and never_ran

// How many identities there are, and a wide sum of their hashes. Two sets whose fingerprints by the
// same random seed agree are the same.
struct Fingerprint {
    uint64 seed[2];
    uint64 sum[2];
    int64 count;
};

Fingerprint new_fingerprint();
Fingerprint empty_like(const Fingerprint &other); // with its seed
bool operator==(const Fingerprint &one, const Fingerprint &other);

// Adds rows to a store that outlives the sandbox. They are copied whole: none may point into a
// table that is no longer locked.
DestReceiver *into(Tuplestorestate *store, MemoryContext context);

// Hands rows on to `next`. An error when they are not of the types that they are to be read as, or
// one has no job_id, the first column. Adds each to `fingerprint`, unless that is null.
DestReceiver *checked(DestReceiver *next, TupleDesc expected, Fingerprint *fingerprint);

} // namespace job_alerting::server
