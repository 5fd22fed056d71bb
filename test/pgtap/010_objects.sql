-- The SQL interface that users script against: every object, column, type and default, the privileges, the
-- comments, and the rows that pg_dump keeps. It changes nothing in the database.

\set QUIET on
\set ON_ERROR_STOP on
\pset format unaligned
\pset tuples_only on
\pset pager off

BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS job_alerting;
-- The library defines the settings when it is loaded.
LOAD 'job_alerting';

-- Compares the rows of a query with one text column, in order.
CREATE FUNCTION pg_temp.lines_are(query text, wanted text[], description text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    lines text[];
BEGIN
    EXECUTE format('SELECT ARRAY(%s)', query) INTO lines;
    RETURN is(lines, wanted, description);
END
$$;

SELECT no_plan();

--
-- The extension
--

SELECT has_extension('job_alerting');
SELECT pg_temp.lines_are(
    $$SELECT concat_ws(' ', e.extversion, e.extrelocatable, v.superuser, v.trusted, coalesce(v.schema, 'none'))
      FROM pg_extension e JOIN pg_available_extension_versions v ON v.name = e.extname AND v.version = e.extversion
      WHERE e.extname = 'job_alerting'$$,
    '{1.0 f t f none}',
    'only superusers can create the extension, it is not relocatable, and its control file names no schema');
SELECT has_schema('job_alerting');
SELECT tables_are('job_alerting', ARRAY['queue', 'failure', 'digest', 'installation']);
SELECT views_are('job_alerting', ARRAY['digest_failure', 'status', 'unreported']);
SELECT sequences_are('job_alerting', ARRAY['failure_id_seq', 'digest_id_seq']);
SELECT functions_are('job_alerting', ARRAY['watch', 'watch_query', 'unwatch', 'run_digest', 'preview', 'check', 'send_test',
                                         'settle', 'server_state']);
SELECT is_empty(
    $$SELECT c.oid::regclass FROM pg_class c
      WHERE c.relnamespace = 'job_alerting'::regnamespace AND c.relkind NOT IN ('r', 'i', 'S', 'v')$$,
    'the schema has no relation of another kind');
SELECT is_empty(
    $$SELECT pg_describe_object(o.class, o.id, 0)
      FROM (SELECT 'pg_class'::regclass, oid FROM pg_class
            WHERE relnamespace = 'job_alerting'::regnamespace AND relkind IN ('r', 'v')
            UNION ALL SELECT 'pg_proc'::regclass, oid FROM pg_proc WHERE pronamespace = 'job_alerting'::regnamespace
            UNION ALL SELECT 'pg_namespace'::regclass, 'job_alerting'::regnamespace) o(class, id)
      WHERE NOT EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                        WHERE d.classid = o.class AND d.objid = o.id AND d.deptype = 'e'
                          AND d.refclassid = 'pg_extension'::regclass AND e.extname = 'job_alerting')$$,
    'every object of the schema belongs to the extension');
SELECT is_empty(
    $$SELECT pg_describe_object(d.classid, d.objid, 0)
      FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
      WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'job_alerting'
        AND (d.classid, d.objid) <> ('pg_namespace'::regclass, 'job_alerting'::regnamespace)
        AND NOT EXISTS (SELECT FROM pg_class WHERE d.classid = 'pg_class'::regclass
                        AND oid = d.objid AND relnamespace = 'job_alerting'::regnamespace)
        AND NOT EXISTS (SELECT FROM pg_proc WHERE d.classid = 'pg_proc'::regclass
                        AND oid = d.objid AND pronamespace = 'job_alerting'::regnamespace)
        -- From PostgreSQL 17 on, the types of relations' rows and their arrays are members, too.
        AND NOT EXISTS (SELECT FROM pg_type t LEFT JOIN pg_type element ON element.oid = t.typelem
                        WHERE d.classid = 'pg_type'::regclass AND t.oid = d.objid
                          AND t.typnamespace = 'job_alerting'::regnamespace
                          AND coalesce(element.typrelid, t.typrelid) <> 0)$$,
    'the extension has only relations and functions in that schema, which are all tested below');

--
-- Columns
--

CREATE FUNCTION pg_temp.columns_are(relation regclass, wanted text[]) RETURNS text LANGUAGE sql AS $$
    SELECT pg_temp.lines_are(
        format('SELECT concat_ws('' '', attname, format_type(atttypid, atttypmod),
                                 CASE WHEN attnotnull THEN ''not null'' END)
                FROM pg_attribute WHERE attrelid = %L::regclass AND attnum > 0 AND NOT attisdropped
                ORDER BY attnum', relation),
        wanted, 'columns of ' || relation)
$$;

SELECT pg_temp.columns_are('job_alerting.queue', ARRAY[
    'name text not null',
    'failure_query text not null',
    'never_ran_query text',
    'jobs text',
    'key name',
    'owner name not null',
    'since timestamp with time zone not null',
    'trusted boolean not null',
    'watched_at timestamp with time zone not null',
    'scan_started_at timestamp with time zone',
    'last_turn_at timestamp with time zone',
    'postponed_since timestamp with time zone',
    'last_scan_at timestamp with time zone',
    'last_scan_ms double precision',
    'last_error text',
    'broken_since timestamp with time zone']);
SELECT pg_temp.columns_are('job_alerting.failure', ARRAY[
    'id bigint not null',
    'queue text not null',
    'job_id text not null',
    'occurrence text not null',
    'source text',
    'job_type text',
    'target_type text',
    'target_id text',
    'status text',
    'attempts integer',
    'max_attempts integer',
    'error text',
    'failed_at timestamp with time zone',
    'chain text',
    'never_ran text[]',
    'recorded_at timestamp with time zone not null',
    'cleared_at timestamp with time zone']);
SELECT pg_temp.columns_are('job_alerting.digest', ARRAY[
    'id bigint not null',
    'channel text not null',
    'first_failure bigint not null',
    'last_failure bigint not null',
    'state text not null',
    'subject text',
    'attempts integer not null',
    'first_attempt_at timestamp with time zone',
    'next_attempt_at timestamp with time zone',
    'http_status integer',
    'provider_id text',
    'error text',
    'note text',
    'refused text',
    'held text',
    'released_at timestamp with time zone',
    'message_id text',
    'request text',
    'composed_at timestamp with time zone not null',
    'updated_at timestamp with time zone not null']);
SELECT pg_temp.columns_are('job_alerting.installation', ARRAY[
    'place text not null',
    'timeline integer not null',
    'backup text not null',
    'arrived_by text',
    'since timestamp with time zone not null']);
SELECT pg_temp.columns_are('job_alerting.status', ARRAY[
    'healthy boolean',
    'reason text',
    'launcher_pid integer',
    'last_round_at timestamp with time zone',
    'next_round_at timestamp with time zone',
    'last_accepted_at timestamp with time zone',
    'failures_waiting bigint',
    'digests_waiting bigint',
    'oldest_waiting_since timestamp with time zone',
    'queues_broken bigint']);
SELECT pg_temp.columns_are('job_alerting.unreported', ARRAY[
    'channel text',
    'first_failure bigint',
    'last_failure bigint']);
SELECT pg_temp.columns_are('job_alerting.digest_failure', ARRAY[
    'digest_id bigint',
    'channel text',
    'digest_state text',
    'id bigint',
    'queue text',
    'job_id text',
    'occurrence text',
    'source text',
    'job_type text',
    'target_type text',
    'target_id text',
    'status text',
    'attempts integer',
    'max_attempts integer',
    'error text',
    'failed_at timestamp with time zone',
    'chain text',
    'never_ran text[]',
    'recorded_at timestamp with time zone',
    'cleared_at timestamp with time zone']);
SELECT pg_temp.lines_are(
    $$SELECT a.attrelid::regclass || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
      WHERE c.relnamespace = 'job_alerting'::regnamespace AND a.attidentity = 'a' ORDER BY 1$$,
    '{job_alerting.digest.id, job_alerting.failure.id}',
    'ids are always generated');
SELECT pg_temp.lines_are(
    $$SELECT a.attrelid::regclass || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
      WHERE c.relnamespace = 'job_alerting'::regnamespace AND c.relkind = 'r'
        AND a.atttypid = 'text'::regtype AND a.attcollation = 'pg_catalog."C"'::regcollation ORDER BY 1$$,
    ARRAY['job_alerting.digest.channel', 'job_alerting.digest.held', 'job_alerting.digest.state',
          'job_alerting.failure.job_id', 'job_alerting.failure.occurrence', 'job_alerting.failure.queue',
          'job_alerting.installation.arrived_by', 'job_alerting.installation.backup', 'job_alerting.installation.place',
          'job_alerting.queue.name'],
    'identities are compared byte by byte');

--
-- Keys and constraints
--

SELECT col_is_pk('job_alerting', 'queue', 'name', 'the key of a queue is its name');
SELECT col_is_pk('job_alerting', 'failure', 'id', 'the key of a failure is its id');
SELECT col_is_pk('job_alerting', 'digest', 'id', 'the key of a digest is its id');
SELECT col_is_unique('job_alerting', 'failure', ARRAY['queue', 'job_id', 'occurrence']);

SELECT throws_ok($$INSERT INTO job_alerting.queue (name, failure_query, owner) VALUES ('', '', '')$$, '23514',
                 NULL, 'a queue has a name');
SELECT lives_ok($$INSERT INTO job_alerting.failure (queue, job_id, occurrence) VALUES ('q', 'j', 'o')$$, 'a failure can be recorded');
SELECT throws_ok($$INSERT INTO job_alerting.failure (queue, job_id, occurrence) VALUES ('q', 'j', 'o')$$, '23505',
                 NULL, 'each failure is in the ledger once');
SELECT lives_ok($$INSERT INTO job_alerting.failure (queue, job_id, occurrence) VALUES ('q', 'j', 'other')$$,
                'a job may fail again');
SELECT throws_ok($$INSERT INTO job_alerting.digest (channel, first_failure, last_failure, state)
                   VALUES ('log', 1, 2, 'odd')$$, '23514', NULL, 'a digest has no other state');
SELECT throws_ok($$INSERT INTO job_alerting.digest (channel, first_failure, last_failure)
                   VALUES ('log', 2, 1)$$, '23514', NULL, 'a digest covers an ascending range');
SELECT lives_ok($$INSERT INTO job_alerting.digest (channel, first_failure, last_failure)
                  SELECT channel, min(id), max(id)
                  FROM job_alerting.failure, unnest('{log, sendgrid}'::text[]) channel
                  WHERE queue = 'q' GROUP BY channel$$, 'each channel can have an open digest');
SELECT throws_ok($$INSERT INTO job_alerting.digest (channel, first_failure, last_failure)
                   VALUES ('log', 1, 2)$$, '23505', NULL, 'a channel has at most one open digest');
SELECT lives_ok($$INSERT INTO job_alerting.digest (channel, first_failure, last_failure, state)
                  SELECT 'log', 1, 1, state
                  FROM unnest('{accepted, accepted, in_doubt, in_doubt, sending}'::text[]) state$$,
                'a channel can have any number of other digests');
SELECT pg_temp.lines_are(
    $$SELECT concat_ws(' ', v.channel, v.digest_state, v.queue, v.job_id, v.occurrence)
      FROM job_alerting.digest_failure v
      WHERE v.digest_state = 'pending' AND v.queue = 'q' ORDER BY v.channel, v.id$$,
    '{log pending q j o, log pending q j other, sendgrid pending q j o, sendgrid pending q j other}',
    'digest_failure has each digest with its failures');

--
-- Functions
--

SELECT pg_temp.lines_are(
    $$SELECT format('%s(%s) %s', proname, pg_get_function_arguments(oid), pg_get_function_result(oid))
      FROM pg_proc WHERE pronamespace = 'job_alerting'::regnamespace ORDER BY proname$$,
    ARRAY[
      'check(OUT item text, OUT state text, OUT detail text, OUT hint text) SETOF record',
      'preview(OUT subject text, OUT body_text text, OUT body_html text) SETOF record',
      'run_digest(OUT channel text, OUT digest_id bigint, OUT failures bigint, OUT outcome text, OUT detail text) '
        'SETOF record',
      'send_test(OUT channel text, OUT outcome text, OUT detail text) SETOF record',
      'server_state(OUT preloaded boolean, OUT launcher_pid integer, OUT last_round_at timestamp with time zone, '
        'OUT next_round_at timestamp with time zone, OUT round_interval interval, OUT unended_rounds integer, '
        'OUT channels text[], OUT problem text, OUT round_since timestamp with time zone, OUT round_pid integer, '
        'OUT asked_to_end boolean, OUT awaited_database text, OUT awaited_since timestamp with time zone) record',
      'settle(digest_id bigint, arrived boolean) text',
      'unwatch(name text, forget boolean DEFAULT false) boolean',
      'watch(jobs regclass, name text DEFAULT NULL::text, '
        'since timestamp with time zone DEFAULT ''-infinity''::timestamp with time zone) text',
      'watch_query(name text, failure_query text, owner name DEFAULT CURRENT_USER, '
        'since timestamp with time zone DEFAULT ''-infinity''::timestamp with time zone) text'],
    'arguments, their defaults, and results');
SELECT is_empty(
    $$SELECT oid::regprocedure FROM pg_proc
      WHERE pronamespace = 'job_alerting'::regnamespace
        AND (prosecdef OR provolatile <> 'v' OR proleakproof
             OR proparallel <> CASE proname WHEN 'server_state' THEN 'r' ELSE 'u' END)$$,
    'each function runs as its caller, is volatile and never runs in a parallel worker');

--
-- Settings
--

SELECT pg_temp.lines_are(
    $$SELECT concat_ws(' ', name, '=', nullif(boot_val, ''), context) FROM pg_settings
      WHERE name LIKE 'job\_alerting.%' ORDER BY name COLLATE "C"$$,
    ARRAY[
      'job_alerting.ca_file = sighup',
      'job_alerting.channels = log superuser',
      'job_alerting.heartbeat_url_file = sighup',
      'job_alerting.http_timeout = 30s sighup',
      'job_alerting.interval = 1h sighup',
      'job_alerting.job_url = superuser',
      'job_alerting.lock_timeout = 5s sighup',
      'job_alerting.mail_from = superuser',
      'job_alerting.mail_to = superuser',
      'job_alerting.max_listed = 50 superuser',
      'job_alerting.on_in_doubt = resend superuser',
      'job_alerting.proxy = sighup',
      'job_alerting.retention = 90d superuser',
      'job_alerting.scan_timeout = 5min sighup',
      'job_alerting.sendgrid_api_key_file = sighup',
      'job_alerting.sendgrid_url = https://api.sendgrid.com sighup',
      'job_alerting.slack_webhook_url_file = sighup',
      'job_alerting.smtp_credentials_file = sighup',
      'job_alerting.smtp_url = sighup',
      'job_alerting.webhook_format = json superuser',
      'job_alerting.webhook_secret_file = sighup',
      'job_alerting.webhook_url_file = sighup'],
    'every setting with its default and context');
SELECT is_empty(
    $$SELECT name FROM pg_settings WHERE name LIKE 'job\_alerting.%' AND coalesce(short_desc, '') = ''$$,
    'each setting has a description');
SELECT throws_ok($$SET job_alerting.intervall = '1h'$$, '42602', NULL, 'a mistyped name is refused');

--
-- Privileges
--

CREATE TEMP VIEW grants AS
    SELECT 'schema ' || n.nspname AS object, acl.* FROM pg_namespace n,
        aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) acl WHERE n.nspname = 'job_alerting'
    UNION ALL
    SELECT c.oid::regclass::text, acl.* FROM pg_class c,
        LATERAL (SELECT CASE c.relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END) of(kind),
        aclexplode(coalesce(c.relacl, acldefault(of.kind, c.relowner))) acl
    WHERE c.relnamespace = 'job_alerting'::regnamespace AND c.relkind <> 'i'
    UNION ALL
    SELECT 'column ' || a.attrelid::regclass || '.' || a.attname, acl.* FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid,
        aclexplode(a.attacl) acl
    WHERE c.relnamespace = 'job_alerting'::regnamespace
    UNION ALL
    SELECT p.oid::regprocedure::text, acl.* FROM pg_proc p,
        aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) acl
    WHERE p.pronamespace = 'job_alerting'::regnamespace;
SELECT is((SELECT count(DISTINCT object) FROM grants WHERE object NOT LIKE 'column %'),
          (SELECT 1 + (SELECT count(*) FROM pg_class WHERE relnamespace = 'job_alerting'::regnamespace AND relkind <> 'i')
                    + (SELECT count(*) FROM pg_proc WHERE pronamespace = 'job_alerting'::regnamespace)),
          'the view covers all objects');
SELECT is_empty($$SELECT object, privilege_type FROM grants WHERE grantee = 0$$,
                'PUBLIC has no privilege');
SELECT set_eq(
    $$SELECT format('%s: %s on %s', grantee::regrole, privilege_type, object) FROM grants WHERE grantee NOT IN (0, grantor)$$,
    ARRAY['pg_monitor: USAGE on schema job_alerting', 'pg_monitor: SELECT on job_alerting.status',
          'pg_monitor: EXECUTE on job_alerting.server_state()'],
    'besides the owner, only pg_monitor has privileges, which let it read the status');
SELECT is_empty($$SELECT object, grantee::regrole, privilege_type FROM grants WHERE is_grantable$$,
                'no privilege has a grant option');

--
-- Comments
--

SELECT is_empty(
    $$SELECT 'extension' FROM pg_extension
      WHERE extname = 'job_alerting' AND obj_description(oid, 'pg_extension') IS NULL
      UNION ALL SELECT 'schema' WHERE obj_description('job_alerting'::regnamespace, 'pg_namespace') IS NULL$$,
    'the extension and its schema have a comment');
SELECT is_empty(
    $$SELECT c.oid::regclass FROM pg_class c
      WHERE c.relnamespace = 'job_alerting'::regnamespace AND coalesce(obj_description(c.oid, 'pg_class'), '') = ''
        AND NOT EXISTS (SELECT FROM pg_constraint WHERE contype IN ('p', 'u') AND conindid = c.oid)$$,
    'every table, view and sequence, and every index without a constraint, has a comment');
SELECT is_empty(
    $$SELECT a.attrelid::regclass || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
      WHERE c.relnamespace = 'job_alerting'::regnamespace AND c.relkind NOT IN ('i', 'S')
        AND a.attnum > 0 AND NOT a.attisdropped AND coalesce(col_description(a.attrelid, a.attnum), '') = ''$$,
    'every column has a comment');
SELECT is_empty(
    $$SELECT p.oid::regprocedure FROM pg_proc p
      WHERE p.pronamespace = 'job_alerting'::regnamespace AND coalesce(obj_description(p.oid, 'pg_proc'), '') = ''$$,
    'every function has a comment');

--
-- Rows that pg_dump keeps
--

SELECT set_eq(
    $$SELECT unnest(extconfig) FROM pg_extension WHERE extname = 'job_alerting'$$,
    $$SELECT oid FROM pg_class WHERE relnamespace = 'job_alerting'::regnamespace AND relkind IN ('r', 'p', 'S')$$,
    'pg_dump keeps the rows of every table and every sequence');
SELECT is_empty(
    $$SELECT condition FROM pg_extension, unnest(extcondition) condition
      WHERE extname = 'job_alerting' AND condition <> ''$$,
    'pg_dump keeps all rows');

SELECT * FROM finish();
ROLLBACK;
