-- settle(): its privileges, every refusal, and the effect of a verdict on the digest. The next round
-- needs a receiver: see test/t.

\pset format unaligned
\pset tuples_only on

CREATE EXTENSION job_alerting;

CREATE FUNCTION pg_temp.refusal(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text; detail text; hint text;
BEGIN
    EXECUTE 'SELECT ' || call;
    RETURN 'not refused';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', SQLSTATE || ': ' || message,
                     'DETAIL: ' || nullif(detail, ''), 'HINT: ' || nullif(hint, ''));
END
$$;
CREATE VIEW settled AS
    SELECT id, state, held, released_at IS NOT NULL AS released, next_attempt_at <= now() AS due, error, note, request FROM job_alerting.digest ORDER BY id;

-- Digests as rounds leave them.
INSERT INTO job_alerting.digest (channel, first_failure, last_failure, state, held, next_attempt_at, error, request)
VALUES ('sendgrid', 1, 1, 'accepted', NULL, NULL, NULL, NULL),
       ('sendgrid', 2, 2, 'in_doubt', 'in doubt', now() + interval '1 h', 'HTTP 503', '{}'),
       ('sendgrid', 3, 3, 'in_doubt', 'copy', NULL, 'a copy', '{}'),
       ('sendgrid', 4, 4, 'pending', NULL, now() + interval '1 h', 'HTTP 401', '{}'),
       ('slack', 4, 4, 'sending', NULL, NULL, NULL, '{}');

-- Refusals.
SELECT pg_temp.refusal($$job_alerting.settle(17, true)$$);
SELECT pg_temp.refusal($$job_alerting.settle(1, true)$$);
SELECT pg_temp.refusal($$job_alerting.settle(1, false)$$);
SELECT pg_temp.refusal($$job_alerting.settle(4, true)$$);
SELECT pg_temp.refusal($$job_alerting.settle(4, false)$$);
SELECT pg_temp.refusal($$job_alerting.settle(5, true)$$);
SELECT pg_temp.refusal($$job_alerting.settle(NULL, true)$$);
SELECT pg_temp.refusal($$job_alerting.settle(2, NULL)$$);
BEGIN READ ONLY;
SELECT pg_temp.refusal($$job_alerting.settle(2, true)$$);
COMMIT;

-- PUBLIC has no privilege. EXECUTE is sufficient.
CREATE ROLE regress_job_alerting_nobody;
CREATE ROLE "regress_job_alerting O'Neil";
GRANT USAGE ON SCHEMA job_alerting TO regress_job_alerting_nobody, "regress_job_alerting O'Neil";
GRANT EXECUTE ON FUNCTION job_alerting.settle TO "regress_job_alerting O'Neil";
SET ROLE regress_job_alerting_nobody;
SELECT pg_temp.refusal($$job_alerting.settle(2, true)$$);
SET ROLE "regress_job_alerting O'Neil";
SELECT pg_temp.refusal($$(SELECT count(*) FROM job_alerting.digest)$$);
SELECT pg_temp.refusal($$job_alerting.settle(17, true)$$);
BEGIN;
SELECT job_alerting.settle(2, true);
SELECT job_alerting.settle(3, false);
ROLLBACK;
RESET ROLE;
-- A rollback undoes a verdict.
TABLE settled;
SET ROLE "regress_job_alerting O'Neil";
SELECT job_alerting.settle(2, true);
SELECT job_alerting.settle(3, false);
RESET ROLE;
TABLE settled;

-- An accepted digest stays accepted. A digest that is to be sent again may still be settled as arrived.
SELECT pg_temp.refusal($$job_alerting.settle(2, false)$$);
SET ROLE "regress_job_alerting O'Neil";
SELECT job_alerting.settle(3, true);
RESET ROLE;
TABLE settled;

DROP VIEW settled;
DROP EXTENSION job_alerting;
DROP ROLE regress_job_alerting_nobody, "regress_job_alerting O'Neil";
