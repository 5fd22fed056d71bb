-- job_alerting 1.0: what CREATE EXTENSION reads.
\echo Use "CREATE EXTENSION job_alerting" to load this file. \quit

-- Names are qualified and objects plainly created, never replaced or adopted: nobody can plant
-- an object beforehand that this script, run by a superuser, would then use.
SET LOCAL search_path TO pg_catalog, pg_temp;

CREATE SCHEMA job_alerting;
COMMENT ON SCHEMA job_alerting IS 'one digest of the jobs that finally failed';

--
-- Tables
--

-- Names and identities are compared byte by byte ("C"): a changed collation of the operating
-- system must not make the ledger forget what it holds.
-- Each round updates every row. A long query lies outside of the row, and half a page is free for the
-- new version, so that the table does not grow between vacuums.
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
COMMENT ON COLUMN job_alerting.queue.failure_query IS 'SELECT that returns the jobs of the queue that stand failed now';
COMMENT ON COLUMN job_alerting.queue.never_ran_query IS 'SELECT that returns the steps that never ran (chain text, never_ran text[]) of the chains in $1 (text[]); a round runs it for the chains of new failures; NULL where watch() found no chains, and for watch_query()';
COMMENT ON COLUMN job_alerting.queue.jobs IS 'job table that watch() wrote the queries for, schema-qualified and quoted as in them: a name, so that it survives a dump, and becomes invalid with the queries when the table is renamed; NULL for watch_query()';
COMMENT ON COLUMN job_alerting.queue.key IS 'column of the primary key of that table; NULL for watch_query()';
COMMENT ON COLUMN job_alerting.queue.owner IS 'role that the queries run as; a name, so that a dump restores where the role is missing';
COMMENT ON COLUMN job_alerting.queue.since IS 'failures from before this time are not reported';
COMMENT ON COLUMN job_alerting.queue.trusted IS 'whether watch() or a superuser declared it; a round reads such queues before those that other roles declared by watch_query()';
COMMENT ON COLUMN job_alerting.queue.watched_at IS 'when watch() or watch_query() last set the failure query';
COMMENT ON COLUMN job_alerting.queue.scan_started_at IS 'when the scan in progress began; left standing by a scan that never ended';
COMMENT ON COLUMN job_alerting.queue.last_turn_at IS 'when its last scan began that was not cut short for want of time, whatever came of it; slow queues are read in the order of it';
COMMENT ON COLUMN job_alerting.queue.postponed_since IS 'since when rounds have not reached the queue, because others took all the time for scans; NULL when the last round did';
COMMENT ON COLUMN job_alerting.queue.last_scan_at IS 'when the last successful scan ended';
COMMENT ON COLUMN job_alerting.queue.last_scan_ms IS 'milliseconds that the last successful scan took, its ledger work included';
COMMENT ON COLUMN job_alerting.queue.last_error IS 'why the queue cannot be read; NULL when it can';
COMMENT ON COLUMN job_alerting.queue.broken_since IS 'since when the queue cannot be read; NULL when it can';

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
COMMENT ON INDEX job_alerting.failure_standing IS 'for what stands between the digests of a channel';
COMMENT ON INDEX job_alerting.failure_cleared IS 'for pruning, which must not read the whole ledger each round';
COMMENT ON SEQUENCE job_alerting.failure_id_seq IS 'numbers of the failures, in the order of recording';
COMMENT ON TABLE job_alerting.failure IS 'the ledger: every failure ever seen, once, numbered in the order of recording; written by the rounds only';
COMMENT ON COLUMN job_alerting.failure.id IS 'number of the failure in the ledger; a digest covers a contiguous stretch of them';
COMMENT ON COLUMN job_alerting.failure.queue IS 'name of the queue that the job belongs to';
COMMENT ON COLUMN job_alerting.failure.job_id IS 'the job, as the failure query names it; of a name of more than 200 bytes, its first 200 characters and the SHA-256 of the whole; ''unreadable'' for the failure of the queue itself';
COMMENT ON COLUMN job_alerting.failure.occurrence IS 'tells one failure of a job from the next: the failure query''s own column (a long one as in job_id), or failed_at in UTC, or ''unknown '' and the time of recording';
COMMENT ON COLUMN job_alerting.failure.source IS 'where the job comes from';
COMMENT ON COLUMN job_alerting.failure.job_type IS 'what kind of job it is';
COMMENT ON COLUMN job_alerting.failure.target_type IS 'what kind of thing it worked on';
COMMENT ON COLUMN job_alerting.failure.target_id IS 'which thing it worked on';
COMMENT ON COLUMN job_alerting.failure.status IS 'status of the job when it was recorded; ''unreadable'' for the failure of the queue itself';
COMMENT ON COLUMN job_alerting.failure.attempts IS 'attempts made when it was recorded';
COMMENT ON COLUMN job_alerting.failure.max_attempts IS 'attempts allowed when it was recorded';
COMMENT ON COLUMN job_alerting.failure.error IS 'its error when it was recorded; of a longer one than 4000 characters the beginning and the end, between them a line "..."; empty where the job had none, so that its worker probably died; NULL where the failure query returns no error';
COMMENT ON COLUMN job_alerting.failure.failed_at IS 'when the job failed, as the job table says; NULL when it does not say';
COMMENT ON COLUMN job_alerting.failure.chain IS 'the chain of jobs that it is a step of';
COMMENT ON COLUMN job_alerting.failure.never_ran IS 'steps of that chain that had not run when it was recorded, in their order';
COMMENT ON COLUMN job_alerting.failure.recorded_at IS 'when a round first saw it';
COMMENT ON COLUMN job_alerting.failure.cleared_at IS 'first scan that no longer returned it: it was retried, or its job deleted; NULL while it stands';

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
    held             text COLLATE "C" CHECK (held IN ('copy', 'in doubt')),
    released_at      timestamptz,
    message_id       text,
    request          text,
    composed_at      timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    CHECK (first_failure <= last_failure)
);
-- A channel has at most one open digest: surely not accepted, and extended at each try.
CREATE UNIQUE INDEX digest_open ON job_alerting.digest (channel) WHERE state = 'pending';
CREATE INDEX digest_stretch ON job_alerting.digest (channel, last_failure);
COMMENT ON INDEX job_alerting.digest_open IS 'a channel has at most one open digest';
COMMENT ON INDEX job_alerting.digest_stretch IS 'where a channel''s digests end in the ledger';
COMMENT ON SEQUENCE job_alerting.digest_id_seq IS 'numbers of the digests, as in their subjects';
COMMENT ON TABLE job_alerting.digest IS 'the messages: what each channel was sent, or waits to be sent; written by the rounds only';
COMMENT ON COLUMN job_alerting.digest.id IS 'number of the digest, as in its subject';
COMMENT ON COLUMN job_alerting.digest.channel IS 'log, sendgrid or slack';
COMMENT ON COLUMN job_alerting.digest.first_failure IS 'ledger number of the first failure in it';
COMMENT ON COLUMN job_alerting.digest.last_failure IS 'ledger number of the last failure in it';
COMMENT ON COLUMN job_alerting.digest.state IS 'pending: surely not accepted, extended at each try; sending: a request is on its way; in_doubt: handed over, answer lost; accepted';
COMMENT ON COLUMN job_alerting.digest.subject IS 'its subject at the last try';
COMMENT ON COLUMN job_alerting.digest.attempts IS 'tries so far; the minimal form that is sent at once after a refusal belongs to the same try';
COMMENT ON COLUMN job_alerting.digest.first_attempt_at IS 'when it was first tried';
COMMENT ON COLUMN job_alerting.digest.next_attempt_at IS 'when it is due again';
COMMENT ON COLUMN job_alerting.digest.http_status IS 'HTTP status of the last answer; NULL when there was none';
COMMENT ON COLUMN job_alerting.digest.provider_id IS 'what the provider calls the message (SendGrid: X-Message-Id)';
COMMENT ON COLUMN job_alerting.digest.error IS 'why the last try was not accepted; NULL when it was';
COMMENT ON COLUMN job_alerting.digest.note IS 'what else is to be known of it: that it was sent in its minimal form, and why; an operator''s verdicts';
COMMENT ON COLUMN job_alerting.digest.held IS 'why it is not sent again until settle() is called. copy: this database is a copy of the one that composed it; in doubt: its answer was lost, and job_alerting.on_in_doubt is hold; NULL when it is not held';
COMMENT ON COLUMN job_alerting.digest.released_at IS 'when an operator last had it sent again, whatever job_alerting.on_in_doubt says; NULL once that was done';
COMMENT ON COLUMN job_alerting.digest.message_id IS 'Message-ID of the mail, the same at every try';
COMMENT ON COLUMN job_alerting.digest.request IS 'the message as it was last handed over, re-sent byte for byte while in doubt; emptied when accepted';
COMMENT ON COLUMN job_alerting.digest.composed_at IS 'when what it says was last gathered; before that, when it was begun';
COMMENT ON COLUMN job_alerting.digest.updated_at IS 'when its state last changed';

CREATE TABLE job_alerting.installation (
    place      text COLLATE "C" NOT NULL,
    timeline   integer NOT NULL,
    backup     text COLLATE "C" NOT NULL,
    arrived_by text COLLATE "C" CHECK (arrived_by IN ('copy', 'promotion')),
    since      timestamptz NOT NULL DEFAULT now()
);
-- A publication of all tables must not keep a round from replacing its row.
ALTER TABLE job_alerting.installation REPLICA IDENTITY FULL;
COMMENT ON TABLE job_alerting.installation IS 'where the rounds of this database run: one row, from the first round that has a queue; what a round finds changed tells it that it runs in a copy, or after a promotion. No key, so that a dump can bring its row beside another';
COMMENT ON COLUMN job_alerting.installation.place IS 'system identifier of the cluster, oid of the database and of this table; other ones in a dump that was restored, or in a database made from a template';
COMMENT ON COLUMN job_alerting.installation.timeline IS 'timeline of the cluster; another one after a promotion, or a recovery to a point in time';
COMMENT ON COLUMN job_alerting.installation.backup IS 'where the base backup began that the cluster was restored from; empty for none';
COMMENT ON COLUMN job_alerting.installation.arrived_by IS 'what the last change was: copy or promotion; NULL when there was none';
COMMENT ON COLUMN job_alerting.installation.since IS 'when rounds began here';

-- The one definition of what a channel has still to tell; rounds, status and preview() use it. The
-- digests of a channel are disjoint stretches of the ledger. Before its newest, what stands is
-- untold: it had cleared, and stands again. After its newest, everything is. A channel's first
-- digest begins at the oldest failure that stands.
CREATE VIEW job_alerting.untold AS
    SELECT c.channel, oldest.id AS first_failure, newest.id AS last_failure
    FROM (VALUES ('log' COLLATE "C"), ('sendgrid'), ('slack')) c(channel)
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
    FROM (VALUES ('log' COLLATE "C"), ('sendgrid'), ('slack')) c(channel)
    CROSS JOIN LATERAL (SELECT max(d.last_failure) AS id FROM job_alerting.digest d
                        WHERE d.channel = c.channel) told
    CROSS JOIN LATERAL (
        SELECT CASE WHEN told.id IS NULL
               THEN (SELECT f.id FROM job_alerting.failure f WHERE f.cleared_at IS NULL
                     ORDER BY f.id LIMIT 1)
               ELSE (SELECT f.id FROM job_alerting.failure f WHERE f.id > told.id
                     ORDER BY f.id LIMIT 1)
               END AS id
    ) oldest
    CROSS JOIN LATERAL (SELECT max(f.id) AS id FROM job_alerting.failure f) newest
    WHERE oldest.id IS NOT NULL;
COMMENT ON VIEW job_alerting.untold IS 'what each channel, configured or not, has still to tell: the stretches of the ledger that no digest of it covers and that are to be in one';
COMMENT ON COLUMN job_alerting.untold.channel IS 'log, sendgrid or slack';
COMMENT ON COLUMN job_alerting.untold.first_failure IS 'ledger number of the first failure of the stretch';
COMMENT ON COLUMN job_alerting.untold.last_failure IS 'ledger number of the last failure of the stretch';

CREATE VIEW job_alerting.digest_failure AS
    SELECT d.id AS digest_id, d.channel, d.state AS digest_state, f.*
    FROM job_alerting.digest d
    JOIN job_alerting.failure f ON f.id BETWEEN d.first_failure AND d.last_failure;
COMMENT ON VIEW job_alerting.digest_failure IS 'each digest with its failures';
COMMENT ON COLUMN job_alerting.digest_failure.digest_id IS 'number of the digest';
COMMENT ON COLUMN job_alerting.digest_failure.channel IS 'channel of the digest';
COMMENT ON COLUMN job_alerting.digest_failure.digest_state IS 'state of the digest';

-- The columns that the view shows of a failure mean there what they mean in the ledger.
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

-- What pg_dump keeps: without the sequences, new failures and digests would take numbers that
-- restored ones have.
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
'Watch a table shaped like research_jobs: finds its columns, writes the failure query, tries it as the table''s owner and stores it. Returns the queue''s name (default: the table''s name). Watching an existing name replaces its query and keeps its ledger. For the table''s owner, its members and superusers.';

CREATE FUNCTION job_alerting.watch_query(name text, failure_query text,
                                         owner name DEFAULT current_user,
                                         since timestamptz DEFAULT '-infinity')
    RETURNS text LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'job_alerting_watch_query';
COMMENT ON FUNCTION job_alerting.watch_query(text, text, name, timestamptz) IS
'Watch anything: a SELECT that returns the jobs that stand failed now, with the columns job_id text and failed_at timestamptz, and optionally occurrence, source, job_type, target_type, target_id, status, chain, error (text), never_ran (text[]), attempts, max_attempts (integer). It runs as owner with search_path pg_catalog, so all its names are schema-qualified. It is tried once before it is stored. Returns the queue''s name.';

CREATE FUNCTION job_alerting.unwatch(name text, forget boolean DEFAULT false)
    RETURNS boolean LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'job_alerting_unwatch';
COMMENT ON FUNCTION job_alerting.unwatch(text, boolean) IS
'Stop watching a queue; false when there is none of that name. What is recorded is still delivered, and pruned by age; forget drops its ledger rows at once. For members of the queue''s owner and superusers.';

CREATE FUNCTION job_alerting.run_digest(OUT channel text, OUT digest_id bigint, OUT failures bigint,
                                        OUT outcome text, OUT detail text)
    RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'job_alerting_run_digest';
COMMENT ON FUNCTION job_alerting.run_digest() IS
'One round now, in a background worker of its own: it sees what is committed, and commits whatever the caller''s transaction does. A row for each digest that was tried or waits, by channel and oldest first; for a channel without any, one row. outcome: silent (nothing new, nothing waiting), accepted, pending (surely not accepted, will be tried again) or in_doubt (handed over, answer lost).';

CREATE FUNCTION job_alerting.preview(OUT subject text, OUT body_text text, OUT body_html text)
    RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'job_alerting_preview';
COMMENT ON FUNCTION job_alerting.preview() IS
'What the next digest of the first configured channel would say if its round came now; no row when nothing is new and nothing waits. Sends and records nothing, and waits for no round.';

CREATE FUNCTION job_alerting.check(OUT item text, OUT state text, OUT detail text, OUT hint text)
    RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'job_alerting_check';
COMMENT ON FUNCTION job_alerting.check() IS
'The doctor: a row for each item that it looked at (server, channels and what waits for them, heartbeat, and each queue from several sides) with its state (ok, warning or error), what was found, and the statement or setting that mends it. Changes nothing, sends nothing.';

CREATE FUNCTION job_alerting.send_test(OUT channel text, OUT outcome text, OUT detail text)
    RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'job_alerting_send_test';
COMMENT ON FUNCTION job_alerting.send_test() IS
'A small test message through every configured channel, and what became of it: accepted, pending (surely not accepted; a test is not tried again) or in_doubt (handed over, answer lost). It is no digest: nothing is recorded.';

CREATE FUNCTION job_alerting.settle(digest_id bigint, arrived boolean)
    RETURNS text LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'job_alerting_settle';
COMMENT ON FUNCTION job_alerting.settle(bigint, boolean) IS
'An operator''s verdict on a digest in doubt. true: it arrived, and counts as accepted. false: the next round sends it again, even where it was held: byte for byte the same, or composed anew where it was surely not accepted before. Returns the state that follows: accepted, or in_doubt until the next round.';

CREATE FUNCTION job_alerting.server_state(OUT preloaded boolean, OUT launcher_pid integer,
                                          OUT last_round_at timestamptz,
                                          OUT next_round_at timestamptz,
                                          OUT round_interval interval, OUT unended_rounds integer,
                                          OUT channels text[], OUT trouble text,
                                          OUT round_since timestamptz, OUT round_pid integer,
                                          OUT asked_to_end boolean, OUT awaited_database text,
                                          OUT awaited_since timestamptz)
    RETURNS record LANGUAGE c VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'job_alerting_server_state';
COMMENT ON FUNCTION job_alerting.server_state() IS
'What the server''s memory knows of the rounds in this database; the view status reads it. unended_rounds: rounds in succession that did not come to their end; channels: those of the last round; trouble: what kept the last round, or would keep a digest, from its end; round_since and round_pid: the round that is ordered or under way, NULL when none is; asked_to_end: it outlived its limits, and its process was asked to end; awaited_database: where the round is that the launcher waits for.';

--
-- Whether all is well
--

CREATE VIEW job_alerting.status AS
    WITH server AS MATERIALIZED (
        SELECT * FROM job_alerting.server_state()
    ), waiting AS (
        SELECT d.* FROM server s JOIN job_alerting.digest d ON d.channel = ANY (s.channels)
        WHERE d.state <> 'accepted'
    ), stretch AS (
        SELECT u.first_failure, u.last_failure
        FROM server s JOIN job_alerting.untold u ON u.channel = ANY (s.channels)
        UNION ALL
        SELECT w.first_failure, w.last_failure FROM waiting w
    ), backlog AS (
        -- Each failure counts once, in whatever channels it waits.
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
    ), cut_off AS (
        -- A round that has ended since this transaction began may have settled it.
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
                'this server is a standby: rounds run on the primary, so look there'
            WHEN NOT s.preloaded THEN
                'no round comes by itself: add job_alerting to shared_preload_libraries and restart the server'
            WHEN s.launcher_pid IS NULL THEN
                'the launcher is not running: unless it is back in 10 seconds, see the server''s log'
            WHEN (SELECT t.datistemplate FROM pg_database t WHERE t.datname = current_database()) THEN
                format('no round comes by itself in a template database: ALTER DATABASE %I IS_TEMPLATE false',
                       current_database())
            WHEN s.asked_to_end AND s.round_pid IS NOT NULL THEN
                format('the round that began at %s outlives its limits, and its process %s was asked to end and has not: this database has no round until it has',
                       date_trunc('second', s.round_since), s.round_pid)
            WHEN s.round_since < clock_timestamp() - interval '45 seconds' THEN
                format('the round that began at %s has not ended yet%s: see process %s in pg_stat_activity',
                       date_trunc('second', s.round_since),
                       (SELECT format('; it has been reading queue %s since %s', n.name,
                                      date_trunc('second', n.scan_started_at)) FROM scan n),
                       coalesce(s.round_pid::text, '''job_alerting worker'''))
            WHEN s.trouble IS NOT NULL THEN
                format('%s; mend that, then call job_alerting.run_digest()', s.trouble)
            WHEN c.id IS NOT NULL THEN
                format('digest %s through %s was being sent when its round was cut off: the next round, due at %s, %s',
                       c.id, c.channel, date_trunc('second', s.next_round_at),
                       CASE WHEN current_setting('job_alerting.on_in_doubt', true) = 'hold'
                            THEN 'holds it as in doubt' ELSE 'sends it again' END)
            WHEN s.unended_rounds > 0 THEN
                format('%s cut off before the end: see the server''s log; the next is due at %s',
                       CASE s.unended_rounds WHEN 1 THEN 'the last round was'
                       ELSE format('the last %s rounds were', s.unended_rounds) END,
                       date_trunc('second', s.next_round_at))
            WHEN s.round_since IS NULL
                 AND coalesce(s.next_round_at, s.awaited_since)
                     < clock_timestamp() - interval '30 seconds' THEN
                format('the round that was due at %s has not begun: %s',
                       date_trunc('second', coalesce(s.next_round_at, s.awaited_since)),
                       CASE WHEN s.awaited_database IS NULL THEN 'see the server''s log'
                       ELSE format('the launcher waits for the round in database %s, which began at %s',
                                   s.awaited_database, date_trunc('second', s.awaited_since)) END)
            WHEN s.last_round_at IS NULL THEN
                'no round has ended yet since the server started: one comes by itself, or call job_alerting.run_digest()'
            WHEN s.last_round_at < clock_timestamp() - 2 * s.round_interval - interval '5 minutes' THEN
                format('no round has ended since %s: see the server''s log',
                       date_trunc('second', s.last_round_at))
            WHEN NOT EXISTS (SELECT FROM job_alerting.queue) THEN
                'no queue is watched: call job_alerting.watch(''my_schema.my_jobs'')'
            WHEN cardinality(s.channels) = 0 THEN
                'failures are recorded, but nobody is told: set job_alerting.channels'
            WHEN b.queues > 0 THEN
                format('queue %s cannot be read: %s; mend that, or call job_alerting.unwatch(%L)',
                       b.name, b.error, b.name)
            WHEN p.queues > 0 THEN
                format('%s not reached by the last round, since slow failure queries took all the time for scans: the longest waits %s, since %s; job_alerting.check() names the slow ones',
                       CASE p.queues WHEN 1 THEN '1 queue was' ELSE format('%s queues were', p.queues) END,
                       p.name, date_trunc('second', p.since))
            WHEN r.id IS NOT NULL THEN
                format('digest %s could not be delivered through %s: %s; it is tried again by itself at %s%s',
                       r.id, r.channel, r.error, date_trunc('second', r.next_attempt_at),
                       CASE WHEN r.http_status IS DISTINCT FROM 429
                            THEN ', or at once by job_alerting.run_digest()' END)
            WHEN d.held IS NOT NULL THEN
                format('digest %s through %s is in doubt: %s; it is held until you call job_alerting.settle(%s, true) if it arrived, or settle(%s, false) to have it sent again',
                       d.id, d.channel, d.error, d.id, d.id)
            WHEN d.id IS NOT NULL THEN
                format('digest %s through %s is in doubt: %s; it is sent again by itself at %s; if it arrived, call job_alerting.settle(%s, true)',
                       d.id, d.channel, d.error, date_trunc('second', d.next_attempt_at), d.id)
            END AS reason
        FROM server s CROSS JOIN broken b CROSS JOIN postponed p LEFT JOIN refused r ON true LEFT JOIN doubtful d ON true
             LEFT JOIN cut_off c ON true
    )
    SELECT v.reason IS NULL AS healthy, v.reason, s.launcher_pid, s.last_round_at, s.next_round_at,
           (SELECT max(d.updated_at) FROM job_alerting.digest d WHERE d.state = 'accepted')
               AS last_accepted_at,
           u.failures AS failures_waiting, (SELECT count(*) FROM waiting) AS digests_waiting,
           u.since AS oldest_waiting_since, b.queues AS queues_broken
    FROM server s CROSS JOIN verdict v CROSS JOIN backlog u CROSS JOIN broken b;
COMMENT ON VIEW job_alerting.status IS 'one row: whether alerts arrive, and if not, the first reason and what to do; pg_monitor may read it';
COMMENT ON COLUMN job_alerting.status.healthy IS 'whether all is well: rounds come by themselves, there is something to watch and somewhere to tell it, every queue can be read, and no digest has failed or is in doubt';
COMMENT ON COLUMN job_alerting.status.reason IS 'the first thing that is not well, and what to do; NULL when healthy';
COMMENT ON COLUMN job_alerting.status.launcher_pid IS 'process id of the launcher; NULL when it is not running';
COMMENT ON COLUMN job_alerting.status.last_round_at IS 'when the last round in this database ended; NULL when none has since the server started';
COMMENT ON COLUMN job_alerting.status.next_round_at IS 'when the next round is due by itself; NULL when none is';
COMMENT ON COLUMN job_alerting.status.last_accepted_at IS 'when a digest was last accepted';
COMMENT ON COLUMN job_alerting.status.failures_waiting IS 'failures that a configured channel has not been told, as far as is known';
COMMENT ON COLUMN job_alerting.status.digests_waiting IS 'digests of configured channels that are not accepted';
COMMENT ON COLUMN job_alerting.status.oldest_waiting_since IS 'when the oldest of failures_waiting was recorded; NULL when none waits';
COMMENT ON COLUMN job_alerting.status.queues_broken IS 'queues that cannot be read';

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
-- The first use needs no call of watch(): where there is just one research_jobs, it is meant.
--

DO $$
DECLARE
    found pg_catalog.regclass[];
    trouble text;
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
    GET STACKED DIAGNOSTICS trouble = PG_EXCEPTION_DETAIL;
    RAISE INFO 'job_alerting does not watch table %: %', found[1],
        pg_catalog.concat_ws('. ', SQLERRM, nullif(trouble, ''))
        USING HINT = 'Call job_alerting.watch() or job_alerting.watch_query().';
END
$$;
