// watch(), watch_query() and unwatch(). C regime throughout.

#include "server/base/prelude.hpp"

#include "core/text.hpp"

#include "server/base/as_extension.hpp"
#include "server/base/encoding.hpp"
#include "server/base/settings.hpp"
#include "server/queue/examine.hpp"
#include "server/queue/failure_query.hpp"
#include "server/queue/job_table.hpp"
#include "server/queue/sandbox.hpp"
#include "server/queue/scan.hpp"
#include "server/queue/statuses.hpp"

extern "C" {
PG_FUNCTION_INFO_V1(job_alerting_watch);
PG_FUNCTION_INFO_V1(job_alerting_watch_query);
PG_FUNCTION_INFO_V1(job_alerting_unwatch);
}

namespace job_alerting::server {

namespace {

void check_membership(Oid owner, const char *queue) {
    if (!has_privs_of_role(GetUserId(), owner))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("permission denied for queue \"%s\"", queue),
                        errdetail("It belongs to role \"%s\".", GetUserNameFromId(owner, false)),
                        errhint("Call as a member of that role, or as a superuser.")));
}

// The owner of an existing queue, as a text; null when there is no such queue.
char *find_owner(const char *queue) {
    char *owner = nullptr;
    const MemoryContext context = CurrentMemoryContext;
    as_extension([&] {
        SPITupleTable *found =
            execute("SELECT q.owner FROM job_alerting.queue q WHERE q.name = $1 FOR UPDATE",
                    texts({queue}));
        if (SPI_processed > 0)
            owner = MemoryContextStrdup(context, text_of(found, 1));
    });
    return owner;
}

// Whether there is such a queue. Raises an error when the caller may not change it. A queue whose
// owner is gone belongs to the superusers.
bool check_existing(const char *queue) {
    const char *owner = find_owner(queue);
    if (!owner)
        return false;
    const Oid role = get_role_oid(owner, true);
    check_membership(OidIsValid(role) ? role : BOOTSTRAP_SUPERUSERID, queue);
    return true;
}

void check_name(const char *name) {
    if (name[0] == '\0' || pg_mbstrlen(name) > 200)
        ereport(ERROR, (errcode(ERRCODE_INVALID_NAME),
                        errmsg("the name of a queue must have 1 to 200 characters")));
    if (core::shows_nothing(utf8_of(name)))
        ereport(ERROR, (errcode(ERRCODE_INVALID_NAME), errmsg("the name of a queue is blank"),
                        errdetail("Digests call a queue by its name."),
                        errhint("Give it a name that can be seen.")));
}

struct Declaration {
    ScannedQueue queue;
    bool trusted;     // a round reads such queues before others
    const char *jobs; // as in table queue
    const char *key;
};

// Writes the queue's row with one of two statements. Returns whether there was anything to write.
bool write_queue(const char *statement, const Declaration &declared) {
    const ScannedQueue &queue = declared.queue;
    bool written = false;
    as_extension([&] {
        execute(statement, texts({queue.name, queue.failure_query, queue.owner, queue.since,
                                  declared.trusted ? "t" : "f", queue.never_ran_query,
                                  declared.jobs, declared.key}));
        written = SPI_processed > 0;
    });
    return written;
}

// The trial has no time limit but that of its session.
void warn_where_slow(const char *name, TimestampTz start, const Trial &trial) {
    const int limit = scan_timeout_setting();
    if (TimestampDifferenceExceeds(start, trial.identities_read, limit))
        ereport(WARNING,
                (errmsg("the failure query of queue \"%s\" took longer than "
                        "job_alerting.scan_timeout, %d ms",
                        name, limit),
                 errdetail("A round would cancel it, and see no failure of the queue."),
                 errhint("Create an index for it (job_alerting.check() may name one), or increase "
                         "job_alerting.scan_timeout.")));
}

void warn_of_omission(const char *name, const Trial &trial) {
    const Omission &omission = trial.omission;
    if (omission.columns)
        ereport(WARNING,
                (errmsg("queue \"%s\" is watched, but not all of its columns can be read: %s", name,
                        omission.columns),
                 errdetail("The error was: %s", omission.error),
                 errhint("Correct the rows, or describe the failures with "
                         "job_alerting.watch_query().")));
}

void report_sources(const ScannedQueue &queue) {
    const QueryFacts facts = examine_query(queue, 0);
    if (facts.row_security)
        ereport(WARNING,
                (errmsg("row-level security may hide rows from queue \"%s\"", queue.name),
                 errdetail("Policies of %s apply to role \"%s\": what they hide is not reported.",
                           facts.row_security, queue.owner),
                 errhint("Give the role a policy that shows it all rows (CREATE POLICY ... USING "
                         "(true)), or exempt the table's owner: ALTER TABLE ... NO FORCE ROW LEVEL "
                         "SECURITY.")));
    if (facts.remotes)
        ereport(
            INFO,
            (errmsg("queue \"%s\" reads a remote server: %s", queue.name, facts.remotes),
             errdetail("While that server cannot be reached, no failure of the queue is seen.")));
    if (facts.views)
        ereport(INFO, (errmsg("queue \"%s\" reads a view: %s", queue.name, facts.views),
                       errdetail("A failure that the view leaves out is not seen.")));
}

void report_unknown_statuses(Relation jobs) {
    const char *unknown = unknown_statuses(jobs, jobs->rd_rel->relowner, 0);
    if (unknown)
        ereport(INFO,
                (errmsg("table \"%s\" has jobs of a status that no rule knows: %s",
                        RelationGetRelationName(jobs), unknown),
                 errdetail("They have ended, or used up their attempts, and are not reported."),
                 errhint("If they are failures, describe them with "
                         "job_alerting.watch_query().")));
}

// Tries the queue, and stores it. Checks the privilege on the name before the trial and again after
// it: another session may have taken the name meanwhile.
void store(const Declaration &declared) {
    const ScannedQueue &queue = declared.queue;
    check_name(queue.name);
    check_existing(queue.name);
    const TimestampTz start = GetCurrentTimestamp();
    const Trial trial = try_queue(queue, 0);
    warn_where_slow(queue.name, start, trial);
    warn_of_omission(queue.name, trial);
    report_sources(queue);
    const char *insert =
        "INSERT INTO job_alerting.queue (name, failure_query, owner, since, trusted, "
        "never_ran_query, jobs, key, watched_at) VALUES ($1, $2, $3::name, $4::timestamptz, "
        "$5::boolean, $6, $7, $8::name, clock_timestamp()) ON CONFLICT (name) DO NOTHING";
    const char *replace =
        "UPDATE job_alerting.queue SET failure_query = $2, owner = $3::name, "
        "since = $4::timestamptz, trusted = $5::boolean, never_ran_query = $6, jobs = $7, "
        "key = $8::name, watched_at = clock_timestamp(), scan_started_at = NULL, "
        "last_error = NULL, broken_since = NULL, postponed_since = NULL WHERE name = $1";
    while (!write_queue(insert, declared))
        if (check_existing(queue.name) && write_queue(replace, declared))
            break;
}

// An argument that must not be NULL, in a function that takes NULL for another.
Datum required(FunctionCallInfo fcinfo, int position, const char *name) {
    if (PG_ARGISNULL(position))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                        errmsg("argument \"%s\" must not be NULL", name)));
    return PG_GETARG_DATUM(position);
}

char *required_text(FunctionCallInfo fcinfo, int position, const char *name) {
    return TextDatumGetCString(required(fcinfo, position, name));
}

// As text that does not depend on the settings of the session.
char *required_time(FunctionCallInfo fcinfo, int position, const char *name) {
    return pstrdup(timestamptz_to_str(DatumGetTimestampTz(required(fcinfo, position, name))));
}

} // namespace

} // namespace job_alerting::server

extern "C" Datum job_alerting_watch(PG_FUNCTION_ARGS) {
    using namespace job_alerting::server;

    Relation jobs = open_jobs(DatumGetObjectId(required(fcinfo, 0, "jobs")));
    const char *since = required_time(fcinfo, 2, "since");
    const char *name = PG_ARGISNULL(1) ? pstrdup(RelationGetRelationName(jobs))
                                       : text_to_cstring(PG_GETARG_TEXT_PP(1));
    check_columns(jobs);
    const Oid owner = jobs->rd_rel->relowner;
    store({.queue = {.name = name,
                     .failure_query = write_failure_query(jobs),
                     .never_ran_query = write_never_ran_query(jobs),
                     .owner = GetUserNameFromId(owner, false),
                     .since = since},
           .trusted = true,
           .jobs = table_name(jobs),
           .key = key_column(jobs)});
    report_unknown_statuses(jobs);
    relation_close(jobs, NoLock);
    PG_RETURN_TEXT_P(cstring_to_text(name));
}

extern "C" Datum job_alerting_watch_query(PG_FUNCTION_ARGS) {
    using namespace job_alerting::server;

    const char *name = required_text(fcinfo, 0, "name");
    const char *query = single_select(required_text(fcinfo, 1, "failure_query"));
    const Oid owner = get_role_oid(NameStr(*DatumGetName(required(fcinfo, 2, "owner"))), false);
    const char *since = required_time(fcinfo, 3, "since");
    if (owner != GetUserId() && !superuser())
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("only a superuser may name another role as the owner of a queue"),
                        errhint("Leave out the owner: the query then runs as you.")));
    store({.queue = {.name = name,
                     .failure_query = query,
                     .never_ran_query = nullptr,
                     .owner = GetUserNameFromId(owner, false),
                     .since = since},
           .trusted = superuser(),
           .jobs = nullptr,
           .key = nullptr});
    PG_RETURN_TEXT_P(cstring_to_text(name));
}

extern "C" Datum job_alerting_unwatch(PG_FUNCTION_ARGS) {
    using namespace job_alerting::server;

    const char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
    const bool forget = PG_GETARG_BOOL(1);
    if (!check_existing(name))
        PG_RETURN_BOOL(false);
    as_extension([&] {
        execute("DELETE FROM job_alerting.queue WHERE name = $1", texts({name}));
        // No scan will see these failures cleared, so they count as cleared now and are pruned by
        // age.
        execute(forget ? "DELETE FROM job_alerting.failure WHERE queue = $1"
                       : "UPDATE job_alerting.failure SET cleared_at = now() "
                         "WHERE queue = $1 AND cleared_at IS NULL",
                texts({name}));
    });
    PG_RETURN_BOOL(true);
}
