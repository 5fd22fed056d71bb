// settle(): an operator's verdict on a digest in doubt. C regime throughout.

#include "server/base/prelude.hpp"

#include "server/base/as_extension.hpp"

extern "C" {
PG_FUNCTION_INFO_V1(job_alerting_settle);
}

namespace job_alerting::server {

namespace {

const char *const mark_arrived =
    "UPDATE job_alerting.digest SET state = 'accepted', request = NULL, next_attempt_at = NULL, "
    "held = NULL, released_at = NULL, error = NULL, "
    "note = concat_ws('; ', note, 'marked as arrived by role ' || $2), updated_at = now() "
    "WHERE id = $1::bigint AND state = 'in_doubt' RETURNING state";
const char *const send_again =
    "UPDATE job_alerting.digest SET next_attempt_at = now(), held = NULL, released_at = now(), "
    "note = concat_ws('; ', note, 'marked as not arrived by role ' || $2), updated_at = now() "
    "WHERE id = $1::bigint AND state = 'in_doubt' RETURNING state";

// The hint for a digest that is not in doubt.
const char *advice(const char *state) {
    if (strcmp(state, "pending") == 0)
        return "It has certainly not arrived. A later round sends it again; to send it now, call "
               "job_alerting.run_digest().";
    if (strcmp(state, "sending") == 0)
        return "A round is waiting for the answer. Try again when the round has ended.";
    return "Only a digest in doubt can be settled.";
}

// Raises the error that no digest was settled.
void raise_not_settled(int64 digest) {
    SPITupleTable *found =
        execute("SELECT d.state FROM job_alerting.digest d WHERE d.id = $1::bigint",
                texts({psprintf(INT64_FORMAT, digest)}));
    if (SPI_processed == 0)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                        errmsg("digest %lld does not exist", static_cast<long long>(digest)),
                        errhint("To list the digests in doubt, run SELECT id FROM "
                                "job_alerting.digest WHERE state = 'in_doubt'.")));
    const char *state = text_of(found, 1);
    ereport(ERROR,
            (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
             errmsg("digest %lld is not in doubt", static_cast<long long>(digest)),
             errdetail("The state of the digest is %s.", state), errhint("%s", advice(state))));
}

} // namespace

} // namespace job_alerting::server

extern "C" Datum job_alerting_settle(PG_FUNCTION_ARGS) {
    using namespace job_alerting::server;

    if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                        errmsg("argument \"%s\" must not be NULL",
                               PG_ARGISNULL(0) ? "digest_id" : "arrived")));
    const int64 digest = PG_GETARG_INT64(0);
    const bool arrived = PG_GETARG_BOOL(1);
    const char *role = GetUserNameFromId(GetUserId(), false);
    const MemoryContext context = CurrentMemoryContext;
    text *state = nullptr;
    as_extension([&] {
        SPITupleTable *settled = execute(arrived ? mark_arrived : send_again,
                                         texts({psprintf(INT64_FORMAT, digest), role}));
        if (SPI_processed == 0)
            raise_not_settled(digest);
        const char *follows = text_of(settled, 1);
        MemoryContextSwitchTo(context);
        state = cstring_to_text(follows);
    });
    PG_RETURN_TEXT_P(state);
}
