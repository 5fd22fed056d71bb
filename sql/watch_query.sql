-- watch_query(): the failure queries that it accepts, and every refusal, which stores nothing.

\pset format unaligned
\pset tuples_only on

CREATE EXTENSION job_alerting;

CREATE FUNCTION pg_temp.stored() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS
    'SELECT count(*) FROM job_alerting.queue';
CREATE FUNCTION pg_temp.refusal(query text, more text DEFAULT '') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text; detail text; hint text;
BEGIN
    EXECUTE format('SELECT job_alerting.watch_query(%L, %L %s)', 'q', query, more);
    RETURN 'not refused';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', SQLSTATE || ': ' || message,
                     'DETAIL: ' || nullif(detail, ''), 'HINT: ' || nullif(hint, ''),
                     'queues stored: ' || pg_temp.stored());
END
$$;

CREATE TABLE runs (id text, ended timestamptz, n int);
INSERT INTO runs VALUES ('a', '2026-01-01 00:00:00+00', 0);

-- Anything but one plain SELECT. The position of a syntax error is that in the failure query.
SELECT job_alerting.watch_query('q', 'SELECT id AS job_id, ended AS failed_at FRM public.runs');
SELECT pg_temp.refusal('SELEC id AS job_id');
SELECT pg_temp.refusal('');
SELECT pg_temp.refusal('-- nothing');
SELECT pg_temp.refusal('SELECT id AS job_id, ended AS failed_at FROM public.runs; SELECT 1');
SELECT pg_temp.refusal('SELECT id AS job_id, ended AS failed_at FROM public.runs; DROP TABLE public.runs');
SELECT pg_temp.refusal('INSERT INTO public.runs VALUES (''b'') RETURNING id AS job_id, ended AS failed_at');
SELECT pg_temp.refusal('EXPLAIN SELECT 1');
SELECT pg_temp.refusal('WITH gone AS (DELETE FROM public.runs RETURNING id AS job_id, ended AS failed_at) TABLE gone');
SELECT pg_temp.refusal('SELECT * FROM (WITH gone AS (DELETE FROM public.runs RETURNING id AS job_id) TABLE gone) g');
SELECT pg_temp.refusal('SELECT id AS job_id, ended AS failed_at INTO public.copy FROM public.runs');
SELECT pg_temp.refusal('SELECT id AS job_id, ended AS failed_at FROM public.runs FOR UPDATE');
SELECT pg_temp.refusal('SELECT * FROM (SELECT id AS job_id, ended AS failed_at FROM public.runs FOR SHARE) s');

-- Columns.
SELECT pg_temp.refusal('SELECT id AS job_id FROM public.runs');
SELECT pg_temp.refusal('SELECT ended AS failed_at FROM public.runs');
SELECT pg_temp.refusal('SELECT id, ended AS failed_at FROM public.runs');
SELECT pg_temp.refusal('SELECT n AS job_id, ended AS failed_at FROM public.runs');
SELECT pg_temp.refusal('SELECT id AS job_id, ended::timestamp AS failed_at FROM public.runs');
SELECT pg_temp.refusal('SELECT id AS job_id, ended AS failed_at, n::bigint AS attempts FROM public.runs');
SELECT pg_temp.refusal('SELECT id AS job_id, ended AS failed_at, n AS error FROM public.runs');
SELECT pg_temp.refusal('SELECT id AS job_id, ended AS failed_at, n FROM public.runs');
SELECT pg_temp.refusal('SELECT id AS job_id, ended AS failed_at, id AS job_id FROM public.runs');
SELECT pg_temp.refusal('SELECT id AS job_id, ended AS failed_at, id AS source, id AS source FROM public.runs');

-- Queries that fail when they run: as in every round, read-only and with an empty search_path.
SELECT pg_temp.refusal('SELECT id AS job_id, ended AS failed_at FROM runs');
SELECT pg_temp.refusal('SELECT id AS job_id, ended AS failed_at FROM public.no_such_table');
SELECT pg_temp.refusal('SELECT id AS job_id, ended AS failed_at FROM public.runs WHERE 1 / n = 1');
SELECT pg_temp.refusal('SELECT id AS job_id, ended AS failed_at FROM public.runs WHERE id = $1');
SELECT pg_temp.refusal('SELECT NULL::text AS job_id, ended AS failed_at FROM public.runs');
CREATE FUNCTION cleaned() RETURNS bool LANGUAGE plpgsql AS 'BEGIN DELETE FROM public.runs; RETURN true; END';
SELECT pg_temp.refusal('SELECT id AS job_id, ended AS failed_at FROM public.runs WHERE public.cleaned()');
SELECT count(*) FROM runs;

-- Owners.
CREATE ROLE regress_job_alerting_watcher;
CREATE ROLE regress_job_alerting_other;
GRANT USAGE ON SCHEMA job_alerting TO regress_job_alerting_watcher;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA job_alerting TO regress_job_alerting_watcher;
SELECT current_user AS myself \gset
SELECT pg_temp.refusal('SELECT id AS job_id, ended AS failed_at FROM public.runs', ', ''regress_job_alerting_missing''');
SELECT pg_temp.refusal('SELECT id AS job_id, ended AS failed_at FROM public.runs', ', ''regress_job_alerting_watcher''');
SET ROLE regress_job_alerting_watcher;
SELECT pg_temp.refusal('SELECT ''x'' AS job_id, now() AS failed_at', format(', owner => %L', :'myself'));
SELECT pg_temp.refusal('SELECT id AS job_id, ended AS failed_at FROM public.runs');
RESET ROLE;

-- NULL arguments, and names.
SELECT pg_temp.refusal(NULL);
SELECT pg_temp.refusal('SELECT id AS job_id, ended AS failed_at FROM public.runs', ', owner => NULL');
SELECT pg_temp.refusal('SELECT id AS job_id, ended AS failed_at FROM public.runs', ', since => NULL');
SELECT job_alerting.watch_query(NULL, 'SELECT id AS job_id, ended AS failed_at FROM public.runs');
SELECT job_alerting.watch_query('', 'SELECT id AS job_id, ended AS failed_at FROM public.runs');
SELECT pg_temp.stored();

-- Accepted queries. They are stored unchanged, without blanks and empty statements around them.
SELECT job_alerting.watch_query('least', 'SELECT id AS job_id, ended AS failed_at FROM public.runs');
SELECT job_alerting.watch_query('end', $$ SELECT id AS job_id, NULL::timestamptz AS failed_at
  FROM public.runs -- all of them
; -- no more$$);
SELECT job_alerting.watch_query('all columns', $$
    WITH r AS (SELECT * FROM public.runs)
    SELECT ended AS failed_at, id AS job_id, n AS attempts, n AS max_attempts, id AS occurrence, id AS source,
           id AS job_type, id AS target_type, id AS target_id, id AS status, id AS chain, id AS error
    FROM r UNION ALL SELECT now(), '', 1, 1, '', '', '', '', '', '', '', ''$$);
SELECT job_alerting.watch_query('begin', $$
  ;; -- of nothing
  ;	/* all /* of */ them */ -- now
 SELECT id AS job_id, ended AS failed_at FROM public.runs;;$$);
GRANT SELECT ON runs TO regress_job_alerting_watcher, regress_job_alerting_other;
SELECT job_alerting.watch_query('other''s', 'SELECT id AS job_id, ended AS failed_at FROM public.runs',
                                'regress_job_alerting_other');
SELECT job_alerting.watch_query('lesser', 'SELECT id AS job_id, ended AS failed_at FROM public.runs',
                                'regress_job_alerting_watcher');
SET ROLE regress_job_alerting_watcher;
SELECT job_alerting.watch_query('lesser', 'SELECT id AS job_id, ended AS failed_at FROM public.runs',
                                since => '2026-01-01 00:00:00+00');
SELECT job_alerting.watch_query('other''s', 'SELECT id AS job_id, ended AS failed_at FROM public.runs');
RESET ROLE;
SET timezone = 'UTC';
SET datestyle = 'ISO';
SELECT name, CASE owner WHEN current_user THEN 'myself' ELSE owner END, since, failure_query
FROM job_alerting.queue ORDER BY name;
-- The trial has recorded nothing.
SELECT count(*) FROM job_alerting.failure;

DROP EXTENSION job_alerting;
DROP FUNCTION cleaned();
DROP TABLE runs;
DROP ROLE regress_job_alerting_watcher, regress_job_alerting_other;
