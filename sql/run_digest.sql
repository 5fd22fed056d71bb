-- run_digest(): the first use, without any setting or preloaded library, and its refusals. The digests
-- go to the server's log.

\pset format unaligned
\pset tuples_only on

CREATE EXTENSION job_alerting;
CREATE TABLE jobs (
    id int PRIMARY KEY, status text, finished_at timestamptz, attempts int, max_attempts int, last_error text
);

CREATE FUNCTION pg_temp.refusal() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text; detail text; hint text;
BEGIN
    PERFORM job_alerting.run_digest();
    RETURN 'not refused';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', SQLSTATE || ': ' || message,
                     'DETAIL: ' || nullif(detail, ''), 'HINT: ' || nullif(hint, ''));
END
$$;

-- Refusals.
SELECT pg_temp.refusal();
BEGIN;
SELECT job_alerting.watch('jobs');
-- The round does not see an uncommitted failure.
SELECT pg_temp.refusal();
COMMIT;
BEGIN READ ONLY;
SELECT pg_temp.refusal();
COMMIT;
BEGIN;
DROP EXTENSION job_alerting;
CREATE EXTENSION job_alerting;
SELECT pg_temp.refusal();
ROLLBACK;

-- Nothing has failed.
SELECT * FROM job_alerting.run_digest();

-- A failure is reported once.
INSERT INTO jobs VALUES
    (1, 'dead', '2026-01-01 03:00:00+00', 3, 3, 'timeout'),
    (2, 'failed', '2026-01-01 03:00:01+00', 1, 3, 'timeout'),
    (3, 'failed', '2026-01-01 03:00:02+00', 3, 3, 'timeout'),
    (4, 'done', '2026-01-01 03:00:03+00', 1, 3, NULL);
SELECT * FROM job_alerting.run_digest();
SELECT * FROM job_alerting.run_digest();

-- The round is independent of the caller's transaction: it does not see it, and is not rolled back with it.
BEGIN;
INSERT INTO jobs VALUES (5, 'dead', '2026-01-01 04:00:00+00', 3, 3, 'timeout');
SELECT * FROM job_alerting.run_digest();
COMMIT;
BEGIN;
SELECT * FROM job_alerting.run_digest();
ROLLBACK;
SELECT * FROM job_alerting.run_digest();

-- The session's settings do not affect the round.
SET job_alerting.channels = '';
SET search_path = pg_temp;
SELECT * FROM job_alerting.run_digest();
RESET search_path;
RESET job_alerting.channels;

-- The ledger, and the digests.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SELECT id, queue, job_id, occurrence, status, attempts, max_attempts, error, failed_at, cleared_at
FROM job_alerting.failure ORDER BY id;
SELECT id, channel, first_failure, last_failure, state, attempts, request, error FROM job_alerting.digest ORDER BY id;
SELECT digest_id, channel, digest_state, id, job_id FROM job_alerting.digest_failure ORDER BY digest_id, id;

-- A queue that cannot be read is reported as a failure, and in the detail of each call.
ALTER TABLE jobs RENAME finished_at TO ended_at;
SELECT * FROM job_alerting.run_digest();
SELECT * FROM job_alerting.run_digest();
SELECT job_id, status, error FROM job_alerting.failure WHERE status = 'unreadable';
ALTER TABLE jobs RENAME ended_at TO finished_at;
SELECT * FROM job_alerting.run_digest();
SELECT last_error, broken_since FROM job_alerting.queue;

DROP EXTENSION job_alerting;
DROP TABLE jobs;
