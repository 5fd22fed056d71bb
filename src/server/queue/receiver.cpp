#include "server/base/prelude.hpp"

#include "server/queue/receiver.hpp"

#include "server/queue/failure_query.hpp"

extern "C" {
#include "common/hashfn.h"
#include "port.h"
}

namespace job_alerting::server {

namespace {

// Checks types again at execution. A function called by the query can change search_path and so the
// meaning of names, and reading a fixed-length value as text would dereference a pointer chosen by
// the query's owner.
struct CheckedReceiver {
    DestReceiver base; // must come first
    DestReceiver *next;
    TupleDesc expected;
    Fingerprint *fingerprint;
};

CheckedReceiver *itself(DestReceiver *self) {
    return reinterpret_cast<CheckedReceiver *>(self);
}

void check_types(DestReceiver *self, int operation, TupleDesc given) {
    const TupleDesc expected = itself(self)->expected;
    bool same = given->natts == expected->natts;
    for (int i = 0; same && i < given->natts; i++)
        same = TupleDescAttr(given, i)->atttypid == TupleDescAttr(expected, i)->atttypid;
    if (!same)
        ereport(ERROR,
                (errcode(ERRCODE_DATATYPE_MISMATCH),
                 errmsg("the failure query returned a column of another type than declared")));
    itself(self)->next->rStartup(itself(self)->next, operation, given);
}

uint64 hash_of(Datum value, uint64 seed) {
    text *content = DatumGetTextPP(value);
    return hash_bytes_extended(reinterpret_cast<const unsigned char *>(VARDATA_ANY(content)),
                               static_cast<int>(VARSIZE_ANY_EXHDR(content)), seed);
}

void add(TupleTableSlot *slot, Fingerprint &fingerprint) {
    bool absent;
    const Datum job_id = slot_getattr(slot, 1, &absent);
    const Datum occurrence = slot_getattr(slot, 2, &absent);
    for (int i = 0; i < 2; i++) {
        const uint64 job = hash_of(job_id, fingerprint.seed[i]);
        fingerprint.sum[i] +=
            absent ? hash_combine64(job, fingerprint.seed[i]) : hash_of(occurrence, job);
    }
    fingerprint.count++;
}

bool pass_row(TupleTableSlot *slot, DestReceiver *self) {
    if (slot_attisnull(slot, 1))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                        errmsg("the failure query returned a job whose job_id is NULL"),
                        errhint("Exclude such jobs, or use another, non-null column as job_id.")));
    if (itself(self)->fingerprint)
        add(slot, *itself(self)->fingerprint);
    return itself(self)->next->receiveSlot(slot, itself(self)->next);
}

void end_rows(DestReceiver *self) {
    itself(self)->next->rShutdown(itself(self)->next);
}

void destroy_receiver(DestReceiver *) {} // the receiver is freed with its memory context

} // namespace

TupleDesc failure_description() {
    TupleDesc description = CreateTemplateTupleDesc(failure_row_columns);
    for (int i = 0; i < failure_row_columns; i++)
        TupleDescInitEntry(description, static_cast<AttrNumber>(i + 1), failure_columns[i].name,
                           failure_columns[i].type, -1, 0);
    return finished(description);
}

TupleDesc identity_description() {
    TupleDesc description = CreateTemplateTupleDesc(2);
    TupleDescInitEntry(description, 1, "job_id", TEXTOID, -1, 0);
    TupleDescInitEntry(description, 2, "occurrence", TEXTOID, -1, 0);
    TupleDescInitEntryCollation(description, 1, C_COLLATION_OID);
    TupleDescInitEntryCollation(description, 2, C_COLLATION_OID);
    return finished(description);
}

TupleDesc steps_description() {
    TupleDesc description = CreateTemplateTupleDesc(2);
    TupleDescInitEntry(description, 1, "chain", TEXTOID, -1, 0);
    TupleDescInitEntry(description, 2, "never_ran", TEXTARRAYOID, -1, 0);
    return finished(description);
}

Fingerprint new_fingerprint() {
    Fingerprint fingerprint = {};
    if (!pg_strong_random(fingerprint.seed, sizeof(fingerprint.seed)))
        ereport(ERROR,
                (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random numbers")));
    return fingerprint;
}

Fingerprint empty_like(const Fingerprint &other) {
    return {.seed = {other.seed[0], other.seed[1]}, .sum = {0, 0}, .count = 0};
}

bool operator==(const Fingerprint &one, const Fingerprint &other) {
    return one.count == other.count && one.sum[0] == other.sum[0] && one.sum[1] == other.sum[1];
}

DestReceiver *store_receiver(Tuplestorestate *store, MemoryContext context) {
    DestReceiver *receiver = CreateDestReceiver(DestTuplestore);
    SetTuplestoreDestReceiverParams(receiver, store, context, true, nullptr, nullptr);
    return receiver;
}

DestReceiver *checking_receiver(DestReceiver *next, TupleDesc expected, Fingerprint *fingerprint) {
    CheckedReceiver *receiver = static_cast<CheckedReceiver *>(palloc0(sizeof(CheckedReceiver)));
    *receiver = {.base = {.receiveSlot = pass_row,
                          .rStartup = check_types,
                          .rShutdown = end_rows,
                          .rDestroy = destroy_receiver,
                          .mydest = DestTuplestore},
                 .next = next,
                 .expected = expected,
                 .fingerprint = fingerprint};
    return &receiver->base;
}

} // namespace job_alerting::server
