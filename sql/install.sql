-- CREATE EXTENSION watches a unique table named research_jobs, reports that, and grants nothing to
-- anybody.

\pset format unaligned
\pset tuples_only on

-- A database without job tables: no message, and nothing is watched.
CREATE EXTENSION job_alerting;
SELECT extname, extversion, extrelocatable FROM pg_extension WHERE extname = 'job_alerting';
SELECT count(*) FROM job_alerting.queue;

-- The privileges of PUBLIC on the schema and its objects.
SELECT 'schema', acl.privilege_type
FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) acl
WHERE n.nspname = 'job_alerting' AND acl.grantee = 0;
SELECT p.oid::regprocedure, acl.privilege_type
FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) acl
WHERE p.pronamespace = 'job_alerting'::regnamespace AND acl.grantee = 0;
SELECT c.oid::regclass, acl.privilege_type
FROM pg_class c, LATERAL (SELECT CASE c.relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END) of(kind),
     aclexplode(coalesce(c.relacl, acldefault(of.kind, c.relowner))) acl
WHERE c.relnamespace = 'job_alerting'::regnamespace AND c.relkind <> 'i' AND acl.grantee = 0;

CREATE ROLE regress_job_alerting_nobody;
SET ROLE regress_job_alerting_nobody;
SELECT * FROM job_alerting.failure;
SELECT job_alerting.run_digest();
RESET ROLE;
-- A role with USAGE on the schema has no other privilege.
GRANT USAGE ON SCHEMA job_alerting TO regress_job_alerting_nobody;
SET ROLE regress_job_alerting_nobody;
SELECT * FROM job_alerting.queue;
SELECT * FROM job_alerting.digest_failure;
SELECT job_alerting.watch('pg_class');
SELECT job_alerting.watch_query('q', 'SELECT 1');
SELECT job_alerting.unwatch('q');
SELECT job_alerting.run_digest();
RESET ROLE;
DROP EXTENSION job_alerting;
DROP ROLE regress_job_alerting_nobody;

-- One table named research_jobs.
CREATE TABLE research_jobs (
    id bigserial PRIMARY KEY, source text, job_type text, target_type text, target_id uuid, payload jsonb, result jsonb,
    status text NOT NULL, priority smallint, attempts smallint, max_attempts smallint, run_after timestamptz,
    claimed_at timestamptz, claimed_by text, finished_at timestamptz, last_error text
);
CREATE EXTENSION job_alerting;
SELECT name, owner = current_user, since FROM job_alerting.queue;
SELECT failure_query FROM job_alerting.queue;
SELECT never_ran_query FROM job_alerting.queue;
SELECT jobs, key FROM job_alerting.queue;

-- Twice in one transaction, in a session that has used the extension before.
BEGIN;
DROP EXTENSION job_alerting;
CREATE EXTENSION job_alerting;
SELECT job_alerting.unwatch('research_jobs');
COMMIT;
SELECT count(*) FROM job_alerting.queue;
DROP EXTENSION job_alerting;

-- Two tables of that name: neither is watched.
CREATE SCHEMA job_alerting_regress;
CREATE TABLE job_alerting_regress.research_jobs (id int PRIMARY KEY);
CREATE EXTENSION job_alerting;
SELECT count(*) FROM job_alerting.queue;
DROP EXTENSION job_alerting;

-- A table of another shape.
DROP TABLE research_jobs;
CREATE EXTENSION job_alerting;
SELECT count(*) FROM job_alerting.queue;
DROP EXTENSION job_alerting;
DROP TABLE job_alerting_regress.research_jobs;
DROP SCHEMA job_alerting_regress;

-- An existing schema job_alerting is not adopted.
-- PostgreSQL 18 and later also show the statement of the script.
\set SHOW_CONTEXT never
CREATE SCHEMA job_alerting;
CREATE EXTENSION job_alerting;
DROP SCHEMA job_alerting;
