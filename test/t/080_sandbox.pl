# A failure query is code of another role, run by a superuser's process. Here it is hostile: its owner gains
# nothing by any attack, and the failures of others are reported.

use strict;
use warnings;

use FindBin;
use Test::More;
use Time::HiRes ();

use lib "$FindBin::Bin/../support";
use JobAlerting qw(launcher log_from_now sql);

my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub, conf => <<'CONF');
job_alerting.lock_timeout = 1s
job_alerting.scan_timeout = 500ms
job_alerting.max_listed = 1000
CONF

my $superuser = sql('SELECT current_user');
sql(<<'SQL');
CREATE ROLE mallory LOGIN;
CREATE ROLE innocent LOGIN;
CREATE SCHEMA m AUTHORIZATION mallory;
SQL
JobAlerting::create_jobs_table($node);
sql(<<'SQL');
ALTER TABLE research_jobs OWNER TO innocent;
CREATE EXTENSION job_alerting;
GRANT USAGE ON SCHEMA job_alerting TO mallory;
GRANT EXECUTE ON FUNCTION job_alerting.watch, job_alerting.watch_query, job_alerting.unwatch TO mallory;
SQL
mallory(<<'SQL');
CREATE TABLE m.own AS SELECT 1 AS n;
CREATE SEQUENCE m.seq;
CREATE FUNCTION m.attempt(what text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    value text;
BEGIN
    IF what ~* '^select' THEN
        EXECUTE what INTO value;
        RETURN coalesce('no error: ' || value, 'no error');
    END IF;
    EXECUTE what;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    RETURN 'ERROR: ' || SQLERRM;
END $$;
CREATE TABLE m.attacks (id serial PRIMARY KEY, what text, failed_at timestamptz DEFAULT clock_timestamp());
CREATE PROCEDURE m.commits() LANGUAGE plpgsql AS 'BEGIN INSERT INTO m.own VALUES (2); COMMIT; END';
SQL

my $started = sql('SELECT pg_postmaster_start_time()');
my $before = possessions();

# Runs a statement in a session of the role. Returns its error, in list context also its output. mallory()
# dies of an error.
sub attempt_as {
    my ($role, $statement) = @_;
    local $ENV{PGOPTIONS} = '';
    my ($status, $out, $error) = $node->psql('postgres', $statement, extra_params => [ '-U', $role ], timeout => 60);
    return wantarray ? ($error, $out) : $error;
}

sub mallory {
    my ($statement) = @_;
    my ($error, $out) = attempt_as('mallory', $statement);
    die "$error in $statement" if $error =~ /ERROR|FATAL/;
    return $out;
}

sub quoted {
    my ($text) = @_;
    return q(') . $text =~ s/'/''/gr . q(');
}

sub watch_query {
    my ($name, $query) = @_;
    return mallory('SELECT job_alerting.watch_query(' . quoted($name) . ', ' . quoted($query) . ')');
}

sub unwatch {
    my (@names) = @_;
    mallory("SELECT job_alerting.unwatch('$_', true)") for @names;
    return;
}

sub queue {
    my ($name) = @_;
    my ($queue) = JobAlerting::rows($node, undef, 'SELECT * FROM job_alerting.queue WHERE name = ' . quoted($name));
    return $queue;
}

# Everything that a role could have gained or written.
sub possessions {
    return sql(<<'SQL');
SELECT (SELECT string_agg(format('%s %s %s %s', rolname, rolsuper, rolcreaterole, rolbypassrls), ', ' ORDER BY rolname)
        FROM pg_authid WHERE rolname !~ '^pg_'),
    (SELECT count(*) FROM pg_auth_members WHERE roleid::regrole::text !~ '^pg_'),
    (SELECT count(*) FROM pg_class WHERE relnamespace = 'm'::regnamespace AND relname = 'made'),
    (SELECT count(*) FROM pg_namespace WHERE nspname ~ '^pg_(toast_)?temp'),
    (SELECT count(*) FROM pg_largeobject_metadata), (SELECT string_agg(n::text, ',') FROM m.own),
    (SELECT count(*) FROM pg_db_role_setting), (SELECT count(*) FROM pg_extension),
    (SELECT count(*) FROM pg_database), (SELECT count(*) FROM pg_prepared_xacts),
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid <> 3)
SQL
}

# The innocent role's new failure is reported by this round, or by the next when this one is ended, and so is
# the failure after it. `launcher`: the launcher makes the rounds. `unlisted`: the mail need not list the job.
# `within`: seconds.
sub innocent_is_reported {
    my ($attack, %options) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    for my $round ('', ', in the next round too') {
        my $job = JobAlerting::fail_job($node);
        my $start = Time::HiRes::time();
        my $calls = 0;
        until (is_accepted($job) || $calls == 3) {
            $node->psql('postgres', 'SELECT job_alerting.run_digest()', timeout => 60) if !$options{launcher};
            JobAlerting::poll(sub { is_accepted($job) }, 30, 'the launcher') if $options{launcher};
            $calls++;
        }
        my $seconds = Time::HiRes::time() - $start;
        ok is_accepted($job) && ($options{unlisted} || is_mailed($job)), "$attack: the innocent's mail arrives$round";
        cmp_ok $seconds, '<', $options{within} // 20, "$attack: soon$round";
    }
    return is sql('SELECT pg_postmaster_start_time()'), $started, "$attack: the server did not restart";
}

sub is_accepted {
    my ($job) = @_;
    return sql(<<"SQL") eq 't';
SELECT EXISTS (SELECT FROM job_alerting.digest_failure
    WHERE queue = 'research_jobs' AND job_id = '$job' AND digest_state = 'accepted')
SQL
}

sub is_mailed {
    my ($job) = @_;
    return scalar grep { $_ eq $job } map { JobAlerting::named_jobs($_) } $stub->requests;
}

sub nothing_is_gained {
    my ($attack) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is possessions(), $before, "$attack: nothing is gained";
}

# The errors of a queue in the ledger, by job.
sub met {
    my ($queue) = @_;
    return map { $_->{job_id} => $_->{error} }
      JobAlerting::rows($node, undef, "SELECT job_id, error FROM job_alerting.failure WHERE queue = '$queue'");
}

my $launcher = JobAlerting::poll(sub { launcher() }, 30, 'the launcher');

# Statements, and the pattern of the result of each.
my $denied = qr/^ERROR: (?:permission denied|must be|cannot execute .* in a read-only transaction)/;
my $restricted = qr/^ERROR: cannot .*(?:security-restricted operation|security-definer function)/;
my $read_only = qr/^ERROR: cannot execute .* in a read-only transaction/;
my $any_error = qr/^ERROR: /;
my $harmless = qr/^no error/;
my @attacks = (
    [ 'ALTER ROLE mallory SUPERUSER' => $any_error ],
    [ 'ALTER ROLE mallory CREATEROLE' => $any_error ],
    [ "GRANT $superuser TO mallory" => $any_error ],
    [ 'GRANT pg_read_server_files TO mallory' => $any_error ],
    [ 'CREATE ROLE mallory2 SUPERUSER' => $any_error ],
    [ "SET ROLE $superuser" => $restricted ],
    [ "SET LOCAL ROLE $superuser" => $restricted ],
    [ 'SET ROLE NONE' => $restricted ],
    [ 'RESET ROLE' => $restricted ],
    [ "SELECT set_config('role', '$superuser', false)" => $restricted ],
    [ "SELECT set_config('role', NULL, false)" => $restricted ],
    [ "SET SESSION AUTHORIZATION $superuser" => $restricted ],
    [ 'SET SESSION AUTHORIZATION DEFAULT' => $restricted ],
    [ 'RESET SESSION AUTHORIZATION' => $restricted ],
    [ "SELECT set_config('session_authorization', '$superuser', true)" => $restricted ],
    [ "UPDATE pg_settings SET setting = '$superuser' WHERE name = 'role'" => $any_error ],
    [ 'CREATE TEMP TABLE made ()' => $any_error ],
    [ 'CREATE TEMP VIEW made AS SELECT 1' => $any_error ],
    [ 'CREATE TABLE m.made ()' => $read_only ],
    [ 'CREATE FUNCTION m.made() RETURNS int LANGUAGE sql RETURN 1' => $read_only ],
    [ 'CREATE EXTENSION job_alerting_2' => $any_error ],
    [ 'DROP EXTENSION job_alerting CASCADE' => $any_error ],
    [ 'INSERT INTO m.own VALUES (2)' => $read_only ],
    [ 'UPDATE m.own SET n = 2' => $read_only ],
    [ 'DELETE FROM m.own' => $read_only ],
    [ 'TRUNCATE m.own' => $read_only ],
    [ 'SELECT count(*) FROM (SELECT * FROM m.own FOR UPDATE) o' => $read_only ],
    [ "SELECT nextval('m.seq')" => $read_only ],
    [ "SELECT setval('m.seq', 99)" => $read_only ],
    (map { [ $_ => $denied ] }
          'INSERT INTO job_alerting.failure (queue, job_id, occurrence) VALUES (1, 1, 1)',
        'UPDATE job_alerting.failure SET cleared_at = now()',
        'DELETE FROM job_alerting.failure',
        q(UPDATE job_alerting.digest SET state = 'accepted'),
        'DELETE FROM job_alerting.digest',
        'UPDATE job_alerting.queue SET owner = current_user',
        'DELETE FROM job_alerting.queue',
        'SELECT error FROM job_alerting.failure',
        'SELECT request FROM job_alerting.digest',
        'SELECT failure_query FROM job_alerting.queue',
        'SELECT job_id FROM job_alerting.digest_failure',
        q(SELECT nextval('job_alerting.failure_id_seq')),
        'LOCK TABLE job_alerting.queue',
        'SELECT last_error FROM public.research_jobs',
        'SELECT job_alerting.run_digest()',
        q(SELECT job_alerting.unwatch('research_jobs', true)),
        q(SELECT pg_read_file('PG_VERSION')),
        q(SELECT pg_ls_dir('.')),
        q(SELECT lo_import('/etc/passwd')),
        q(COPY m.own TO PROGRAM 'true'),
        q(COPY m.own FROM '/etc/passwd'),
        'SELECT pg_terminate_backend(pg_backend_pid())',
        'SELECT pg_cancel_backend(pg_backend_pid())',
        "SELECT pg_terminate_backend($launcher)",
        "SELECT pg_cancel_backend($launcher)",
        'SELECT pg_reload_conf()',
        q(SELECT set_config('job_alerting.channels', '', false)),
        q(SELECT set_config('job_alerting.retention', '0', false)),
        q(SELECT set_config('session_replication_role', 'replica', false)),
    ),
    [ 'SELECT job_alerting.watch_query($q$made$q$, $q$SELECT $$1$$ AS job_id, now() AS failed_at$q$)' => $any_error ],
    [ q(SELECT set_config('job_alerting.interval', '7d', false)) => $any_error ],
    [ q(ALTER SYSTEM SET job_alerting.channels = '') => $any_error ],
    [ q(ALTER ROLE mallory SET search_path = m) => $any_error ],
    [ 'COMMIT' => $any_error ],
    [ 'ROLLBACK' => $any_error ],
    [ 'SAVEPOINT s' => $any_error ],
    [ 'CALL m.commits()' => $any_error ],
    [ 'PREPARE TRANSACTION $$made$$' => $any_error ],
    [ 'SET TRANSACTION READ WRITE' => $any_error ],
    [ q(SELECT set_config('transaction_read_only', 'off', true)) => $any_error ],
    [ 'LISTEN hostile' => $restricted ],
    [ 'PREPARE made AS SELECT 1' => $restricted ],
    [ 'DECLARE made CURSOR WITH HOLD FOR SELECT 1' => $any_error ],
    # These are allowed, and rolled back with the sandbox.
    [ 'NOTIFY hostile' => $harmless ],
    [ q(SELECT pg_notify('hostile', 'hello')) => $harmless ],
    [ 'SELECT lo_create(0)' => qr/^(?:no error|ERROR: cannot)/ ],
    [ 'SELECT pg_try_advisory_lock(1)' => $harmless ],
    [ 'SELECT pg_advisory_lock(1, 2)' => $harmless ],
    [ 'SELECT current_user' => qr/^no error: mallory$/ ],
    [ q(SELECT current_setting('is_superuser')) => qr/^no error: / ],
    [ q(SELECT current_setting('search_path')) => qr/^no error: pg_catalog, pg_temp$/ ],
    [ q(SELECT current_setting('transaction_read_only')) => qr/^no error: on$/ ],
    (map { [ "SELECT set_config('$_->[0]', '$_->[1]', false)" => $harmless ] }
          [ search_path => 'm, pg_catalog' ], [ lock_timeout => 0 ], [ statement_timeout => 1 ],
        [ idle_in_transaction_session_timeout => 1 ],
        [ DateStyle => 'SQL, DMY' ], [ TimeZone => 'Asia/Tokyo' ], [ IntervalStyle => 'iso_8601' ],
        $JobAlerting::Server::HAS_BACKSLASH_STRINGS ? [ standard_conforming_strings => 'off' ] : (), [ row_security => 'off' ], [ client_encoding => 'LATIN1' ],
        [ work_mem => '64kB' ], [ default_transaction_read_only => 'on' ], [ transform_null_equals => 'on' ],
        [ bytea_output => 'escape' ], [ synchronous_commit => 'off' ]),
    # From 17 on it would end the process, and the round of all queues with it.
    [ q(SELECT set_config('transaction_timeout', '1', false)) => qr/permission denied to set parameter|unrecognized configuration parameter/ ],
    [ 'RESET ALL' => $harmless ],
);

# Watches a query that reports the settings of its scan.
sub watch_surroundings {
    my ($name) = @_;
    my @settings = qw(search_path lock_timeout statement_timeout idle_in_transaction_session_timeout DateStyle TimeZone
      IntervalStyle standard_conforming_strings row_security client_encoding work_mem
      default_transaction_read_only transform_null_equals bytea_output synchronous_commit job_alerting.channels
      transaction_read_only);
    my $values = join q( || '; ' || ), map { "current_setting('$_')" } @settings;
    my $query = "SELECT n::text AS job_id, NULL::timestamptz AS failed_at, $values || current_user AS error"
      . ' FROM public.surroundings';
    sql('SELECT job_alerting.watch_query(' . quoted($name) . ', ' . quoted($query) . ", owner => 'innocent')");
    return;
}

subtest 'no attack of a failure query succeeds, and nothing leaks into the round or other queues' => sub {
    sql('CREATE TABLE surroundings AS SELECT 1 AS n; ALTER TABLE surroundings OWNER TO innocent');
    watch_surroundings('zz surroundings');
    innocent_is_reported('before any attack');
    my %normal = met('zz surroundings');
    my $listener = $node->background_psql('postgres', on_error_stop => 1);
    $listener->query_safe('LISTEN hostile');
    # The trial of watch_query() must find no attacks: some would end her own session.
    watch_query('aa hostile',
        'SELECT id::text AS job_id, failed_at, m.attempt(what) AS error FROM m.attacks ORDER BY id');
    mallory(join '; ', map { 'INSERT INTO m.attacks (what) VALUES (' . quoted($_->[0]) . ')' } @attacks);
    sql('UPDATE surroundings SET n = 2');
    innocent_is_reported('every statement');
    my %met = met('aa hostile');
    for my $i (0 .. $#attacks) {
        my ($what, $expected) = @{ $attacks[$i] };
        like $met{ $i + 1 } // 'not recorded', $expected, $what;
    }
    my %now = met('zz surroundings');
    is $now{2}, $normal{1}, 'another queue is scanned under the same settings as before';
    unlike $listener->query_safe('SELECT 1'), qr/Asynchronous notification/, 'no notification arrives';
    $listener->quit;
    is sql('SELECT last_value, is_called FROM m.seq'), '1|f', 'her sequence is unchanged';
    nothing_is_gained('every statement');
    is queue('aa hostile')->{last_error}, undef, 'her queue was read to its end';
    unwatch('aa hostile');
};

# The ways for her code into a plain query.
my %doors = (
    view => 'CREATE VIEW m.door AS SELECT m.report() AS error',
    domain => <<'SQL',
CREATE DOMAIN m.checked AS text CHECK (m.refused());
CREATE VIEW m.door AS SELECT n::text::m.checked::text || m.report() AS error FROM m.own
SQL
    'row-level security' => <<'SQL',
CREATE TABLE m.door AS SELECT 'all refused'::text AS error;
ALTER TABLE m.door ENABLE ROW LEVEL SECURITY;
ALTER TABLE m.door FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON m.door USING (m.refused())
SQL
    'default of an argument' => <<'SQL',
CREATE FUNCTION m.defaulted(x text DEFAULT m.report()) RETURNS text LANGUAGE sql AS 'SELECT x';
CREATE VIEW m.door AS SELECT m.defaulted() AS error
SQL
    aggregate => <<'SQL',
CREATE FUNCTION m.step(text, int) RETURNS text LANGUAGE sql AS 'SELECT m.report()';
CREATE AGGREGATE m.agg(int) (sfunc = m.step, stype = text);
CREATE VIEW m.door AS SELECT m.agg(n) AS error FROM m.own
SQL
    operator => <<'SQL',
CREATE TYPE m.thing AS (n int);
CREATE FUNCTION m.equal(m.thing, m.thing) RETURNS boolean LANGUAGE sql AS 'SELECT m.refused()';
CREATE OPERATOR m.= (leftarg = m.thing, rightarg = m.thing, function = m.equal);
CREATE VIEW m.door AS SELECT 'all refused'::text AS error WHERE ROW(1)::m.thing OPERATOR(m.=) ROW(2)::m.thing
SQL
    'security definer' => <<'SQL',
CREATE FUNCTION m.definer() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = m AS 'SELECT m.report()';
CREATE VIEW m.door AS SELECT m.definer() AS error
SQL
    'folded while planning' => <<'SQL',
CREATE FUNCTION m.folded() RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN m.report(); END';
CREATE VIEW m.door AS SELECT m.folded() AS error
SQL
    'collation of the sort' => <<'SQL',
CREATE VIEW m.door AS SELECT 'all refused'::text AS error FROM m.own ORDER BY m.report(), n
SQL
);

subtest 'her code gains nothing by any way into a query' => sub {
    mallory(<<"SQL");
CREATE FUNCTION m.report() RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE
    met text;
    what text;
BEGIN
    FOREACH what IN ARRAY ARRAY['ALTER ROLE mallory SUPERUSER', 'SET ROLE $superuser', 'RESET SESSION AUTHORIZATION',
            'INSERT INTO m.own VALUES (2)', 'CREATE TEMP TABLE made ()', 'SELECT error FROM job_alerting.failure',
            'DELETE FROM job_alerting.queue', 'SELECT pg_read_file(''PG_VERSION'')'] LOOP
        met := m.attempt(what);
        IF met NOT LIKE 'ERROR%' THEN
            RETURN what || ': ' || met;
        END IF;
    END LOOP;
    RETURN CASE current_user WHEN 'mallory' THEN 'all refused' ELSE 'run as ' || current_user END;
END \$\$;
CREATE FUNCTION m.refused() RETURNS boolean LANGUAGE sql AS 'SELECT m.report() = ''all refused''';
SQL
    for my $door (sort keys %doors) {
        mallory($doors{$door});
        watch_query('aa door', q(SELECT 'j' AS job_id, '2026-01-01'::timestamptz AS failed_at, error FROM m.door));
        JobAlerting::run_digest($node);
        my %met = met('aa door');
        like $met{j}, qr/all refused$/, "by $door";
        nothing_is_gained("by $door");
        unwatch('aa door');
        my $kind = $door eq 'row-level security' ? 'TABLE' : 'VIEW';
        mallory("DROP $kind m.door");
    }
    innocent_is_reported('after all doors');
};

subtest 'her cast runs with her rights, in watch() and in every round, for any caller' => sub {
    mallory(<<'SQL');
CREATE TYPE m.color AS ENUM ('dead', 'failed', 'queued');
CREATE TYPE m.pair AS (n int);
CREATE FUNCTION m.color_text(m.color) RETURNS text LANGUAGE plpgsql AS
    'BEGIN RETURN CASE WHEN m.report() = ''all refused'' THEN ''dead'' ELSE ''failed'' END; END';
CREATE CAST (m.color AS text) WITH FUNCTION m.color_text(m.color);
CREATE FUNCTION m.pair_text(m.pair) RETURNS text LANGUAGE sql AS 'SELECT m.report()';
CREATE CAST (m.pair AS text) WITH FUNCTION m.pair_text(m.pair);
CREATE FUNCTION m.text_equal(text, text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN m.report() IS NULL; END';
CREATE OPERATOR m.= (leftarg = text, rightarg = text, function = m.text_equal);
CREATE FUNCTION m.length(text) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN m.report()::int; END';
CREATE TABLE m.cast_jobs (id serial PRIMARY KEY, status m.color, attempts int, max_attempts int, finished_at timestamptz,
    last_error text, source m.pair);
INSERT INTO m.cast_jobs (status, finished_at, source) VALUES ('dead', now(), ROW(1));
SQL
    sql('ALTER ROLE mallory SET search_path = m, pg_catalog; ALTER DATABASE postgres SET search_path = m, pg_catalog');
    # The test's own sessions must not use these settings.
    local $ENV{PGOPTIONS} = '-c search_path=pg_catalog,public';
    is sql(q(SELECT job_alerting.watch('m.cast_jobs', 'aa superuser'))), 'aa superuser', 'called by a superuser';
    is mallory(q(SELECT job_alerting.watch('m.cast_jobs', 'aa cast'))), 'aa cast', 'called by herself';
    is queue('aa superuser')->{owner}, 'mallory', 'the query is the table owner\'s, not the caller\'s';
    innocent_is_reported('a cast');
    is sql(<<'SQL'), "aa cast|dead|all refused\naa superuser|dead|all refused", 'her casts ran, and were refused everything';
SELECT queue, status, source FROM job_alerting.failure WHERE queue ~ '^aa' ORDER BY 1
SQL
    unwatch('aa cast', 'aa superuser');
    sql('ALTER ROLE mallory RESET search_path; ALTER DATABASE postgres RESET search_path');
    nothing_is_gained('a cast');
};

subtest 'a scan that changes the meaning of its own query ends, and the server goes on' => sub {
    # The input of a domain runs her function while the query is parsed: first for its columns, then for its
    # execution, when names in the query already have another meaning.
    mallory(<<'SQL');
CREATE TABLE m.turns (armed boolean);
CREATE FUNCTION m.turn(int) RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN IF EXISTS (SELECT FROM m.turns) THEN PERFORM set_config('search_path', 'm, pg_catalog', false); END IF;
        RETURN true; END $$;
CREATE DOMAIN m.turning AS int CHECK (m.turn(VALUE));
CREATE TYPE m.turned AS (n m.turning);
CREATE FUNCTION m.left(text, int) RETURNS lseg LANGUAGE sql
    AS $$ SELECT '[(1e-150,1e200),(7e77,8e88)]'::lseg $$;
CREATE FUNCTION m.upper(text) RETURNS bytea LANGUAGE sql AS $$ SELECT '\xffff'::bytea $$;
CREATE FUNCTION m.octet_length(text) RETURNS int LANGUAGE sql AS $$ SELECT 0 $$;
DROP FUNCTION m.length(text);
SQL
    my %query = (
        'a function of ours replaced by hers' => q('j' AS job_id, '2026-01-01'::timestamptz AS failed_at, 'hello' AS status),
        'a column of another type' => q('j' AS job_id, '2026-01-01'::timestamptz AS failed_at, upper('j') AS occurrence),
    );
    for my $attack (sort keys %query) {
        watch_query('aa turn', "SELECT $query{$attack} WHERE '(1)'::m.turned IS NOT NULL");
        mallory('INSERT INTO m.turns VALUES (true)');
        my $logged = log_from_now();
        innocent_is_reported($attack);
        # An optional column is left out, which is logged.
        like queue('aa turn')->{last_error} // $logged->(), qr/does not exist|of another type than declared/, "$attack: refused";
        mallory('DELETE FROM m.turns');
        unwatch('aa turn');
    }
    mallory('DROP FUNCTION m.left, m.upper, m.octet_length; DROP TYPE m.turned; DROP DOMAIN m.turning; DROP TABLE m.turns');
    nothing_is_gained('changed meanings');
};

subtest 'a query with another meaning in a round than in her session is refused' => sub {
    my $query = q(SELECT 'a\' INTO m.made --' AS job_id, now() AS failed_at);
    if ($JobAlerting::Server::HAS_BACKSLASH_STRINGS) {
        my $error = attempt_as('mallory', 'SET escape_string_warning = off; SET standard_conforming_strings = off;'
              . " SELECT job_alerting.watch_query('aa strings', \$q\$$query\$q\$)");
        like $error, qr/ERROR/, 'by watch_query()';
    }
    # A dump from another server could have such a row.
    sql("INSERT INTO job_alerting.queue (name, failure_query, owner) VALUES ('aa strings', \$q\$$query\$q\$, 'mallory')");
    innocent_is_reported('a query that is no SELECT');
    like queue('aa strings')->{last_error}, qr/not a single plain SELECT/, 'by a round';
    unwatch('aa strings');
    nothing_is_gained('a query that is no SELECT');
};

subtest 'writes in spite of the read-only transaction are rolled back' => sub {
    mallory(<<'SQL');
CREATE FUNCTION m.unlock(what text) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN
        PERFORM m.attempt('RESET transaction_read_only');
        PERFORM m.attempt('SELECT set_config($q$transaction_read_only$q$, NULL, true)');
        RETURN m.attempt(what);
    END $$;
DELETE FROM m.attacks;
INSERT INTO m.attacks (what) VALUES ('INSERT INTO m.own VALUES (2)'), ('DELETE FROM m.own'), ('CREATE TABLE m.made ()'),
    ('CREATE TEMP TABLE made ()'), ('ALTER ROLE mallory SUPERUSER'), ('NOTIFY hostile'),
    ('SELECT job_alerting.watch_query($q$made$q$, $q$SELECT $$1$$ AS job_id, now() AS failed_at$q$)'),
    ('SELECT job_alerting.unwatch($$aa unlocked$$)'), ('SELECT job_alerting.unwatch($$research_jobs$$)'),
    ('SELECT job_alerting.run_digest()'), ('ALTER TABLE m.attacks OWNER TO postgres'),
    ('ALTER FUNCTION m.attempt(text) DEPENDS ON EXTENSION job_alerting');
SQL
    watch_query('aa unlocked', 'SELECT id::text AS job_id, failed_at, m.unlock(what) AS error FROM m.attacks');
    innocent_is_reported('writes');
    nothing_is_gained('writes');
    is sql(q(SELECT string_agg(name, ',' ORDER BY name) FROM job_alerting.queue)),
      'aa unlocked,research_jobs,zz surroundings', 'no queue was added or removed';
    is queue('research_jobs')->{owner}, 'innocent', 'the owner of the queue is unchanged';
    is scalar(met('aa unlocked')), 2 * sql('SELECT count(*) FROM m.attacks'), 'each statement was tried';
    unwatch('aa unlocked');
};

subtest "she cannot release the round's lock" => sub {
    watch_query('aa unlock', q(SELECT pg_advisory_unlock_all()::text || 'j' AS job_id, now() AS failed_at));
    innocent_is_reported('pg_advisory_unlock_all()');
    is queue('aa unlock')->{last_error}, undef, 'the call has no effect, and her queue is read';
    # A waiting round by hand must get the lock at the end of the round, not in the middle.
    mallory('CREATE TABLE m.gate ()');
    mallory(q(CREATE OR REPLACE FUNCTION m.unlock_and_wait() RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_advisory_unlock_all(); PERFORM pg_sleep(0.3); RETURN 'j'; END $$));
    watch_query('aa unlock', q(SELECT m.unlock_and_wait() AS job_id, now() AS failed_at));
    JobAlerting::configure($node, scan_timeout => '10s');
    my @rounds = map { JobAlerting::begin_digest($node) } 1 .. 2;
    my $both = q(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 3 AND granted);
    my $most = 0;
    JobAlerting::poll(sub {
        my $holders = sql($both);
        $most = $holders if $holders > $most;
        return !sql(q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'job_alerting worker'));
    }, 30, 'the end of both rounds');
    is_deeply [ map { $_->error } @rounds ], [ '', '' ], 'two rounds at once succeed, one after the other';
    is $most, 1, 'they never held the lock both';
    JobAlerting::configure($node, scan_timeout => '500ms');
    unwatch('aa unlock');
};

subtest 'her session advisory locks are released, and the log names her queue' => sub {
    mallory(q(CREATE FUNCTION m.lock_many(many int) RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_advisory_lock(n) FROM generate_series(1, many) n; RETURN 'j'; END $$));
    JobAlerting::configure($node, scan_timeout => '30s');
    my $few = q(SELECT m.lock_many(10) AS job_id, now() AS failed_at);
    like attempt_as('mallory', "SELECT job_alerting.watch_query('aa few locks', \$q\$$few\$q\$)"),
      qr/WARNING:  the failure query of queue "aa few locks" left 10 session-level advisory locks, which were released/,
      'the locks of the trial are released, too';
    my $logged = log_from_now();
    innocent_is_reported('ten locks');
    like $logged->(), qr/WARNING:  the failure query of queue "aa few locks" left 10 session-level advisory locks/, 'the log names the queue';
    is queue('aa few locks')->{last_error}, undef, 'her queue is read';
    unwatch('aa few locks');
    mallory('CREATE VIEW m.many_locks AS SELECT 1 AS many');
    watch_query('aa many locks', q(SELECT m.lock_many(many) AS job_id, now() AS failed_at FROM m.many_locks));
    mallory('CREATE OR REPLACE VIEW m.many_locks AS SELECT 1000000 AS many');
    my $job = JobAlerting::fail_job($node);
    my ($row) = JobAlerting::run_digest($node);
    is $row->{outcome}, 'accepted', 'a million locks: the same round reports the failures of others';
    ok is_mailed($job), "the innocent's mail has arrived";
    innocent_is_reported('a million locks');
    like queue('aa many locks')->{last_error}, qr/out of shared memory/, 'her queue is broken, and says why';
    is queue('research_jobs')->{last_error}, undef, "the innocent role's queue is not broken";
    like $logged->(), qr/WARNING:  the failure query of queue "aa many locks" left \d+ session-level advisory locks/, 'the log names the queue';
    unwatch('aa many locks');
    JobAlerting::configure($node, scan_timeout => '500ms');
    nothing_is_gained('advisory locks');
};

subtest 'of many messages only the first is logged' => sub {
    mallory(q(CREATE FUNCTION m.chatter(level text, lines int) RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN
            FOR i IN 1 .. lines LOOP
                CASE level WHEN 'log' THEN RAISE LOG 'chatter % %', i, repeat('x', 1000);
                ELSE RAISE WARNING 'chatter % %', i, repeat('x', 1000) USING DETAIL = repeat('d', 5000); END CASE;
            END LOOP;
            RETURN 'j';
        END $$));
    mallory('CREATE VIEW m.chatters AS SELECT 1 AS lines');
    watch_query('aa chatter', q(SELECT m.chatter(level, lines) AS job_id, now() AS failed_at
        FROM m.chatters, unnest(ARRAY['log', 'warning']) level));
    JobAlerting::configure($node, scan_timeout => '30s');
    mallory('CREATE OR REPLACE VIEW m.chatters AS SELECT 10000 AS lines');
    my $logged = log_from_now();
    JobAlerting::run_digest($node);
    my $log = $logged->();
    my @lines = $log =~ /(?:LOG|WARNING):  chatter/g;
    is scalar @lines, 1, 'the first message';
    like $log, qr/WARNING:  the failure query of queue "aa chatter" raised \d+ more messages, which are not logged/,
      'the number of the others is logged';
    cmp_ok length $log, '<', 100_000, 'nothing else is logged';
    is queue('aa chatter')->{last_error}, undef, 'her queue is read';
    my $trial = attempt_as('mallory', q(SELECT job_alerting.watch_query('aa chatter 2',
        'SELECT m.chatter(''warning'', 3) AS job_id, now() AS failed_at')));
    like $trial, qr/WARNING:  chatter 1 .*WARNING:  chatter 3 /s, 'her own session gets all messages of her query';
    unwatch('aa chatter', 'aa chatter 2');
    JobAlerting::configure($node, scan_timeout => '500ms');
};

subtest 'a query that exceeds its limit is reported after two rounds' => sub {
    mallory('CREATE VIEW m.slow AS SELECT false AS slow');
    watch_query('aa sleep', q(SELECT 'j' AS job_id, now() AS failed_at FROM m.slow WHERE slow));
    mallory('CREATE OR REPLACE VIEW m.slow AS SELECT pg_sleep(60) IS NOT NULL AS slow');
    innocent_is_reported('sleep');
    my $queue = queue('aa sleep');
    like $queue->{last_error}, qr/longer than job_alerting\.scan_timeout \(500 ms\)/, 'the queue says why';
    ok $queue->{broken_since}, 'broken_since is set';
    is sql(q(SELECT count(*) FROM job_alerting.failure WHERE queue = 'aa sleep' AND status = 'unreadable')), 1, 'the queue is reported';
    unwatch('aa sleep');
};

# Watches a query that, once armed, ends only with its process.
sub watch_endless {
    my ($name, $swallowed) = @_;
    mallory(<<"SQL");
CREATE TABLE IF NOT EXISTS m.armed (armed boolean);
CREATE OR REPLACE FUNCTION m.endless_$swallowed() RETURNS boolean LANGUAGE plpgsql AS \$\$
BEGIN
    LOOP
        -- Twice, for what comes between two turns of the inner loop.
        BEGIN
            LOOP
                BEGIN
                    IF NOT EXISTS (SELECT FROM m.armed) THEN
                        RETURN false;
                    END IF;
                    PERFORM pg_sleep(0.01);
                    PERFORM count(*) FROM generate_series(1, 10000);
                EXCEPTION WHEN $swallowed OR OTHERS THEN
                    NULL;
                END;
            END LOOP;
        EXCEPTION WHEN $swallowed OR OTHERS THEN
            NULL;
        END;
    END LOOP;
END \$\$;
SQL
    watch_query($name, "SELECT 'j' AS job_id, now() AS failed_at WHERE m.endless_$swallowed()");
    mallory('INSERT INTO m.armed VALUES (true)');
    return;
}

subtest 'a query that never ends is ended, tried last, reported after two such scans, and skipped for a while' => sub {
    watch_endless('aa endless', 'query_canceled');
    my $job = JobAlerting::fail_job($node);
    my ($status, $out, $error) = $node->psql('postgres', 'SELECT job_alerting.run_digest()');
    like $error, qr/the round was terminated before it finished/, 'the first such round is ended';
    innocent_is_reported('an endless query');
    ok is_mailed($job), 'the failure that the ended round had recorded is reported, too';
    my $queue = queue('aa endless');
    like $queue->{last_error}, qr/never ended/, 'the queue says why';
    ok $queue->{broken_since}, 'broken_since is set';
    my $told = sub { sql(q(SELECT count(*) FROM job_alerting.failure WHERE queue = 'aa endless' AND status = 'unreadable')) };
    is $told->(), 1, 'the queue is reported once';
    my $scanned = $queue->{scan_started_at};
    my ($row) = JobAlerting::run_digest($node);
    like $row->{detail}, qr/queue aa endless is skipped/, 'it is not tried again at once';
    is queue('aa endless')->{scan_started_at}, $scanned, 'it is not scanned, not even by hand';
    is $told->(), 1, 'it is not reported again';
};

subtest 'a query that never ends, under the launcher' => sub {
    mallory('DELETE FROM m.armed');
    unwatch('aa endless');
    watch_endless('aa endless', 'query_canceled');
    JobAlerting::configure($node, interval => '1s');
    innocent_is_reported('an endless query under the launcher', launcher => 1) for 1 .. 2;
    JobAlerting::poll(sub { (queue('aa endless')->{last_error} // '') =~ /never ended/ }, 30, 'the end of its scan');
    pass 'the endless query was scanned';
    mallory('DELETE FROM m.armed');
    JobAlerting::poll(sub { !defined queue('aa endless')->{last_error} }, 60, 'the queue to be read again');
    pass 'repaired, it is read again';
    JobAlerting::configure($node, interval => '1h');
    is launcher(), $launcher, 'the launcher lives on';
    unwatch('aa endless');
    nothing_is_gained('endless queries');
};

# Watches an endless query again and again, under its old name and under new ones, so that its rows have no
# mark of earlier scans.
sub start_watching_anew {
    mallory(<<'SQL');
CREATE OR REPLACE FUNCTION m.endless() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('application_name') = 'anew' THEN
        RETURN false;
    END IF;
    LOOP
        BEGIN
            PERFORM pg_sleep(0.01);
        EXCEPTION WHEN query_canceled THEN
            NULL;
        END;
    END LOOP;
END $$;
SQL
    my $call = JobAlerting::Call->start($node, undef, 'SET ROLE mallory', "SET application_name = 'anew'", <<'SQL');
        DO $$
        DECLARE
            query text := $q$SELECT 'j' AS job_id, now() AS failed_at WHERE m.endless()$q$;
            round int := 0;
        BEGIN
            LOOP
                PERFORM job_alerting.watch_query('aa anew', query);
                PERFORM job_alerting.unwatch('aa anew ' || round);
                round := round + 1;
                PERFORM job_alerting.watch_query('aa anew ' || round, query);
                COMMIT;
                PERFORM pg_sleep(0.1);
            END LOOP;
        END $$
SQL
    JobAlerting::poll(sub { queue('aa anew') }, 10, 'her first queue');
    return $call;
}

subtest 'an endless query that is watched anew before each round is not tried earlier' => sub {
    my $call = start_watching_anew();
    innocent_is_reported('watched anew');
    JobAlerting::configure($node, interval => '1s');
    innocent_is_reported('watched anew, under the launcher', launcher => 1) for 1 .. 2;
    # A waiting digest without later failures is no sign of an interrupted round.
    for my $answer ('close-after-read', '401') {
        $stub->modes($answer, '202');
        innocent_is_reported("watched anew, first answered $answer", launcher => 1);
    }
    JobAlerting::configure($node, interval => '1h');
    sql(q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'anew'));
    $call->finish;
    sql(q(SELECT job_alerting.unwatch(name, true) FROM job_alerting.queue WHERE name LIKE 'aa anew%'));
    nothing_is_gained('watched anew');
};

subtest 'huge results are clipped' => sub {
    JobAlerting::configure($node, scan_timeout => '1h');
    watch_query('aa many', <<'SQL');
SELECT n::text AS job_id, '2026-01-01'::timestamptz AS failed_at, repeat(rpad(n::text, 1000, ' word'), 100) AS error,
    'type ' || n AS job_type
FROM generate_series(1, 50000) n
SQL
    innocent_is_reported('50,000 rows of 100 kB', unlisted => 1, within => 60); # the machine makes 5 GB of text
    is sql(q(SELECT count(*), max(length(error)) FROM job_alerting.failure WHERE queue = 'aa many')), '50000|4000',
      'all recorded, all clipped';
    unwatch('aa many');
    watch_query('aa long', q(SELECT 'j' AS job_id, now() AS failed_at, repeat('x', 5000000) AS error,
        repeat('s', 5000000) AS source, repeat('c', 5000000) AS chain));
    innocent_is_reported('5 MB in a row');
    is sql(q(SELECT max(length(error)), max(length(source)), max(length(chain))
        FROM job_alerting.failure WHERE queue = 'aa long')), '4000|1000|1000', 'clipped';
    unwatch('aa long');
    mallory(q(CREATE FUNCTION m.shout() RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN IF EXISTS (SELECT FROM m.armed) THEN RAISE '%', repeat('x', 5000000); END IF; RETURN 'j'; END $$));
    watch_query('aa loud', q(SELECT m.shout() AS job_id, now() AS failed_at));
    mallory('INSERT INTO m.armed VALUES (true)');
    innocent_is_reported('an error of 5 MB');
    cmp_ok length(queue('aa loud')->{last_error}), '<=', 4000, 'clipped';
    my ($longest) = sort { $b <=> $a } map { length } split /\n/, PostgreSQL::Test::Utils::slurp_file($node->logfile);
    cmp_ok $longest, '<', 10_000, 'no line of the log is longer';
    mallory('DELETE FROM m.armed');
    unwatch('aa loud');
    JobAlerting::configure($node, scan_timeout => '500ms');
};

subtest 'a table that is replaced or altered after watch() breaks only its own queue' => sub {
    my $create = q(CREATE TABLE m.jobs (id serial PRIMARY KEY, status text, attempts int, max_attempts int,
        finished_at timestamptz, last_error text));
    my %changes = (
        'swapped for a view' => 'DROP TABLE m.jobs; CREATE VIEW m.jobs AS SELECT 1 AS id, '
          . q('dead' AS status, 1 AS attempts, 1 AS max_attempts, now() AS finished_at, m.report() AS last_error),
        'error of another type' => q(ALTER TABLE m.jobs ALTER last_error TYPE bytea USING NULL),
        'attempts of another type' => q(ALTER TABLE m.jobs ALTER attempts TYPE text),
        'time of another type' => q(ALTER TABLE m.jobs ALTER finished_at TYPE text),
        'status of another type' => q(ALTER TABLE m.jobs ALTER status TYPE m.pair USING ROW(1)::m.pair),
        'dropped' => 'DROP TABLE m.jobs',
    );
    for my $change (sort keys %changes) {
        mallory("$create; INSERT INTO m.jobs (status, finished_at) VALUES ('dead', now())");
        mallory(q(SELECT job_alerting.watch('m.jobs', 'aa jobs')));
        mallory($changes{$change});
        innocent_is_reported($change);
        my $queue = queue('aa jobs');
        if ($change =~ /view/) {
            my %met = met('aa jobs');
            is $met{1}, 'all refused', "$change: its code is refused everything";
        }
        ok $queue->{last_error} || $change =~ /view|error|attempts/, "$change: broken where it cannot be read";
        unwatch('aa jobs');
        mallory($change =~ /view/ ? 'DROP VIEW m.jobs' : 'DROP TABLE IF EXISTS m.jobs');
    }
    nothing_is_gained('a swapped table');
};

subtest 'only members of its owner can change a queue' => sub {
    mallory(q(CREATE TABLE m.jobs (id serial PRIMARY KEY, status text, attempts int, max_attempts int,
        finished_at timestamptz)));
    my $query = q($q$SELECT '1' AS job_id, now() AS failed_at$q$);
    my %refused = (
        "watch('public.research_jobs')" => qr/must be owner of table research_jobs/,
        "watch('public.research_jobs', 'aa other')" => qr/must be owner of table research_jobs/,
        "watch('m.jobs', 'research_jobs')" => qr/permission denied for queue "research_jobs"/,
        "watch_query('research_jobs', $query)" => qr/permission denied for queue "research_jobs"/,
        "watch_query('aa other', $query, owner => 'innocent')" => qr/only a superuser may name another role/,
        "watch_query('aa other', $query, owner => '$superuser')" => qr/only a superuser may name another role/,
        "unwatch('research_jobs')" => qr/permission denied for queue "research_jobs"/,
        "unwatch('research_jobs', forget => true)" => qr/permission denied for queue "research_jobs"/,
        'run_digest()' => qr/permission denied for function/,
    );
    for my $call (sort keys %refused) {
        like attempt_as('mallory', "SELECT job_alerting.$call"), $refused{$call}, $call;
    }
    for my $statement (
        (map { "SELECT * FROM job_alerting.$_" } qw(queue failure digest digest_failure failure_id_seq)),
        'INSERT INTO job_alerting.queue (name, failure_query, owner) VALUES (1, 2, 3)',
        'TRUNCATE job_alerting.failure', 'DELETE FROM job_alerting.digest',
        'CREATE TABLE job_alerting.mine ()', 'BEGIN; LOCK TABLE job_alerting.queue IN ACCESS SHARE MODE',
        'ALTER FUNCTION job_alerting.watch OWNER TO mallory', 'DROP EXTENSION job_alerting',
        'CREATE TABLE m.child () INHERITS (job_alerting.queue)',
        'CREATE TRIGGER t AFTER INSERT ON job_alerting.queue FOR EACH ROW EXECUTE FUNCTION m.report()',
        ) {
        like attempt_as('mallory', $statement), qr/ERROR:  (?:permission denied|must be owner)/, $statement;
    }
    is attempt_as('mallory', q(GRANT mallory TO innocent)) =~ /ERROR/ ? 'refused' : '', 'refused',
      'she cannot grant membership';
    sql('GRANT innocent TO mallory');
    is mallory(q(SELECT job_alerting.watch('public.research_jobs', 'aa member'))), 'aa member', 'a member may watch';
    is queue('aa member')->{owner}, 'innocent', 'the query runs as the owner';
    is mallory(q(SELECT job_alerting.unwatch('aa member', true))), 't', 'a member may unwatch';
    # From PostgreSQL 16 on, the grant keeps the attribute of its time.
    sql('REVOKE innocent FROM mallory; ALTER ROLE mallory NOINHERIT; GRANT innocent TO mallory');
    like attempt_as('mallory', q(SELECT job_alerting.unwatch('research_jobs'))), qr/permission denied for queue/,
      'a member that does not inherit may not';
    sql('ALTER ROLE mallory INHERIT; REVOKE innocent FROM mallory');
    for my $call ("watch('public.research_jobs')", "watch_query('q', $query)", q(unwatch('research_jobs')), 'run_digest()') {
        like attempt_as('innocent', "SELECT job_alerting.$call"), qr/permission denied for schema job_alerting/,
          "without any grant: $call";
    }
    sql('GRANT USAGE ON SCHEMA job_alerting TO innocent');
    like attempt_as('innocent', q(SELECT job_alerting.unwatch('research_jobs'))), qr/permission denied for function/,
      'with USAGE alone';
    sql('REVOKE USAGE ON SCHEMA job_alerting FROM innocent');
    is queue('research_jobs')->{owner}, 'innocent', 'the innocent queue is unchanged';
    mallory('DROP TABLE m.jobs');
    innocent_is_reported('all refused calls');
    nothing_is_gained('refused calls');
};

subtest 'a name that another role takes meanwhile is not overwritten' => sub {
    my $gate = $node->background_psql('postgres', on_error_stop => 1);
    $gate->query_safe('SELECT pg_advisory_lock(77)');
    mallory(q(CREATE FUNCTION m.wait() RETURNS text LANGUAGE sql AS
        $$ SELECT pg_advisory_lock(77); SELECT 'j'::text $$));
    my $call = JobAlerting::Call->start($node, undef, 'SET ROLE mallory',
        q(SELECT job_alerting.watch_query('aa race', 'SELECT m.wait() AS job_id, now() AS failed_at')));
    JobAlerting::poll(sub { sql(q(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)) }, 30,
        'her query to wait');
    sql(q(SELECT job_alerting.watch('public.research_jobs', 'aa race')));
    $gate->query_safe('SELECT pg_advisory_unlock(77)');
    $gate->quit;
    like $call->error, qr/ERROR/, 'her call is refused';
    is queue('aa race')->{owner}, 'innocent', 'the queue belongs to the other role';
    sql(q(SELECT job_alerting.unwatch('aa race', true)));
};

subtest 'her open transaction holds up no round' => sub {
    my $held = JobAlerting::Call->start($node, undef, 'SET ROLE mallory', "SET application_name = 'held'",
        'BEGIN', 'ALTER FUNCTION m.report() DEPENDS ON EXTENSION job_alerting',
        q(SELECT job_alerting.watch_query('aa held', 'SELECT ''j'' AS job_id, now() AS failed_at')),
        'SELECT pg_sleep(600)');
    JobAlerting::poll(sub { sql(q(SELECT count(*) FROM pg_stat_activity
        WHERE application_name = 'held' AND wait_event = 'PgSleep')) }, 30, 'her transaction');
    innocent_is_reported('an open transaction');
    sql(q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'held'));
    $held->finish;
    nothing_is_gained('an open transaction');
};

subtest 'a round waits only once for many queues whose rows she has locked' => sub {
    my $watch = q(SELECT job_alerting.watch_query('aa held ' || n, $q$SELECT 'j' AS job_id, now() AS failed_at$q$)
        FROM generate_series(1, 30) n);
    mallory($watch);
    my $held = JobAlerting::Call->start($node, undef, 'SET ROLE mallory', "SET application_name = 'held'", 'BEGIN',
        $watch, 'SELECT pg_sleep(600)');
    JobAlerting::poll(sub { sql(q(SELECT count(*) FROM pg_stat_activity
        WHERE application_name = 'held' AND wait_event = 'PgSleep')) }, 30, 'her transaction');
    my $start = Time::HiRes::time();
    my ($row) = JobAlerting::run_digest($node);
    cmp_ok Time::HiRes::time() - $start, '<', 10, 'a round waits once';
    like $row->{detail}, qr/queue aa held 1 cannot be read: another session holds its row/, 'the detail says so';
    innocent_is_reported('many queues that are held');
    sql(q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'held'));
    $held->finish;
    innocent_is_reported('let go');
    is sql(q(SELECT count(DISTINCT queue) FROM job_alerting.failure WHERE queue LIKE 'aa held%' AND status IS NULL)), 30,
      'after the lock, they are read again';
    is sql(q(SELECT count(*) FROM job_alerting.failure WHERE queue LIKE 'aa held%' AND status = 'unreadable')), 0,
      'they were never reported as broken';
    sql(q(SELECT job_alerting.unwatch(name, true) FROM job_alerting.queue WHERE name LIKE 'aa held%'));
    nothing_is_gained('many queues that are held');
};

subtest 'her index cannot make a superuser call our functions' => sub {
    sql('GRANT EXECUTE ON FUNCTION job_alerting.run_digest TO mallory');
    mallory(<<'SQL');
CREATE FUNCTION m.index_digest(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN
        RAISE WARNING 'run_digest: %', m.attempt('SELECT job_alerting.run_digest()');
        RAISE WARNING 'watch: %', m.attempt('SELECT job_alerting.watch($q$public.research_jobs$q$, $q$aa index$q$)');
        RAISE WARNING 'unwatch: %', m.attempt('SELECT job_alerting.unwatch($q$research_jobs$q$)');
        RETURN $1;
    END $$;
CREATE TABLE m.indexed AS SELECT 1 AS n;
SQL
    attempt_as('mallory', 'CREATE INDEX indexed_n ON m.indexed (m.index_digest(n))');
    my $mails = $stub->count;
    my ($status, $out, $error) = $node->psql('postgres', 'REINDEX TABLE m.indexed');
    like $error, qr/run_digest: ERROR: .*security-restricted operation/, 'run_digest()';
    like $error, qr/watch: ERROR: must be owner/, 'watch()';
    like $error, qr/unwatch: ERROR: permission denied/, 'unwatch()';
    is $stub->count, $mails, 'no mail was sent';
    is queue('aa index'), undef, 'no queue was added';
    sql('REVOKE EXECUTE ON FUNCTION job_alerting.run_digest FROM mallory');
    innocent_is_reported('an index');
    nothing_is_gained('an index');
};

is sql('SELECT pg_postmaster_start_time()'), $started, 'the server never restarted';
unlike PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/terminated by signal|PANIC|TRAP:/,
  'no process of the server crashed';

$node->stop;
done_testing();
