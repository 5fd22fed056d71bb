// Receivers for the rows of a failure query, and fingerprints to compare them with the ledger. C
// regime.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

TupleDesc failure_description();  // the columns of a failure's row
TupleDesc identity_description(); // job_id and occurrence
TupleDesc steps_description();    // chain and never_ran

// The number of identities in a set and a 128-bit sum of their hashes. Two sets with equal
// fingerprints by the same random seed are considered equal.
struct Fingerprint {
    uint64 seed[2];
    uint64 sum[2];
    int64 count;
};

Fingerprint new_fingerprint();
Fingerprint empty_like(const Fingerprint &other); // has the same seed
bool operator==(const Fingerprint &one, const Fingerprint &other);

// Adds rows to a store that outlives the sandbox. Values are detoasted, because the table is no
// longer locked when the store is read.
DestReceiver *store_receiver(Tuplestorestate *store, MemoryContext context);

// Passes rows on to `next`. Raises an error if they do not have the expected types, or if a row has
// no job_id, the first column. Adds each row to `fingerprint`, unless that is null.
DestReceiver *checking_receiver(DestReceiver *next, TupleDesc expected, Fingerprint *fingerprint);

} // namespace job_alerting::server
