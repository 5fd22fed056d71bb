-- job_alerting 1.0: what CREATE EXTENSION reads.
\echo Use "CREATE EXTENSION job_alerting" to load this file. \quit

-- This script runs as a superuser. It qualifies every name and creates every object anew, without
-- OR REPLACE or IF NOT EXISTS, so that it cannot use an object that somebody planted beforehand.
SET LOCAL search_path TO pg_catalog, pg_temp;

CREATE SCHEMA job_alerting;
COMMENT ON SCHEMA job_alerting IS 'one digest of the jobs that finally failed';

--
-- Tables
--

-- Names and identities use the collation "C": an upgrade of the operating system must not make
-- recorded failures look new.
-- Each round updates every row of this table. Long queries are stored out of line and half of each
-- page stays free for new row versions, so that the table does not grow between vacuums.
CREATE TABLE job_alerting.queue (
    name            text COLLATE "C" PRIMARY KEY CHECK (name <> ''),
    failure_query   text NOT NULL,
    never_ran_query text,
    jobs            text,
    key             name,
    owner           name NOT NULL,
    since           timestamptz NOT NULL DEFAULT '-infinity',
    trusted         boolean NOT NULL DEFAULT false,
    watched_at      timestamptz NOT NULL DEFAULT now(),
    scan_started_at timestamptz,
    last_turn_at    timestamptz,
    postponed_since timestamptz,
    last_scan_at    timestamptz,
    last_scan_ms    double precision,
    last_error      text,
    broken_since    timestamptz
) WITH (fillfactor = 50, toast_tuple_target = 128);
COMMENT ON TABLE job_alerting.queue IS 'the watched job tables; written by watch(), watch_query(), unwatch() and the rounds';
COMMENT ON COLUMN job_alerting.queue.name IS 'name of the queue, as it appears in digests';
COMMENT ON COLUMN job_alerting.queue.failure_query IS 'SELECT that returns the jobs of the queue that are in the failed state now';
COMMENT ON COLUMN job_alerting.queue.never_ran_query IS 'SELECT that returns the steps that never ran (chain text, never_ran text[]) of the chains in $1 (text[]); a round runs it for the chains of new failures; NULL when watch() found no chains, and for watch_query()';
COMMENT ON COLUMN job_alerting.queue.jobs IS 'job table that watch() wrote the queries for, schema-qualified and quoted as in the queries; stored by name, so that it survives a dump; NULL for watch_query()';
COMMENT ON COLUMN job_alerting.queue.key IS 'primary key column of the job table; NULL for watch_query()';
COMMENT ON COLUMN job_alerting.queue.owner IS 'role that the queries run as; stored by name, so that a dump can be restored where the role is missing';
COMMENT ON COLUMN job_alerting.queue.since IS 'failures before this time are not reported';
COMMENT ON COLUMN job_alerting.queue.trusted IS 'whether watch() or a superuser declared the queue; a round scans such queues before those that other roles declared with watch_query()';
COMMENT ON COLUMN job_alerting.queue.watched_at IS 'when watch() or watch_query() last set the failure query';
COMMENT ON COLUMN job_alerting.queue.scan_started_at IS 'start of the scan in progress; a scan that never ended leaves it set';
COMMENT ON COLUMN job_alerting.queue.last_turn_at IS 'start of the last scan that was not cut short for lack of time, successful or not; slow queues are scanned in this order';
COMMENT ON COLUMN job_alerting.queue.postponed_since IS 'time since which rounds have not reached the queue, because other queues used up the scan time; NULL when the last round reached it';
COMMENT ON COLUMN job_alerting.queue.last_scan_at IS 'end of the last successful scan';
COMMENT ON COLUMN job_alerting.queue.last_scan_ms IS 'duration of the last successful scan in milliseconds, including its changes to the ledger';
COMMENT ON COLUMN job_alerting.queue.last_error IS 'why the queue cannot be read; NULL when it can';
COMMENT ON COLUMN job_alerting.queue.broken_since IS 'time since which the queue cannot be read; NULL when it can';

CREATE TABLE job_alerting.failure (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue        text COLLATE "C" NOT NULL,
    job_id       text COLLATE "C" NOT NULL,
    occurrence   text COLLATE "C" NOT NULL,
    source       text,
    job_type     text,
    target_type  text,
    target_id    text,
    status       text,
    attempts     integer,
    max_attempts integer,
    error        text,
    failed_at    timestamptz,
    chain        text,
    never_ran    text[],
    recorded_at  timestamptz NOT NULL DEFAULT now(),
    cleared_at   timestamptz,
    UNIQUE (queue, job_id, occurrence)
);
CREATE INDEX failure_cleared ON job_alerting.failure (cleared_at) WHERE cleared_at IS NOT NULL;
CREATE INDEX failure_standing ON job_alerting.failure (id) WHERE cleared_at IS NULL;
COMMENT ON INDEX job_alerting.failure_standing IS 'finds standing failures between the digests of a channel';
COMMENT ON INDEX job_alerting.failure_cleared IS 'lets pruning skip the rest of the ledger';
COMMENT ON SEQUENCE job_alerting.failure_id_seq IS 'numbers of the failures, in the order of recording';
COMMENT ON TABLE job_alerting.failure IS 'the ledger: every failure ever seen, once, numbered in the order of recording; written by the rounds only';
COMMENT ON COLUMN job_alerting.failure.id IS 'number of the failure in the ledger; a digest covers a contiguous stretch of them';
COMMENT ON COLUMN job_alerting.failure.queue IS 'name of the queue that the job belongs to';
COMMENT ON COLUMN job_alerting.failure.job_id IS 'identifier of the job, from the failure query; an identifier longer than 200 bytes is stored as its first 200 characters and the SHA-256 of the whole; ''unreadable'' when the queue itself failed';
COMMENT ON COLUMN job_alerting.failure.occurrence IS 'distinguishes the failures of one job: the failure query''s column occurrence (shortened like job_id), else failed_at in UTC, else ''unknown '' and the time of recording';
COMMENT ON COLUMN job_alerting.failure.source IS 'origin of the job';
COMMENT ON COLUMN job_alerting.failure.job_type IS 'type of the job';
COMMENT ON COLUMN job_alerting.failure.target_type IS 'type of the object that the job worked on';
COMMENT ON COLUMN job_alerting.failure.target_id IS 'identifier of the object that the job worked on';
COMMENT ON COLUMN job_alerting.failure.status IS 'status of the job when the failure was recorded; ''unreadable'' when the queue itself failed';
COMMENT ON COLUMN job_alerting.failure.attempts IS 'attempts made when the failure was recorded';
COMMENT ON COLUMN job_alerting.failure.max_attempts IS 'attempts allowed when the failure was recorded';
COMMENT ON COLUMN job_alerting.failure.error IS 'error of the job when the failure was recorded; of an error longer than 4000 characters, the beginning and the end with a line "..." between them; empty when the job had none, because its worker probably died; NULL when the failure query returns no error';
COMMENT ON COLUMN job_alerting.failure.failed_at IS 'time of the failure according to the job table; NULL when the job table has none';
COMMENT ON COLUMN job_alerting.failure.chain IS 'chain of jobs that the job is a step of';
COMMENT ON COLUMN job_alerting.failure.never_ran IS 'steps of the chain that had not run when the failure was recorded, in their order';
COMMENT ON COLUMN job_alerting.failure.recorded_at IS 'time when a round first saw the failure';
COMMENT ON COLUMN job_alerting.failure.cleared_at IS 'time of the first scan that no longer returned the failure, because the job was retried or deleted; NULL while the failure stands';

CREATE TABLE job_alerting.digest (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel          text COLLATE "C" NOT NULL,
    first_failure    bigint NOT NULL,
    last_failure     bigint NOT NULL,
    state            text COLLATE "C" NOT NULL DEFAULT 'pending'
                     CHECK (state IN ('pending', 'sending', 'in_doubt', 'accepted')),
    subject          text,
    attempts         integer NOT NULL DEFAULT 0,
    first_attempt_at timestamptz,
    next_attempt_at  timestamptz,
    http_status      integer,
    provider_id      text,
    error            text,
    note             text,
    refused          text,
    held             text COLLATE "C" CHECK (held IN ('copy', 'in doubt')),
    released_at      timestamptz,
    message_id       text,
    request          text,
    composed_at      timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    CHECK (first_failure <= last_failure)
);
-- A channel has at most one open digest, which was certainly not accepted and grows at each attempt.
CREATE UNIQUE INDEX digest_open ON job_alerting.digest (channel) WHERE state = 'pending';
CREATE INDEX digest_stretch ON job_alerting.digest (channel, last_failure);
COMMENT ON INDEX job_alerting.digest_open IS 'a channel has at most one open digest';
COMMENT ON INDEX job_alerting.digest_stretch IS 'finds where the digests of a channel end in the ledger';
COMMENT ON SEQUENCE job_alerting.digest_id_seq IS 'numbers of the digests, as shown in their subjects';
COMMENT ON TABLE job_alerting.digest IS 'the messages that were sent through each channel or wait to be sent; written by the rounds only';
COMMENT ON COLUMN job_alerting.digest.id IS 'number of the digest, as shown in its subject';
COMMENT ON COLUMN job_alerting.digest.channel IS 'log, sendgrid, smtp, slack or webhook';
COMMENT ON COLUMN job_alerting.digest.first_failure IS 'ledger number of the first failure in it';
COMMENT ON COLUMN job_alerting.digest.last_failure IS 'ledger number of the last failure in it';
COMMENT ON COLUMN job_alerting.digest.state IS 'pending: certainly not accepted, grows at each attempt; sending: a request is in flight; in_doubt: the request was handed over and its answer was lost; accepted';
COMMENT ON COLUMN job_alerting.digest.subject IS 'subject at the last attempt';
COMMENT ON COLUMN job_alerting.digest.attempts IS 'number of attempts; the minimal form that follows a refusal at once belongs to the same attempt';
COMMENT ON COLUMN job_alerting.digest.first_attempt_at IS 'time of the first attempt';
COMMENT ON COLUMN job_alerting.digest.next_attempt_at IS 'time when the next attempt is due';
COMMENT ON COLUMN job_alerting.digest.http_status IS 'HTTP status of the last answer, or code of the mail server''s last reply; NULL when there was none';
COMMENT ON COLUMN job_alerting.digest.provider_id IS 'identifier that the provider gave the message (SendGrid: X-Message-Id)';
COMMENT ON COLUMN job_alerting.digest.error IS 'reason why the last attempt was not accepted; NULL when it was';
COMMENT ON COLUMN job_alerting.digest.note IS 'remarks: that the digest was sent in its minimal form and why, the recipients that were refused, and the verdicts of operators';
COMMENT ON COLUMN job_alerting.digest.refused IS 'recipients that the mail server refused while it accepted the mail for the others, and its replies; NULL when there are none';
COMMENT ON COLUMN job_alerting.digest.held IS 'reason why the digest is not sent again until settle() is called. copy: this database is a copy of the one that composed it; in doubt: its answer was lost, and job_alerting.on_in_doubt is hold; NULL when the digest is not held';
COMMENT ON COLUMN job_alerting.digest.released_at IS 'time when an operator ordered to send the digest again, regardless of job_alerting.on_in_doubt; NULL once it was sent';
COMMENT ON COLUMN job_alerting.digest.message_id IS 'Message-ID of the mail or webhook-id of the message, the same at every attempt';
COMMENT ON COLUMN job_alerting.digest.request IS 'the message as it was last sent, re-sent byte for byte while in doubt; emptied when accepted';
COMMENT ON COLUMN job_alerting.digest.composed_at IS 'time when the content was last gathered; before the first attempt, time when the digest was opened';
COMMENT ON COLUMN job_alerting.digest.updated_at IS 'time of the last change of state';

CREATE TABLE job_alerting.installation (
    place      text COLLATE "C" NOT NULL,
    timeline   integer NOT NULL,
    backup     text COLLATE "C" NOT NULL,
    arrived_by text COLLATE "C" CHECK (arrived_by IN ('copy', 'promotion')),
    since      timestamptz NOT NULL DEFAULT now()
);
-- Without a key or this, a publication FOR ALL TABLES prevents rounds from replacing the row.
ALTER TABLE job_alerting.installation REPLICA IDENTITY FULL;
COMMENT ON TABLE job_alerting.installation IS 'identity of this database: one row, written by the first round that has a queue. A round compares it with the server to detect that it runs in a copy or after a promotion. The table has no key, so that a restore can add the row of a dump';
COMMENT ON COLUMN job_alerting.installation.place IS 'system identifier of the cluster, OID of the database and OID of this table; they differ in a restored dump and in a database created from a template';
COMMENT ON COLUMN job_alerting.installation.timeline IS 'timeline of the cluster; it changes with a promotion and with a point-in-time recovery';
COMMENT ON COLUMN job_alerting.installation.backup IS 'start of the base backup that the cluster was restored from; empty for none';
COMMENT ON COLUMN job_alerting.installation.arrived_by IS 'kind of the last change: copy or promotion; NULL when there was none';
COMMENT ON COLUMN job_alerting.installation.since IS 'time when rounds began here';

-- The only definition of the failures that a channel has not reported yet; rounds, status and
-- preview() use it. The digests of a channel are disjoint stretches of the ledger. After the newest
-- of them, every failure is unreported. Between them, a failure is unreported if it stands: it had
-- cleared and came back. The first digest of a channel begins at the oldest standing failure.
CREATE VIEW job_alerting.unreported AS
    SELECT c.channel, oldest.id AS first_failure, newest.id AS last_failure
    FROM (VALUES ('log' COLLATE "C"), ('sendgrid'), ('smtp'), ('slack'), ('webhook')) c(channel)
    CROSS JOIN LATERAL (
        SELECT lag(d.last_failure, 1, 0::bigint) OVER (ORDER BY d.last_failure) AS after,
               d.first_failure AS before
        FROM job_alerting.digest d WHERE d.channel = c.channel
    ) gap
    CROSS JOIN LATERAL (SELECT f.id FROM job_alerting.failure f
                        WHERE f.cleared_at IS NULL AND f.id > gap.after AND f.id < gap.before
                        ORDER BY f.id LIMIT 1) oldest
    CROSS JOIN LATERAL (SELECT f.id FROM job_alerting.failure f
                        WHERE f.cleared_at IS NULL AND f.id > gap.after AND f.id < gap.before
                        ORDER BY f.id DESC LIMIT 1) newest
    WHERE gap.before - gap.after > 1
    UNION ALL
    SELECT c.channel, oldest.id, newest.id
    FROM (VALUES ('log' COLLATE "C"), ('sendgrid'), ('smtp'), ('slack'), ('webhook')) c(channel)
    CROSS JOIN LATERAL (SELECT max(d.last_failure) AS id FROM job_alerting.digest d
                        WHERE d.channel = c.channel) reported
    CROSS JOIN LATERAL (
        SELECT CASE WHEN reported.id IS NULL
               THEN (SELECT f.id FROM job_alerting.failure f WHERE f.cleared_at IS NULL
                     ORDER BY f.id LIMIT 1)
               ELSE (SELECT f.id FROM job_alerting.failure f WHERE f.id > reported.id
                     ORDER BY f.id LIMIT 1)
               END AS id
    ) oldest
    CROSS JOIN LATERAL (SELECT max(f.id) AS id FROM job_alerting.failure f) newest
    WHERE oldest.id IS NOT NULL;
COMMENT ON VIEW job_alerting.unreported IS 'the failures that each channel, configured or not, has not reported yet: stretches of the ledger that a later digest will cover';
COMMENT ON COLUMN job_alerting.unreported.channel IS 'log, sendgrid, smtp, slack or webhook';
COMMENT ON COLUMN job_alerting.unreported.first_failure IS 'ledger number of the first failure of the stretch';
COMMENT ON COLUMN job_alerting.unreported.last_failure IS 'ledger number of the last failure of the stretch';

CREATE VIEW job_alerting.digest_failure AS
    SELECT d.id AS digest_id, d.channel, d.state AS digest_state, f.*
    FROM job_alerting.digest d
    JOIN job_alerting.failure f ON f.id BETWEEN d.first_failure AND d.last_failure;
COMMENT ON VIEW job_alerting.digest_failure IS 'each digest with its failures';
COMMENT ON COLUMN job_alerting.digest_failure.digest_id IS 'number of the digest';
COMMENT ON COLUMN job_alerting.digest_failure.channel IS 'channel of the digest';
COMMENT ON COLUMN job_alerting.digest_failure.digest_state IS 'state of the digest';

-- Columns that come from the ledger keep their descriptions.
DO $$
DECLARE
    described record;
BEGIN
    FOR described IN
        SELECT a.attname, d.description
        FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_description d ON d.objoid = a.attrelid AND d.objsubid = a.attnum
        WHERE a.attrelid = 'job_alerting.failure'::pg_catalog.regclass
          AND d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND a.attnum > 0
    LOOP
        EXECUTE pg_catalog.format('COMMENT ON COLUMN job_alerting.digest_failure.%I IS %L',
                                  described.attname, described.description);
    END LOOP;
END
$$;

-- pg_dump includes these. Without the sequences, new failures and digests would get numbers that
-- restored rows have.
SELECT pg_catalog.pg_extension_config_dump('job_alerting.queue', '');
SELECT pg_catalog.pg_extension_config_dump('job_alerting.failure', '');
SELECT pg_catalog.pg_extension_config_dump('job_alerting.failure_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('job_alerting.digest', '');
SELECT pg_catalog.pg_extension_config_dump('job_alerting.digest_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('job_alerting.installation', '');

--
-- Functions
--

CREATE FUNCTION job_alerting.watch(jobs regclass, name text DEFAULT NULL,
                                   since timestamptz DEFAULT '-infinity')
    RETURNS text LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'job_alerting_watch';
COMMENT ON FUNCTION job_alerting.watch(regclass, text, timestamptz) IS
'Watches a table shaped like research_jobs: finds its columns, writes the failure query, runs it once as the owner of the table and stores it. Returns the name of the queue (default: the name of the table). An existing name gets the new query and keeps its ledger. Requires membership in the owner of the table, or superuser.';

CREATE FUNCTION job_alerting.watch_query(name text, failure_query text,
                                         owner name DEFAULT current_user,
                                         since timestamptz DEFAULT '-infinity')
    RETURNS text LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'job_alerting_watch_query';
COMMENT ON FUNCTION job_alerting.watch_query(text, text, name, timestamptz) IS
'Watches any source of jobs, given as a SELECT that returns the jobs in the failed state now, with the columns job_id text and failed_at timestamptz, and optionally occurrence, source, job_type, target_type, target_id, status, chain, error (text), never_ran (text[]), attempts, max_attempts (integer). The query runs as owner with search_path pg_catalog, so its names must be schema-qualified. It is run once before it is stored. Returns the name of the queue.';

CREATE FUNCTION job_alerting.unwatch(name text, forget boolean DEFAULT false)
    RETURNS boolean LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'job_alerting_unwatch';
COMMENT ON FUNCTION job_alerting.unwatch(text, boolean) IS
'Stops watching a queue. Returns false when there is no queue of that name. Recorded failures are still delivered, and pruned by age; forget deletes them at once. Requires membership in the owner of the queue, or superuser.';

CREATE FUNCTION job_alerting.run_digest(OUT channel text, OUT digest_id bigint, OUT failures bigint,
                                        OUT outcome text, OUT detail text)
    RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'job_alerting_run_digest';
COMMENT ON FUNCTION job_alerting.run_digest() IS
'Runs one round now in a separate background worker, which sees committed data only and commits independently of the caller''s transaction. Returns a row for each digest that was sent or waits, ordered by channel and age, and one row for each channel without a digest. outcome: silent (nothing new, nothing waiting), accepted, pending (certainly not accepted, sent again later) or in_doubt (handed over, answer lost).';

CREATE FUNCTION job_alerting.preview(OUT subject text, OUT body_text text, OUT body_html text)
    RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'job_alerting_preview';
COMMENT ON FUNCTION job_alerting.preview() IS
'Returns the next digest of the first configured channel as a round would compose it now; no row when nothing is new and nothing waits. Sends nothing, records nothing, and does not wait for a running round.';

CREATE FUNCTION job_alerting.check(OUT item text, OUT state text, OUT detail text, OUT hint text)
    RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'job_alerting_check';
COMMENT ON FUNCTION job_alerting.check() IS
'Checks the installation: one row for each item (server, channels and their waiting digests, heartbeat, and several for each queue) with its state (ok, warning or error), the finding, and the statement or setting that fixes it. Changes nothing, sends nothing.';

CREATE FUNCTION job_alerting.send_test(OUT channel text, OUT outcome text, OUT detail text)
    RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'job_alerting_send_test';
COMMENT ON FUNCTION job_alerting.send_test() IS
'Sends a small test message through every configured channel and returns its outcome: accepted, pending (certainly not accepted; a test message is not sent again) or in_doubt (handed over, answer lost). A test message is not a digest; nothing is recorded.';

CREATE FUNCTION job_alerting.settle(digest_id bigint, arrived boolean)
    RETURNS text LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'job_alerting_settle';
COMMENT ON FUNCTION job_alerting.settle(bigint, boolean) IS
'Settles a digest in doubt by the verdict of an operator. true: it arrived, and counts as accepted. false: the next round sends it again, even if it was held: byte for byte the same, or composed anew if it was certainly not accepted before. Returns the new state: accepted, or in_doubt until the next round.';

CREATE FUNCTION job_alerting.server_state(OUT preloaded boolean, OUT launcher_pid integer,
                                          OUT last_round_at timestamptz,
                                          OUT next_round_at timestamptz,
                                          OUT round_interval interval, OUT unended_rounds integer,
                                          OUT channels text[], OUT problem text,
                                          OUT round_since timestamptz, OUT round_pid integer,
                                          OUT asked_to_end boolean, OUT awaited_database text,
                                          OUT awaited_since timestamptz)
    RETURNS record LANGUAGE c VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'job_alerting_server_state';
COMMENT ON FUNCTION job_alerting.server_state() IS
'Returns the state of the rounds in this database from shared memory, for the view status. unended_rounds: consecutive rounds that did not finish; channels: channels of the last round; problem: reason why the last round did not finish, or why a digest cannot be sent; round_since and round_pid: the round that is ordered or running, NULL for none; asked_to_end: that round exceeded its limits, and its process was asked to end; awaited_database: database of the round that the launcher waits for.';

--
-- Health
--

CREATE VIEW job_alerting.status AS
    WITH server AS MATERIALIZED (
        SELECT * FROM job_alerting.server_state()
    ), waiting AS (
        SELECT d.* FROM server s JOIN job_alerting.digest d ON d.channel = ANY (s.channels)
        WHERE d.state <> 'accepted'
    ), stretch AS (
        SELECT u.first_failure, u.last_failure
        FROM server s JOIN job_alerting.unreported u ON u.channel = ANY (s.channels)
        UNION ALL
        SELECT w.first_failure, w.last_failure FROM waiting w
    ), backlog AS (
        -- A failure that waits in several channels counts once.
        SELECT coalesce(sum(w.failures), 0)::bigint AS failures, min(w.since) AS since
        FROM (SELECT unnest(range_agg(int8range(s.first_failure, s.last_failure, '[]'))) AS numbers
              FROM stretch s) r
        CROSS JOIN LATERAL (SELECT count(*) AS failures, min(f.recorded_at) AS since
                            FROM job_alerting.failure f
                            WHERE f.id >= lower(r.numbers) AND f.id < upper(r.numbers)) w
    ), broken AS (
        SELECT count(*) AS queues, (array_agg(q.name ORDER BY q.broken_since, q.name))[1] AS name,
               (array_agg(q.last_error ORDER BY q.broken_since, q.name))[1] AS error
        FROM job_alerting.queue q WHERE q.broken_since IS NOT NULL
    ), postponed AS (
        SELECT count(*) AS queues, min(q.postponed_since) AS since,
               (array_agg(q.name ORDER BY q.postponed_since, q.name))[1] AS name
        FROM job_alerting.queue q WHERE q.postponed_since IS NOT NULL
    ), refused AS (
        SELECT w.* FROM waiting w WHERE w.state = 'pending' AND w.attempts > 0 ORDER BY w.id LIMIT 1
    ), doubtful AS (
        SELECT w.* FROM waiting w WHERE w.state = 'in_doubt' ORDER BY w.id LIMIT 1
    ), undelivered AS (
        -- The last digest that each channel accepted.
        SELECT n.* FROM server s CROSS JOIN unnest(s.channels) c
        CROSS JOIN LATERAL (SELECT d.* FROM job_alerting.digest d
                            WHERE d.channel = c AND d.state = 'accepted'
                            ORDER BY d.last_failure DESC LIMIT 1) n
        WHERE n.refused IS NOT NULL ORDER BY n.id LIMIT 1
    ), cut_off AS (
        -- A round that ended after this transaction began may have settled the digest.
        SELECT w.* FROM waiting w CROSS JOIN server s
        WHERE w.state = 'sending' AND s.round_since IS NULL
          AND coalesce(s.last_round_at, '-infinity') < now()
        ORDER BY w.id LIMIT 1
    ), scan AS (
        SELECT q.name, q.scan_started_at FROM job_alerting.queue q CROSS JOIN server s
        WHERE q.scan_started_at >= s.round_since ORDER BY q.scan_started_at DESC LIMIT 1
    ), verdict AS (
        SELECT CASE
            WHEN pg_is_in_recovery() THEN
                'this server is a standby: rounds run on the primary, so read its status'
            WHEN NOT s.preloaded THEN
                'no round runs by itself: add job_alerting to shared_preload_libraries and restart the server'
            WHEN s.launcher_pid IS NULL THEN
                'the launcher is not running: if it is not back in 10 seconds, see the server log'
            WHEN (SELECT t.datistemplate FROM pg_database t WHERE t.datname = current_database()) THEN
                format('no round runs by itself in a template database: ALTER DATABASE %I IS_TEMPLATE false',
                       current_database())
            WHEN s.asked_to_end AND s.round_pid IS NOT NULL THEN
                format('the round that began at %s exceeds its limits, and its process %s was asked to end but still runs: this database gets no further round until it ends',
                       date_trunc('second', s.round_since), s.round_pid)
            WHEN s.round_since < clock_timestamp() - interval '45 seconds' THEN
                format('the round that began at %s has not ended yet%s: see process %s in pg_stat_activity',
                       date_trunc('second', s.round_since),
                       (SELECT format('; it has been reading queue %s since %s', n.name,
                                      date_trunc('second', n.scan_started_at)) FROM scan n),
                       coalesce(s.round_pid::text, '''job_alerting worker'''))
            WHEN s.problem IS NOT NULL THEN
                format('%s; fix that, then call job_alerting.run_digest()', s.problem)
            WHEN c.id IS NOT NULL THEN
                format('digest %s through %s was being sent when its round was interrupted: the next round, due at %s, %s',
                       c.id, c.channel, date_trunc('second', s.next_round_at),
                       CASE WHEN current_setting('job_alerting.on_in_doubt', true) = 'hold'
                            THEN 'holds it as in doubt' ELSE 'sends it again' END)
            WHEN s.unended_rounds > 0 THEN
                format('%s interrupted: see the server log; the next is due at %s',
                       CASE s.unended_rounds WHEN 1 THEN 'the last round was'
                       ELSE format('the last %s rounds were', s.unended_rounds) END,
                       date_trunc('second', s.next_round_at))
            WHEN s.round_since IS NULL
                 AND coalesce(s.next_round_at, s.awaited_since)
                     < clock_timestamp() - interval '30 seconds' THEN
                format('the round that was due at %s has not begun: %s',
                       date_trunc('second', coalesce(s.next_round_at, s.awaited_since)),
                       CASE WHEN s.awaited_database IS NULL THEN 'see the server log'
                       ELSE format('the launcher waits for the round in database %s, which began at %s',
                                   s.awaited_database, date_trunc('second', s.awaited_since)) END)
            WHEN s.last_round_at IS NULL THEN
                'no round has finished since the server started: wait for the next one, or call job_alerting.run_digest()'
            WHEN s.last_round_at < clock_timestamp() - 2 * s.round_interval - interval '5 minutes' THEN
                format('no round has finished since %s: see the server log',
                       date_trunc('second', s.last_round_at))
            WHEN NOT EXISTS (SELECT FROM job_alerting.queue) THEN
                'no queue is watched: call job_alerting.watch(''my_schema.my_jobs'')'
            WHEN cardinality(s.channels) = 0 THEN
                'failures are recorded but not reported: set job_alerting.channels'
            WHEN b.queues > 0 THEN
                format('queue %s cannot be read: %s; fix that, or call job_alerting.unwatch(%L)',
                       b.name, b.error, b.name)
            WHEN p.queues > 0 THEN
                format('%s not scanned by the last round, because slow failure queries used up the scan time: %s has waited longest, since %s; job_alerting.check() names the slow ones',
                       CASE p.queues WHEN 1 THEN '1 queue was' ELSE format('%s queues were', p.queues) END,
                       p.name, date_trunc('second', p.since))
            WHEN r.id IS NOT NULL THEN
                format('digest %s could not be delivered through %s: %s; the next attempt is due at %s%s',
                       r.id, r.channel, r.error, date_trunc('second', r.next_attempt_at),
                       CASE WHEN r.http_status IS DISTINCT FROM 429
                            THEN '; to send it now, call job_alerting.run_digest()' END)
            WHEN d.held IS NOT NULL THEN
                format('digest %s through %s is in doubt: %s; it is held until you call job_alerting.settle(%s, true) if it arrived, or settle(%s, false) to send it again',
                       d.id, d.channel, d.error, d.id, d.id)
            WHEN d.id IS NOT NULL THEN
                format('digest %s through %s is in doubt: %s; it will be sent again at %s; if it arrived, call job_alerting.settle(%s, true)',
                       d.id, d.channel, d.error, date_trunc('second', d.next_attempt_at), d.id)
            WHEN u.id IS NOT NULL THEN
                format('digest %s through %s was not delivered to %s: correct job_alerting.mail_to or the mail server; the next digest that reaches all recipients ends this problem',
                       u.id, u.channel, u.refused)
            END AS reason
        FROM server s CROSS JOIN broken b CROSS JOIN postponed p LEFT JOIN refused r ON true LEFT JOIN doubtful d ON true
             LEFT JOIN cut_off c ON true LEFT JOIN undelivered u ON true
    )
    SELECT v.reason IS NULL AS healthy, v.reason, s.launcher_pid, s.last_round_at, s.next_round_at,
           (SELECT max(d.updated_at) FROM job_alerting.digest d WHERE d.state = 'accepted')
               AS last_accepted_at,
           u.failures AS failures_waiting, (SELECT count(*) FROM waiting) AS digests_waiting,
           u.since AS oldest_waiting_since, b.queues AS queues_broken
    FROM server s CROSS JOIN verdict v CROSS JOIN backlog u CROSS JOIN broken b;
COMMENT ON VIEW job_alerting.status IS 'one row: whether alerting works, and if not, the first problem and its remedy; readable by pg_monitor';
COMMENT ON COLUMN job_alerting.status.healthy IS 'true when rounds run by themselves, at least one queue and one channel are configured, every queue can be read, no digest has failed or is in doubt, and the last digest of each channel reached all its recipients';
COMMENT ON COLUMN job_alerting.status.reason IS 'the first problem and its remedy; NULL when healthy';
COMMENT ON COLUMN job_alerting.status.launcher_pid IS 'process id of the launcher; NULL when it is not running';
COMMENT ON COLUMN job_alerting.status.last_round_at IS 'end of the last round in this database; NULL when none has finished since the server started';
COMMENT ON COLUMN job_alerting.status.next_round_at IS 'time when the next round is due; NULL when none is';
COMMENT ON COLUMN job_alerting.status.last_accepted_at IS 'time when a digest was last accepted';
COMMENT ON COLUMN job_alerting.status.failures_waiting IS 'number of failures that a configured channel has not reported yet';
COMMENT ON COLUMN job_alerting.status.digests_waiting IS 'number of digests of configured channels that are not accepted';
COMMENT ON COLUMN job_alerting.status.oldest_waiting_since IS 'time when the oldest of failures_waiting was recorded; NULL when none waits';
COMMENT ON COLUMN job_alerting.status.queues_broken IS 'number of queues that cannot be read';

GRANT USAGE ON SCHEMA job_alerting TO pg_monitor;
GRANT SELECT ON job_alerting.status TO pg_monitor;
GRANT EXECUTE ON FUNCTION job_alerting.server_state() TO pg_monitor;

REVOKE ALL ON FUNCTION job_alerting.settle(bigint, boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION job_alerting.server_state() FROM PUBLIC;
REVOKE ALL ON FUNCTION job_alerting.watch(regclass, text, timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION job_alerting.watch_query(text, text, name, timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION job_alerting.unwatch(text, boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION job_alerting.run_digest() FROM PUBLIC;
REVOKE ALL ON FUNCTION job_alerting.check() FROM PUBLIC;
REVOKE ALL ON FUNCTION job_alerting.preview() FROM PUBLIC;
REVOKE ALL ON FUNCTION job_alerting.send_test() FROM PUBLIC;

--
-- The first use needs no call of watch(): watch the table research_jobs if there is exactly one.
--

DO $$
DECLARE
    found pg_catalog.regclass[];
    problem text;
BEGIN
    SELECT pg_catalog.array_agg(c.oid::pg_catalog.regclass) INTO found
    FROM pg_catalog.pg_class c
    WHERE c.relname OPERATOR(pg_catalog.=) 'research_jobs'
      AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't';
    IF pg_catalog.cardinality(found) = 1 THEN
        PERFORM job_alerting.watch(found[1]);
        RAISE INFO 'job_alerting watches table %', found[1];
    ELSIF pg_catalog.cardinality(found) > 1 THEN
        RAISE INFO 'job_alerting watches nothing yet: there are % tables named research_jobs',
            pg_catalog.cardinality(found)
            USING HINT = 'Call job_alerting.watch() for the one you mean.';
    END IF;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS problem = PG_EXCEPTION_DETAIL;
    RAISE INFO 'job_alerting does not watch table %: %', found[1],
        pg_catalog.concat_ws('. ', SQLERRM, nullif(problem, ''))
        USING HINT = 'Call job_alerting.watch() or job_alerting.watch_query().';
END
$$;
