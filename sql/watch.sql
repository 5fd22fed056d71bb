-- watch() and unwatch(): the failure query that watch() writes, and every refusal, which stores nothing.

\pset format unaligned
\pset tuples_only on

CREATE EXTENSION job_alerting;

CREATE FUNCTION pg_temp.stored() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS
    'SELECT count(*) FROM job_alerting.queue';
CREATE FUNCTION pg_temp.refusal(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text; detail text; hint text;
BEGIN
    EXECUTE 'SELECT ' || call;
    RETURN 'not refused';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', SQLSTATE || ': ' || message,
                     'DETAIL: ' || nullif(detail, ''), 'HINT: ' || nullif(hint, ''),
                     'queues stored: ' || pg_temp.stored());
END
$$;

-- Tables that are not shaped like research_jobs.
CREATE TABLE no_column (id int PRIMARY KEY);
CREATE TABLE some_columns (id int PRIMARY KEY, status text, attempts int);
CREATE TABLE other_types (id int PRIMARY KEY, status int, finished_at timestamp, attempts text, max_attempts numeric);
CREATE TABLE no_key (id int, status text, finished_at timestamptz, attempts int, max_attempts int);
CREATE TABLE wide_key (LIKE no_key, PRIMARY KEY (id, status));
CREATE TABLE unique_only (LIKE no_key, UNIQUE (id));
SELECT pg_temp.refusal($$job_alerting.watch('no_column')$$);
SELECT pg_temp.refusal($$job_alerting.watch('some_columns')$$);
SELECT pg_temp.refusal($$job_alerting.watch('other_types')$$);
SELECT pg_temp.refusal($$job_alerting.watch('no_key')$$);
SELECT pg_temp.refusal($$job_alerting.watch('wide_key')$$);
SELECT pg_temp.refusal($$job_alerting.watch('unique_only')$$);

-- Relations that are not tables, or that a round could not read.
CREATE TABLE jobs (
    id bigserial PRIMARY KEY, status text, finished_at timestamptz, attempts int, max_attempts int, last_error text
);
CREATE VIEW jobs_view AS SELECT * FROM jobs;
CREATE MATERIALIZED VIEW jobs_matview AS SELECT * FROM jobs;
CREATE TEMP TABLE jobs_temp (LIKE jobs, PRIMARY KEY (id));
SELECT pg_temp.refusal($$job_alerting.watch('jobs_view')$$);
SELECT pg_temp.refusal($$job_alerting.watch('jobs_matview')$$);
SELECT pg_temp.refusal($$job_alerting.watch('jobs_temp')$$);
SELECT pg_temp.refusal($$job_alerting.watch('jobs_pkey')$$);
SELECT pg_temp.refusal($$job_alerting.watch('jobs_id_seq')$$);
SELECT pg_temp.refusal($$job_alerting.watch('no_such_table')$$);
SELECT pg_temp.refusal($$job_alerting.watch(0)$$);

-- Arguments.
SELECT pg_temp.refusal($$job_alerting.watch(NULL)$$);
SELECT pg_temp.refusal($$job_alerting.watch('jobs', since => NULL)$$);
SELECT pg_temp.refusal($$job_alerting.watch('jobs', '')$$);
SELECT pg_temp.refusal($$job_alerting.watch('jobs', repeat('x', 201))$$);

-- A table of another role.
CREATE ROLE regress_job_alerting_owner;
CREATE ROLE regress_job_alerting_member IN ROLE regress_job_alerting_owner;
CREATE ROLE regress_job_alerting_other;
GRANT USAGE ON SCHEMA job_alerting TO regress_job_alerting_owner, regress_job_alerting_other;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA job_alerting TO regress_job_alerting_owner, regress_job_alerting_other;
GRANT ALL ON jobs TO regress_job_alerting_other;
ALTER TABLE jobs OWNER TO regress_job_alerting_owner;
SET ROLE regress_job_alerting_other;
SELECT pg_temp.refusal($$job_alerting.watch('jobs')$$);
RESET ROLE;

-- A member of the owner may watch it, and the queue runs as the owner.
SET ROLE regress_job_alerting_member;
SELECT job_alerting.watch('jobs');
RESET ROLE;
SELECT name, owner, since, last_scan_at, last_error, broken_since FROM job_alerting.queue;
SELECT failure_query FROM job_alerting.queue;
SELECT never_ran_query IS NULL, jobs, key FROM job_alerting.queue;

-- watch() again replaces the queue, for members of its owner only.
SET datestyle = 'SQL, DMY';
SET timezone = 'Asia/Shanghai';
SELECT job_alerting.watch('jobs', since => '2026-01-01 00:00:00+00');
SET datestyle = 'ISO, MDY';
SET timezone = 'UTC';
SELECT name, since FROM job_alerting.queue;
CREATE TABLE others_jobs (LIKE jobs, PRIMARY KEY (id));
ALTER TABLE others_jobs OWNER TO regress_job_alerting_other;
SET ROLE regress_job_alerting_other;
SELECT pg_temp.refusal($$job_alerting.watch('others_jobs', 'jobs')$$);
SELECT pg_temp.refusal($$job_alerting.unwatch('jobs')$$);
SELECT job_alerting.watch('others_jobs');
RESET ROLE;
SELECT name, owner FROM job_alerting.queue ORDER BY name;

-- watch_query() on the same name forgets the table.
SELECT job_alerting.watch_query('others_jobs',
                                'SELECT id::text AS job_id, finished_at AS failed_at FROM public.others_jobs');
SELECT num_nonnulls(never_ran_query, jobs, key) FROM job_alerting.queue WHERE name = 'others_jobs';

-- unwatch() returns whether there was such a queue.
SELECT job_alerting.unwatch('no such queue');
SELECT job_alerting.unwatch(NULL) IS NULL;
SET ROLE regress_job_alerting_member;
SELECT job_alerting.unwatch('jobs');
SELECT job_alerting.unwatch('jobs', true);
RESET ROLE;
SELECT job_alerting.unwatch('others_jobs', forget => true);
SELECT count(*) FROM job_alerting.queue;

DROP VIEW jobs_view;
DROP MATERIALIZED VIEW jobs_matview;
DROP TABLE no_column, some_columns, other_types, no_key, wide_key, unique_only, jobs, others_jobs;
DROP EXTENSION job_alerting;
DROP ROLE regress_job_alerting_member, regress_job_alerting_owner, regress_job_alerting_other;
