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
CREATE TABLE job_alerting.queue (
    name            text COLLATE "C" PRIMARY KEY CHECK (name <> ''),
    failure_query   text NOT NULL,
    owner           name NOT NULL,
    since           timestamptz NOT NULL DEFAULT '-infinity',
    watched_at      timestamptz NOT NULL DEFAULT now(),
    scan_started_at timestamptz,
    last_scan_at    timestamptz,
    last_scan_ms    double precision,
    last_error      text,
    broken_since    timestamptz
);
COMMENT ON TABLE job_alerting.queue IS 'the watched job tables; written by watch(), watch_query(), unwatch() and the rounds';
COMMENT ON COLUMN job_alerting.queue.name IS 'name of the queue, as it appears in digests';
COMMENT ON COLUMN job_alerting.queue.failure_query IS 'SELECT that returns the jobs of the queue that stand failed now';
COMMENT ON COLUMN job_alerting.queue.owner IS 'role that the failure query runs as; a name, so that a dump restores where the role is missing';
COMMENT ON COLUMN job_alerting.queue.since IS 'failures from before this time are not reported';
COMMENT ON COLUMN job_alerting.queue.watched_at IS 'when watch() or watch_query() last set the failure query';
COMMENT ON COLUMN job_alerting.queue.scan_started_at IS 'when the scan in progress began; left standing by a scan that never ended';
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
    recorded_at  timestamptz NOT NULL DEFAULT now(),
    cleared_at   timestamptz,
    UNIQUE (queue, job_id, occurrence)
);
-- For pruning, which must not read the whole ledger each round.
CREATE INDEX failure_cleared ON job_alerting.failure (cleared_at) WHERE cleared_at IS NOT NULL;
COMMENT ON TABLE job_alerting.failure IS 'the ledger: every failure ever seen, once, numbered in the order of recording; written by the rounds only';
COMMENT ON COLUMN job_alerting.failure.id IS 'number of the failure in the ledger; a digest covers a contiguous stretch of them';
COMMENT ON COLUMN job_alerting.failure.queue IS 'name of the queue that the job belongs to';
COMMENT ON COLUMN job_alerting.failure.job_id IS 'the job, as the failure query names it; ''unreadable'' for the failure of the queue itself';
COMMENT ON COLUMN job_alerting.failure.occurrence IS 'tells one failure of a job from the next: the failure query''s own column, or failed_at in UTC, or ''unknown '' and the time of recording';
COMMENT ON COLUMN job_alerting.failure.source IS 'where the job comes from';
COMMENT ON COLUMN job_alerting.failure.job_type IS 'what kind of job it is';
COMMENT ON COLUMN job_alerting.failure.target_type IS 'what kind of thing it worked on';
COMMENT ON COLUMN job_alerting.failure.target_id IS 'which thing it worked on';
COMMENT ON COLUMN job_alerting.failure.status IS 'status of the job when it was recorded; ''unreadable'' for the failure of the queue itself';
COMMENT ON COLUMN job_alerting.failure.attempts IS 'attempts made when it was recorded';
COMMENT ON COLUMN job_alerting.failure.max_attempts IS 'attempts allowed when it was recorded';
COMMENT ON COLUMN job_alerting.failure.error IS 'the first 4000 characters of its error when it was recorded';
COMMENT ON COLUMN job_alerting.failure.failed_at IS 'when the job failed, as the job table says; NULL when it does not say';
COMMENT ON COLUMN job_alerting.failure.chain IS 'the chain of jobs that it is a step of';
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
    message_id       text,
    request          text,
    composed_in      text COLLATE "C" NOT NULL,
    composed_at      timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    CHECK (first_failure <= last_failure)
);
-- A channel has at most one open digest: surely not accepted, and extended at each try.
CREATE UNIQUE INDEX digest_open ON job_alerting.digest (channel) WHERE state = 'pending';
CREATE INDEX digest_stretch ON job_alerting.digest (channel, last_failure);
COMMENT ON TABLE job_alerting.digest IS 'the messages: what each channel was sent, or waits to be sent; written by the rounds only';
COMMENT ON COLUMN job_alerting.digest.id IS 'number of the digest, as in its subject';
COMMENT ON COLUMN job_alerting.digest.channel IS 'log, sendgrid or slack';
COMMENT ON COLUMN job_alerting.digest.first_failure IS 'ledger number of the first failure in it';
COMMENT ON COLUMN job_alerting.digest.last_failure IS 'ledger number of the last failure in it';
COMMENT ON COLUMN job_alerting.digest.state IS 'pending: surely not accepted, extended at each try; sending: a request is on its way; in_doubt: handed over, answer lost; accepted';
COMMENT ON COLUMN job_alerting.digest.subject IS 'its subject at the last try';
COMMENT ON COLUMN job_alerting.digest.attempts IS 'tries so far';
COMMENT ON COLUMN job_alerting.digest.first_attempt_at IS 'when it was first tried';
COMMENT ON COLUMN job_alerting.digest.next_attempt_at IS 'when it is due again';
COMMENT ON COLUMN job_alerting.digest.http_status IS 'HTTP status of the last answer; NULL when there was none';
COMMENT ON COLUMN job_alerting.digest.provider_id IS 'what the provider calls the message (SendGrid: X-Message-Id)';
COMMENT ON COLUMN job_alerting.digest.error IS 'why the last try was not accepted';
COMMENT ON COLUMN job_alerting.digest.message_id IS 'Message-ID of the mail, the same at every try';
COMMENT ON COLUMN job_alerting.digest.request IS 'the message as it was last handed over, re-sent byte for byte while in doubt; emptied when accepted';
COMMENT ON COLUMN job_alerting.digest.composed_in IS 'system identifier and oid of the database that composed it; in a copy of that database it is not sent again';
COMMENT ON COLUMN job_alerting.digest.composed_at IS 'when it was begun';
COMMENT ON COLUMN job_alerting.digest.updated_at IS 'when its state last changed';

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
'Watch anything: a SELECT that returns the jobs that stand failed now, with the columns job_id text and failed_at timestamptz, and optionally occurrence, source, job_type, target_type, target_id, status, chain, error (text), attempts, max_attempts (integer). It runs as owner with search_path pg_catalog, so all its names are schema-qualified. It is tried once before it is stored. Returns the queue''s name.';

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
'One round now, in a background worker of its own: it sees what is committed, and commits whatever the caller''s transaction does. A row for each configured channel; outcome: silent (nothing new, nothing waiting), accepted, pending (surely not accepted, will be tried again) or in_doubt (handed over, answer lost).';

REVOKE ALL ON FUNCTION job_alerting.watch(regclass, text, timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION job_alerting.watch_query(text, text, name, timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION job_alerting.unwatch(text, boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION job_alerting.run_digest() FROM PUBLIC;

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
