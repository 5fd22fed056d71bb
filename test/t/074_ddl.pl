# DDL of administrators on tables, roles, databases and the extension itself, between rounds and during
# them. It does not wait for a receiver. A queue that cannot be read is reported once and goes on when it is
# repaired, and nothing is reported twice.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting qw(fail_job log_from_now problems sql stall wait_for_lock_wait wait_until_idle);

my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub, conf => <<'CONF');
job_alerting.lock_timeout = '3s'
job_alerting.http_timeout = '60s'
autovacuum = off
CONF
JobAlerting::create_jobs($node);

# One round. Returns the reported jobs of a queue, and `broken` for a queue that cannot be read.
sub told {
    my ($queue, $db) = @_;
    my $before = $stub->count;
    JobAlerting::run_digest($node, $db);
    my @mails = ($stub->requests)[ $before .. $stub->count - 1 ];
    return [
        sort map {
            (JobAlerting::named_jobs($_, $queue), JobAlerting::text_part($_) =~ /could not be read/ ? 'broken' : ())
        } @mails
    ];
}

# ---------------------------------------------------------------- a database whose round does not end

# The server refuses a statement that needs such a database alone after 5 s, so the statements begin here and
# are checked in the last subtest.
my $busy_stub = JobAlerting::Stub->start;
my $busy = JobAlerting::node('busy', stub => $busy_stub, interval => '1s', conf => "job_alerting.http_timeout = '10min'");
$busy->safe_psql('postgres', 'CREATE DATABASE doomed');
JobAlerting::create_jobs($busy, $_) for 'postgres', 'doomed';
$busy_stub->mode('stall');
JobAlerting::fail_job($busy, db => 'doomed');
$busy_stub->wait_for(1);
my $busy_log = log_from_now($busy);
my %refused = map { $_ => JobAlerting::Call->start($busy, 'postgres', $_) } 'DROP DATABASE doomed',
  'ALTER DATABASE doomed RENAME TO anew', 'CREATE DATABASE copy TEMPLATE doomed';

# ---------------------------------------------------------------- during a request

subtest 'tables can be rewritten and truncated during a request' => sub {
    my $stalled = stall($stub);
    # The statements fail if they have to wait for the end of the request.
    local $ENV{PGOPTIONS} = '-c lock_timeout=5s';
    my @tables = map { "job_alerting.$_" } qw(queue failure digest);
    for my $table ('research_jobs', @tables) {
        my ($name) = $table =~ /(\w+)\z/;
        for my $statement ("VACUUM FULL $table", "REINDEX TABLE $table", "CLUSTER $table USING ${name}_pkey") {
            is +($node->psql('postgres', $statement))[2], '', $statement;
        }
    }
    for my $statement ('VACUUM FULL pg_extension', 'REINDEX SCHEMA job_alerting', 'TRUNCATE research_jobs',
        'ALTER TABLE research_jobs ALTER priority TYPE integer') {
        is +($node->psql('postgres', $statement))[2], '', $statement;
    }
    ok $stalled->{call}->running, 'the round is still in progress';
    $stub->release;
    is +($stalled->{call}->rows)[0]{outcome}, 'accepted', 'the digest is accepted in the end';
    is_deeply told(), [], 'the next round is silent';
    is $stub->count, $stalled->{before} + 1, 'one request in all';
};

subtest 'rounds go on while the tables are rewritten all the time' => sub {
    my @rewrite = ('VACUUM FULL', 'REINDEX TABLE CONCURRENTLY', 'VACUUM (FREEZE, ANALYZE)');
    my @statements = map { my $how = $_; map { "$how $_" } 'research_jobs', map { "job_alerting.$_" } qw(queue failure digest) }
      @rewrite;
    my $call = JobAlerting::Call->start($node, 'postgres', (@statements) x 3);
    my $rounds = 0;
    my @wrong;
    while ($rounds < 5 || $call->running) {
        my $job = fail_job();
        my @told = JobAlerting::reported($node, $stub);
        push @wrong, [ $job, @told ] if "@told" ne $job;
        $rounds++;
    }
    is $call->error, '', 'no rewriting failed';
    is_deeply \@wrong, [], "$rounds rounds have each reported only the new failure";
};

subtest 'REINDEX of the ledger waits for a scan, and the scan does not wait for REINDEX' => sub {
    sql(q(SELECT job_alerting.watch_query('gated', 'SELECT id::text AS job_id, finished_at AS failed_at
        FROM public.research_jobs WHERE (SELECT pg_advisory_xact_lock(77) IS NOT NULL)')));
    JobAlerting::run_digest($node);
    my $job = fail_job();
    JobAlerting::configure($node, lock_timeout => '30s');
    my $gate = JobAlerting::hold($node, 'SELECT pg_advisory_xact_lock(77)');
    my $before = $stub->count;
    my $call = JobAlerting::begin_digest($node);
    wait_for_lock_wait();
    my $reindex = JobAlerting::Call->start($node, 'postgres', 'REINDEX TABLE job_alerting.failure');
    wait_for_lock_wait('REINDEX');
    JobAlerting::let_go($gate);
    my ($row) = $call->rows;
    is_deeply [ @$row{qw(outcome failures detail)} ], [ 'accepted', 2, undef ], 'the round reports the failure of both queues';
    is $reindex->error, '', 'REINDEX succeeds';
    JobAlerting::configure($node, lock_timeout => '3s');
    sql(q(SELECT job_alerting.unwatch('gated', true)));
};

# Runs REINDEX while a round waits behind the gate. Returns its error.
sub reindex_during {
    my ($table, $gate, $round) = @_;
    my $held = JobAlerting::hold($node, $gate);
    my $call = $round->();
    wait_for_lock_wait();
    my $reindex = JobAlerting::Call->start($node, 'postgres', "REINDEX TABLE job_alerting.$table");
    # REINDEX may also end at once, without waiting for the round.
    my $waits = q(SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'REINDEX TABLE job%' AND wait_event_type = 'Lock');
    JobAlerting::poll(sub { sql($waits) eq '1' || !$reindex->running }, 10, 'REINDEX');
    JobAlerting::let_go($held);
    $call->rows;
    return $reindex->error;
}

subtest 'REINDEX of the other tables does not deadlock with a round' => sub {
    JobAlerting::configure($node, lock_timeout => '30s');
    my $stalled = stall($stub);
    my $answered = sub { $stub->release; return $stalled->{call} };
    is reindex_during('digest', 'LOCK TABLE job_alerting.failure IN SHARE MODE', $answered), '', 'during the clean-up of a round';
    my $begun = sub { JobAlerting::begin_digest($node) };
    is reindex_during('queue', 'SELECT FROM job_alerting.queue FOR UPDATE', $begun), '', 'at the beginning of a scan';
    is_deeply told(), [], 'nothing is reported twice';
    JobAlerting::configure($node, lock_timeout => '3s');
};

subtest 'writers of the jobs table do not wait for a scan' => sub {
    sql('CREATE TABLE pace AS SELECT 0.0 AS seconds');
    sql(q(SELECT job_alerting.watch_query('slow', 'SELECT id::text AS job_id, finished_at AS failed_at
        FROM public.research_jobs WHERE (SELECT pg_sleep(seconds) IS NOT NULL FROM public.pace)')));
    my $job = fail_job(status => 'running');
    sql('UPDATE pace SET seconds = 60');
    my $call = JobAlerting::begin_digest($node);
    my $sleeps = q(SELECT count(*) FROM pg_stat_activity
        WHERE backend_type = 'job_alerting worker' AND wait_event = 'PgSleep');
    JobAlerting::poll(sub { sql($sleeps) eq '1' }, 10, 'the scan');
    is sql(<<'SQL'), 'AccessShareLock', 'the scan holds no lock that conflicts with writers';
SELECT string_agg(DISTINCT l.mode, ' ') FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE a.backend_type = 'job_alerting worker' AND l.relation = 'research_jobs'::regclass
SQL
    local $ENV{PGOPTIONS} = '-c lock_timeout=5s';
    for my $statement (
        "SELECT id FROM research_jobs WHERE id = $job FOR UPDATE NOWAIT",
        "UPDATE research_jobs SET status = 'done' WHERE id = $job",
        "DELETE FROM research_jobs WHERE id = $job",
        q(INSERT INTO research_jobs (source, job_type) VALUES ('apple', 'refresh_catalog')),
        'CREATE INDEX ON research_jobs (status)',
        ) {
        is +($node->psql('postgres', $statement))[2], '', $statement;
    }
    ok $call->running, 'the scan is still in progress';
    sql('SELECT pg_cancel_backend(' . JobAlerting::worker($node) . ')');
    $call->finish;
    sql(q(SELECT job_alerting.unwatch('slow', true); DROP TABLE pace));
    JobAlerting::run_digest($node);
};

# ---------------------------------------------------------------- DROP EXTENSION

# After DROP EXTENSION the worker sends nothing. The extension is created again and reports standing failures.
sub is_gone {
    my ($db, $requests) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    wait_until_idle();
    is $stub->count, $requests, 'no request follows';
    sql('CREATE EXTENSION job_alerting', $db);
    my $job = fail_job(db => $db);
    ok((grep { $_ eq $job } @{ told(undef, $db) }), 'created again, it works');
    return;
}

sub create_database {
    my ($name) = @_;
    sql("CREATE DATABASE $name");
    JobAlerting::create_jobs($node, $name);
    return;
}

subtest 'DROP EXTENSION during a scan waits for that scan only' => sub {
    create_database('scanned');
    my $before = $stub->count;
    fail_job(db => 'scanned');
    my $held = JobAlerting::hold($node, 'LOCK TABLE research_jobs', db => 'scanned');
    my $call = JobAlerting::begin_digest($node, db => 'scanned');
    wait_for_lock_wait();
    my $drop = JobAlerting::Call->start($node, 'scanned', 'DROP EXTENSION job_alerting');
    is $drop->error, '', 'it is dropped';
    cmp_ok $drop->seconds, '<', 3 + 10, 'after the scan has met job_alerting.lock_timeout';
    # The rest of the round is so short that it may end before the drop.
    like $call->out . $call->error, qr/lock timeout|42704: the database does not have the extension/, 'the caller gets the reason';
    JobAlerting::let_go($held);
    is_gone('scanned', $before);
};

subtest 'DROP EXTENSION waits until an answer is settled' => sub {
    create_database('settled');
    my $stalled = stall($stub, db => 'settled');
    my $held = JobAlerting::hold($node, 'LOCK TABLE job_alerting.digest', db => 'settled');
    $stub->release;
    wait_for_lock_wait();
    my $drop = JobAlerting::Call->start($node, 'settled', 'DROP EXTENSION job_alerting');
    wait_for_lock_wait('DROP EXTENSION');
    JobAlerting::let_go($held);
    is $drop->error, '', 'it is dropped';
    $stalled->{call}->finish;
    is_gone('settled', $stalled->{before} + 1);
};

subtest 'DROP EXTENSION by a session that locks the table of digests' => sub {
    create_database('entangled');
    my $stalled = stall($stub, db => 'entangled');
    # The two deadlock: one is refused, and the worker tries again.
    my $drop = JobAlerting::Call->start($node, 'entangled', 'BEGIN', 'LOCK TABLE job_alerting.digest', <<'SQL',
        DO $$ BEGIN
            FOR i IN 1 .. 1000 LOOP
                PERFORM FROM pg_stat_activity WHERE backend_type = 'job_alerting worker' AND wait_event_type = 'Lock';
                EXIT WHEN FOUND;
                PERFORM pg_sleep(0.01);
            END LOOP;
        END $$
SQL
        'DROP EXTENSION job_alerting', 'COMMIT');
    JobAlerting::poll(sub { sql(q(SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted)) > 0 },
        10, 'the lock');
    $stub->release;
    like $drop->error, qr/\A\z|40P01: deadlock detected/, 'it is dropped or refused';
    cmp_ok $drop->seconds, '<', 20, 'it does not hang';
    $stalled->{call}->finish;
    wait_until_idle();
    sql('DROP EXTENSION IF EXISTS job_alerting', 'entangled');
    is_gone('entangled', $stalled->{before} + 1);
};

subtest 'DROP EXTENSION that commits after the answer' => sub {
    create_database('committed');
    my $stalled = stall($stub, db => 'committed');
    my $drop = JobAlerting::Call->start($node, 'committed', q(SET application_name = 'dropping'), 'BEGIN',
        'DROP EXTENSION job_alerting', 'SELECT pg_sleep(1)', 'COMMIT');
    my $dropped = q(SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dropping' AND wait_event = 'PgSleep');
    JobAlerting::poll(sub { sql($dropped) eq '1' }, 10, 'the drop');
    my $logged = log_from_now();
    $stub->release;
    is $drop->error, '', 'it is dropped';
    like $stalled->{call}->error, qr/ERROR:  42704: the database does not have the extension/, 'the caller gets the reason';
    is_deeply [ grep { !/ERROR: +the database does not have/ } problems($logged->()) ], [], 'the log has no other problem';
    is_gone('committed', $stalled->{before} + 1);
};

sql("DROP DATABASE $_") for qw(scanned settled entangled committed);

# ---------------------------------------------------------------- between two tries

subtest 'a database can be copied and dropped while a digest waits for its next try' => sub {
    create_database('waiting');
    $stub->modes('401', '202');
    fail_job(db => 'waiting');
    is +(JobAlerting::run_digest($node, 'waiting'))[0]{outcome}, 'pending', 'the digest waits';
    # The server would wait 5 s for a session that is connected, and then refuse.
    is sql(q(SELECT count(*) FROM pg_stat_activity WHERE datname = 'waiting')), 0, 'nobody is connected';
    is +($node->psql('postgres', $_))[2], '', $_ for 'CREATE DATABASE copied TEMPLATE waiting',
      'ALTER DATABASE waiting RENAME TO renamed', 'DROP DATABASE copied', 'DROP DATABASE renamed';
};

# ---------------------------------------------------------------- settings

subtest 'settings that affect a session do not affect a round' => sub {
    my %setting = (
        client_encoding             => 'LATIN1',
        $JobAlerting::Server::HAS_BACKSLASH_STRINGS ? (standard_conforming_strings => 'off') : (),
        backslash_quote             => 'off',
        session_replication_role    => 'replica',
        session_preload_libraries   => 'auto_explain',
        transform_null_equals       => 'on',
        quote_all_identifiers       => 'on',
        array_nulls                 => 'off',
        exit_on_error               => 'on',
        bytea_output                => 'escape',
        extra_float_digits          => '-15',
        xmloption                   => 'document',
        default_table_access_method => 'nowhere',
        plan_cache_mode             => 'force_generic_plan',
        $JobAlerting::Server::PARALLEL => 'on',
        work_mem                    => '64kB',
        lc_messages                 => 'C',
        lc_time                     => 'C',
        role                        => 'stranger',
    );
    sql('CREATE ROLE stranger NOLOGIN');
    # The test's own sessions need other values.
    local $ENV{PGOPTIONS} = '-c role=none -c client_encoding=UTF8 -c standard_conforming_strings=on -c array_nulls=on'
      . ' -c exit_on_error=off';
    sql(q(CREATE TABLE brittle AS SELECT 1 AS n;
        SELECT job_alerting.watch_query('brittle', 'SELECT n::text AS job_id, NULL::timestamptz AS failed_at
            FROM public.brittle WHERE 1 / n < 0')));
    for my $whose ('DATABASE postgres', 'ROLE ALL', 'ROLE CURRENT_USER') {
        sql(join ';', map { "ALTER $whose SET $_ = '$setting{$_}'" } sort keys %setting);
        my $job = fail_job(last_error => "it's \\ down: \xC3\xBC");
        my $before = $stub->count;
        is_deeply told(), [$job], "of $whose";
        like +($stub->requests)[$before]{body}, qr/it's \\\\ down: (?:\xC3\xBC|\\u00fc)/, "of $whose: the error is unchanged";
        sql('UPDATE brittle SET n = 0');
        is_deeply told(), ['broken'], "of $whose: an error breaks the queue";
        sql('UPDATE brittle SET n = 1');
        is_deeply told(), [], "of $whose: repaired";
        sql("ALTER $whose RESET ALL");
    }
    sql(q(SELECT job_alerting.unwatch('brittle', true); DROP TABLE brittle));
    sql('DROP ROLE stranger');
};

# ---------------------------------------------------------------- changes of a jobs table

# `tells` is the report of the next round: `broken` or `new`, the job that failed since. After `broken`, the
# round after the repair reports that job.
my %changes = (
    'dropped' => {
        change => 'ALTER TABLE work.jobs RENAME TO kept; CREATE TABLE work.jobs (LIKE work.kept); DROP TABLE work.jobs',
        repair => 'ALTER TABLE work.kept RENAME TO jobs',
        table  => 'work.kept',
        tells  => 'broken',
    },
    'schema renamed' => {
        change => 'ALTER SCHEMA work RENAME TO leisure',
        repair => 'ALTER SCHEMA leisure RENAME TO work',
        table  => 'leisure.jobs',
        tells  => 'broken',
    },
    'column dropped' => {
        change => 'ALTER TABLE work.jobs DROP last_error',
        repair => 'ALTER TABLE work.jobs ADD last_error text',
        tells  => 'broken',
    },
    'status retyped to an enumeration' => {
        change => <<'SQL',
CREATE TYPE work.status AS ENUM ('queued', 'running', 'done', 'failed', 'dead');
ALTER TABLE work.jobs ALTER status TYPE work.status USING status::work.status
SQL
        repair => 'ALTER TABLE work.jobs ALTER status TYPE text; DROP TYPE work.status',
        tells => 'new',
    },
    'id retyped' => {
        change => 'ALTER TABLE work.jobs ALTER id TYPE bigint',
        repair => 'ALTER TABLE work.jobs ALTER id TYPE integer',
        tells  => 'new',
    },
    'replaced by a view' => {
        change => 'ALTER TABLE work.jobs RENAME TO kept; CREATE VIEW work.jobs AS TABLE work.kept;'
          . 'ALTER VIEW work.jobs OWNER TO jobs_owner',
        repair => 'DROP VIEW work.jobs; ALTER TABLE work.kept RENAME TO jobs',
        tells => 'new',
    },
    'replaced by a partitioned table' => {
        change => <<'SQL',
ALTER TABLE work.jobs RENAME TO kept;
CREATE TABLE work.jobs (LIKE work.kept INCLUDING DEFAULTS) PARTITION BY RANGE (id);
ALTER TABLE work.jobs ATTACH PARTITION work.kept DEFAULT;
ALTER TABLE work.jobs OWNER TO jobs_owner
SQL
        repair => 'ALTER TABLE work.jobs DETACH PARTITION work.kept; DROP TABLE work.jobs; ALTER TABLE work.kept RENAME TO jobs',
        tells => 'new',
    },
    'replaced by a foreign table' => {
        change => <<'SQL',
ALTER TABLE work.jobs RENAME TO kept;
CREATE FOREIGN TABLE work.jobs (id int, status text, attempts int, max_attempts int, finished_at timestamptz,
    last_error text) SERVER itself OPTIONS (table_name 'kept');
ALTER TABLE work.jobs OWNER TO jobs_owner
SQL
        repair => 'DROP FOREIGN TABLE work.jobs; ALTER TABLE work.kept RENAME TO jobs',
        tells => 'new',
    },
    'replaced by a foreign table that cannot be reached' => {
        change => <<'SQL',
ALTER TABLE work.jobs RENAME TO kept;
CREATE FOREIGN TABLE work.jobs (id int, status text, attempts int, max_attempts int, finished_at timestamptz,
    last_error text) SERVER files OPTIONS (filename '/nowhere/jobs.csv');
ALTER TABLE work.jobs OWNER TO jobs_owner
SQL
        repair => 'DROP FOREIGN TABLE work.jobs; ALTER TABLE work.kept RENAME TO jobs',
        table => 'work.kept',
        tells => 'broken',
    },
    'owner changed' => {
        change => 'ALTER TABLE work.jobs OWNER TO CURRENT_USER',
        repair => 'ALTER TABLE work.jobs OWNER TO jobs_owner',
        tells  => 'broken',
    },
    'owner changed, and watched anew' => {
        change => 'ALTER TABLE work.jobs OWNER TO CURRENT_USER',
        repair => q(SELECT job_alerting.watch('work.jobs')),
        after  => q(ALTER TABLE work.jobs OWNER TO jobs_owner; SELECT job_alerting.watch('work.jobs')),
        tells  => 'broken',
    },
    'owner dropped' => {
        change => 'ALTER TABLE work.jobs OWNER TO CURRENT_USER; REVOKE ALL ON SCHEMA work FROM jobs_owner;'
          . 'DROP OWNED BY jobs_owner; DROP ROLE jobs_owner',
        repair => 'CREATE ROLE jobs_owner; GRANT USAGE ON SCHEMA work TO jobs_owner; ALTER TABLE work.jobs OWNER TO jobs_owner',
        tells => 'broken',
    },
    'row-level security forced, which hides all' => {
        change => 'ALTER TABLE work.jobs ENABLE ROW LEVEL SECURITY; ALTER TABLE work.jobs FORCE ROW LEVEL SECURITY',
        repair => 'ALTER TABLE work.jobs DISABLE ROW LEVEL SECURITY; ALTER TABLE work.jobs NO FORCE ROW LEVEL SECURITY',
        tells  => 'nothing',
    },
);

sub fail_work {
    my ($table) = @_;
    return sql("INSERT INTO $table (status, finished_at) VALUES ('dead', clock_timestamp()) RETURNING id");
}

sub queue {
    my ($queue) = JobAlerting::rows($node, undef, q(SELECT * FROM job_alerting.queue WHERE name = 'jobs'));
    return $queue;
}

subtest 'a jobs table that changes is reported once when it cannot be read, and no failure twice' => sub {
    my $me = sql('SELECT current_user');
    my ($host, $port) = ($node->host, $node->port);
    sql(<<"SQL");
CREATE ROLE jobs_owner;
CREATE SCHEMA work;
GRANT USAGE ON SCHEMA work TO jobs_owner;
CREATE TABLE work.jobs (id serial PRIMARY KEY, status text, attempts int, max_attempts int, finished_at timestamptz,
    last_error text);
ALTER TABLE work.jobs OWNER TO jobs_owner;
CREATE EXTENSION postgres_fdw;
CREATE SERVER itself FOREIGN DATA WRAPPER postgres_fdw
    OPTIONS (host '$host', port '$port', dbname 'postgres');
CREATE USER MAPPING FOR PUBLIC SERVER itself OPTIONS (password_required 'false', user '$me');
CREATE EXTENSION file_fdw;
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
SELECT job_alerting.watch('work.jobs');
SQL
    my $old = fail_work('work.jobs');
    is_deeply told('jobs'), [$old], 'the queue can be read';
    for my $kind (sort keys %changes) {
        my %case = (table => 'work.jobs', %{ $changes{$kind} });
        sql($case{change});
        my $new = fail_work($kind =~ /replaced/ ? 'work.kept' : $case{table});
        my %expected = (broken => ['broken'], new => [$new], nothing => []);
        is_deeply told('jobs'), $expected{ $case{tells} }, "$kind: $case{tells}";
        is defined queue()->{broken_since}, $case{tells} eq 'broken', "$kind: broken_since agrees";
        my $other = fail_job();
        is_deeply told(), [$other], "$kind: another queue is reported, and this one not again";
        sql($case{repair});
        is_deeply told('jobs'), $case{tells} eq 'new' ? [] : [$new], "$kind: repaired, the new failure is reported";
        is_deeply [ @{ queue() }{qw(last_error broken_since)} ], [ undef, undef ], "$kind: the queue can be read";
        sql($case{after}) if $case{after};
        is_deeply told('jobs'), [], "$kind: the next round is silent";
    }
    sql(q(SELECT job_alerting.unwatch('jobs', true)));
};

# ---------------------------------------------------------------- pg_dump

subtest 'a member of pg_read_all_data can dump the tables' => sub {
    sql('CREATE ROLE dumper LOGIN; GRANT pg_read_all_data TO dumper');
    local $ENV{PGUSER} = 'dumper';
    my ($out, $error) = ('', '');
    ok IPC::Run::run([ 'pg_dump', '-d', $node->connstr('postgres') ], '>', \$out, '2>', \$error), 'pg_dump';
    is $error, '', 'pg_dump has no message';
    like $out, qr/^COPY job_alerting\.$_ /m, "the dump has $_" for qw(queue failure digest);
};

# ---------------------------------------------------------------- the statements begun above

subtest 'a statement that needs a database alone during a round is refused, unless it uses FORCE' => sub {
    for my $statement (sort keys %refused) {
        like $refused{$statement}->error, qr/ERROR:  55006: .*is being accessed by other users\nDETAIL:  There is 1 other session/,
          "$statement: refused";
    }
    is $busy_stub->held, 1, 'the request is still held';
    is +($busy->psql('postgres', 'DROP DATABASE doomed WITH (FORCE)'))[2], '', 'WITH (FORCE) drops it';
    $busy_stub->mode('202');
    my $job = JobAlerting::fail_job($busy);
    my @requests = $busy_stub->wait_for(2);
    is_deeply [ JobAlerting::named_jobs($requests[1]) ], [$job], 'other databases have their rounds';
    my @fatal = grep { /FATAL/ && !/terminating background worker/ } problems($busy_log->());
    cmp_ok scalar @fatal, '<=', 1, 'at most one worker was started too late' or diag explain \@fatal;
};

$busy->stop;
$node->stop;
done_testing();
