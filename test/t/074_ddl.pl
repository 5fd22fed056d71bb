# DDL around it: what administrators do to tables, roles, databases and the extension itself, between
# rounds and during them. They do not wait for a receiver; a queue that cannot be read is told once, and
# goes on when it is mended, with nothing told twice.

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

# What one round tells: jobs of a queue by their ids, and a queue that cannot be read as `broken`.
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

# Whoever wants such a database for himself is refused after 5 s, each time; so it is begun here and
# looked at in the end.
my $busy_stub = JobAlerting::Stub->start;
my $busy = JobAlerting::node('busy', stub => $busy_stub, interval => '1s', conf => "job_alerting.http_timeout = '10min'");
$busy->safe_psql('postgres', 'CREATE DATABASE doomed');
JobAlerting::create_jobs($busy, $_) for 'postgres', 'doomed';
$busy_stub->mode('stall');
JobAlerting::fail_job($busy, db => 'doomed');
$busy_stub->wait_for(1);
my $busy_log = log_from_now($busy);
my %wishes = map { $_ => JobAlerting::Call->start($busy, 'postgres', $_) } 'DROP DATABASE doomed',
  'ALTER DATABASE doomed RENAME TO anew', 'CREATE DATABASE copy TEMPLATE doomed';

# ---------------------------------------------------------------- during a request

subtest 'while a request is held, tables are rewritten and emptied at once' => sub {
    my $stalled = stall($stub);
    # They fail rather than wait for the end of the request.
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
    ok $stalled->{call}->running, 'all that while the round is under way';
    $stub->release;
    is +($stalled->{call}->rows)[0]{outcome}, 'accepted', 'and then it ends well';
    is_deeply told(), [], 'then silence';
    is $stub->count, $stalled->{before} + 1, 'one request in all';
};

subtest 'while its tables are rewritten all the time, rounds go on' => sub {
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
    is_deeply \@wrong, [], "$rounds rounds have each told just what was new";
};

subtest 'REINDEX of the ledger during a scan waits for it, and the scan not for REINDEX' => sub {
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
    is_deeply [ @$row{qw(outcome failures detail)} ], [ 'accepted', 2, undef ], 'the round tells the failure of both queues';
    is $reindex->error, '', 'and REINDEX is done';
    JobAlerting::configure($node, lock_timeout => '3s');
    sql(q(SELECT job_alerting.unwatch('gated', true)));
};

# What REINDEX says that comes while a round waits behind the gate.
sub reindex_during {
    my ($table, $gate, $round) = @_;
    my $held = JobAlerting::hold($node, $gate);
    my $call = $round->();
    wait_for_lock_wait();
    my $reindex = JobAlerting::Call->start($node, 'postgres', "REINDEX TABLE job_alerting.$table");
    # When it need not wait for the round it is done at once.
    my $waits = q(SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'REINDEX TABLE job%' AND wait_event_type = 'Lock');
    JobAlerting::poll(sub { sql($waits) eq '1' || !$reindex->running }, 10, 'REINDEX');
    JobAlerting::let_go($held);
    $call->rows;
    return $reindex->error;
}

subtest 'REINDEX of the other tables, too, goes along with a round' => sub {
    JobAlerting::configure($node, lock_timeout => '30s');
    my $stalled = stall($stub);
    my $answered = sub { $stub->release; return $stalled->{call} };
    is reindex_during('digest', 'LOCK TABLE job_alerting.failure IN SHARE MODE', $answered), '', 'while it tidies up';
    my $begun = sub { JobAlerting::begin_digest($node) };
    is reindex_during('queue', 'SELECT FROM job_alerting.queue FOR UPDATE', $begun), '', 'while it begins a scan';
    is_deeply told(), [], 'nothing is told twice';
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
    is sql(<<'SQL'), 'AccessShareLock', 'the scan has no lock that a writer could meet';
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
    ok $call->running, 'all that while it is being scanned';
    sql('SELECT pg_cancel_backend(' . JobAlerting::worker($node) . ')');
    $call->finish;
    sql(q(SELECT job_alerting.unwatch('slow', true); DROP TABLE pace));
    JobAlerting::run_digest($node);
};

# ---------------------------------------------------------------- DROP EXTENSION

# What the worker of a dropped extension does afterwards: nothing. A round of the extension created
# again tells what stands.
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
    cmp_ok $drop->seconds, '<', 3 + 10, 'once the scan has met job_alerting.lock_timeout';
    # The rest of the round takes so little that it may still be done first.
    like $call->out . $call->error, qr/lock timeout|42704: the database does not have the extension/, 'the caller hears of it';
    JobAlerting::let_go($held);
    is_gone('scanned', $before);
};

subtest 'DROP EXTENSION while an answer waits to be settled lets it be settled' => sub {
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

subtest 'DROP EXTENSION by who holds the table that the answer is to be written to' => sub {
    create_database('entangled');
    my $stalled = stall($stub, db => 'entangled');
    # One of the two must give way, and the worker tries again.
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
    cmp_ok $drop->seconds, '<', 20, 'and does not hang';
    $stalled->{call}->finish;
    wait_until_idle();
    sql('DROP EXTENSION IF EXISTS job_alerting', 'entangled');
    is_gone('entangled', $stalled->{before} + 1);
};

subtest 'DROP EXTENSION that is committed after the answer has come' => sub {
    create_database('committed');
    my $stalled = stall($stub, db => 'committed');
    my $drop = JobAlerting::Call->start($node, 'committed', q(SET application_name = 'dropping'), 'BEGIN',
        'DROP EXTENSION job_alerting', 'SELECT pg_sleep(1)', 'COMMIT');
    my $dropped = q(SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dropping' AND wait_event = 'PgSleep');
    JobAlerting::poll(sub { sql($dropped) eq '1' }, 10, 'the drop');
    my $logged = log_from_now();
    $stub->release;
    is $drop->error, '', 'it is dropped';
    like $stalled->{call}->error, qr/ERROR:  42704: the database does not have the extension/, 'the caller hears of it';
    is_deeply [ grep { !/ERROR: +the database does not have/ } problems($logged->()) ], [], 'the log is quiet';
    is_gone('committed', $stalled->{before} + 1);
};

sql("DROP DATABASE $_") for qw(scanned settled entangled committed);

# ---------------------------------------------------------------- between two tries

subtest 'while a digest waits for its next try, its database can be copied and dropped' => sub {
    create_database('waiting');
    $stub->modes('401', '202');
    fail_job(db => 'waiting');
    is +(JobAlerting::run_digest($node, 'waiting'))[0]{outcome}, 'pending', 'it waits';
    # The server would wait 5 s for a session that is connected, and then refuse.
    is sql(q(SELECT count(*) FROM pg_stat_activity WHERE datname = 'waiting')), 0, 'nobody is connected';
    is +($node->psql('postgres', $_))[2], '', $_ for 'CREATE DATABASE copied TEMPLATE waiting',
      'ALTER DATABASE waiting RENAME TO renamed', 'DROP DATABASE copied', 'DROP DATABASE renamed';
};

# ---------------------------------------------------------------- settings

subtest 'settings that mean something to a session mean nothing to a round' => sub {
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
    # Not for our own sessions.
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
        like +($stub->requests)[$before]{body}, qr/it's \\\\ down: (?:\xC3\xBC|\\u00fc)/, "of $whose: the error as it is";
        sql('UPDATE brittle SET n = 0');
        is_deeply told(), ['broken'], "of $whose: an error is that of the queue";
        sql('UPDATE brittle SET n = 1');
        is_deeply told(), [], "of $whose: mended";
        sql("ALTER $whose RESET ALL");
    }
    sql(q(SELECT job_alerting.unwatch('brittle', true); DROP TABLE brittle));
    sql('DROP ROLE stranger');
};

# ---------------------------------------------------------------- what becomes of a jobs table

# Each with what a round then tells: `broken`, or `new`, the job that failed since, which is then told by
# the round after it is mended.
my %changes = (
    'dropped' => {
        change => 'ALTER TABLE work.jobs RENAME TO kept; CREATE TABLE work.jobs (LIKE work.kept); DROP TABLE work.jobs',
        mend   => 'ALTER TABLE work.kept RENAME TO jobs',
        table  => 'work.kept',
        tells  => 'broken',
    },
    'schema renamed' => {
        change => 'ALTER SCHEMA work RENAME TO leisure',
        mend   => 'ALTER SCHEMA leisure RENAME TO work',
        table  => 'leisure.jobs',
        tells  => 'broken',
    },
    'column dropped' => {
        change => 'ALTER TABLE work.jobs DROP last_error',
        mend   => 'ALTER TABLE work.jobs ADD last_error text',
        tells  => 'broken',
    },
    'status retyped to an enumeration' => {
        change => <<'SQL',
CREATE TYPE work.status AS ENUM ('queued', 'running', 'done', 'failed', 'dead');
ALTER TABLE work.jobs ALTER status TYPE work.status USING status::work.status
SQL
        mend  => 'ALTER TABLE work.jobs ALTER status TYPE text; DROP TYPE work.status',
        tells => 'new',
    },
    'id retyped' => {
        change => 'ALTER TABLE work.jobs ALTER id TYPE bigint',
        mend   => 'ALTER TABLE work.jobs ALTER id TYPE integer',
        tells  => 'new',
    },
    'replaced by a view' => {
        change => 'ALTER TABLE work.jobs RENAME TO kept; CREATE VIEW work.jobs AS TABLE work.kept;'
          . 'ALTER VIEW work.jobs OWNER TO jobs_owner',
        mend  => 'DROP VIEW work.jobs; ALTER TABLE work.kept RENAME TO jobs',
        tells => 'new',
    },
    'replaced by a partitioned table' => {
        change => <<'SQL',
ALTER TABLE work.jobs RENAME TO kept;
CREATE TABLE work.jobs (LIKE work.kept INCLUDING DEFAULTS) PARTITION BY RANGE (id);
ALTER TABLE work.jobs ATTACH PARTITION work.kept DEFAULT;
ALTER TABLE work.jobs OWNER TO jobs_owner
SQL
        mend  => 'ALTER TABLE work.jobs DETACH PARTITION work.kept; DROP TABLE work.jobs; ALTER TABLE work.kept RENAME TO jobs',
        tells => 'new',
    },
    'replaced by a foreign table' => {
        change => <<'SQL',
ALTER TABLE work.jobs RENAME TO kept;
CREATE FOREIGN TABLE work.jobs (id int, status text, attempts int, max_attempts int, finished_at timestamptz,
    last_error text) SERVER itself OPTIONS (table_name 'kept');
ALTER TABLE work.jobs OWNER TO jobs_owner
SQL
        mend  => 'DROP FOREIGN TABLE work.jobs; ALTER TABLE work.kept RENAME TO jobs',
        tells => 'new',
    },
    'replaced by a foreign table that cannot be reached' => {
        change => <<'SQL',
ALTER TABLE work.jobs RENAME TO kept;
CREATE FOREIGN TABLE work.jobs (id int, status text, attempts int, max_attempts int, finished_at timestamptz,
    last_error text) SERVER files OPTIONS (filename '/nowhere/jobs.csv');
ALTER TABLE work.jobs OWNER TO jobs_owner
SQL
        mend  => 'DROP FOREIGN TABLE work.jobs; ALTER TABLE work.kept RENAME TO jobs',
        table => 'work.kept',
        tells => 'broken',
    },
    'owner changed' => {
        change => 'ALTER TABLE work.jobs OWNER TO CURRENT_USER',
        mend   => 'ALTER TABLE work.jobs OWNER TO jobs_owner',
        tells  => 'broken',
    },
    'owner changed, and watched anew' => {
        change => 'ALTER TABLE work.jobs OWNER TO CURRENT_USER',
        mend   => q(SELECT job_alerting.watch('work.jobs')),
        after  => q(ALTER TABLE work.jobs OWNER TO jobs_owner; SELECT job_alerting.watch('work.jobs')),
        tells  => 'broken',
    },
    'owner dropped' => {
        change => 'ALTER TABLE work.jobs OWNER TO CURRENT_USER; REVOKE ALL ON SCHEMA work FROM jobs_owner;'
          . 'DROP OWNED BY jobs_owner; DROP ROLE jobs_owner',
        mend => 'CREATE ROLE jobs_owner; GRANT USAGE ON SCHEMA work TO jobs_owner; ALTER TABLE work.jobs OWNER TO jobs_owner',
        tells => 'broken',
    },
    'row-level security forced, which hides all' => {
        change => 'ALTER TABLE work.jobs ENABLE ROW LEVEL SECURITY; ALTER TABLE work.jobs FORCE ROW LEVEL SECURITY',
        mend   => 'ALTER TABLE work.jobs DISABLE ROW LEVEL SECURITY; ALTER TABLE work.jobs NO FORCE ROW LEVEL SECURITY',
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

subtest 'a jobs table that changes: told once where it cannot be read, and nothing twice' => sub {
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
    is_deeply told('jobs'), [$old], 'whole';
    for my $kind (sort keys %changes) {
        my %case = (table => 'work.jobs', %{ $changes{$kind} });
        sql($case{change});
        my $new = fail_work($kind =~ /replaced/ ? 'work.kept' : $case{table});
        my %expected = (broken => ['broken'], new => [$new], nothing => []);
        is_deeply told('jobs'), $expected{ $case{tells} }, "$kind: $case{tells}";
        is defined queue()->{broken_since}, $case{tells} eq 'broken', "$kind: the queue says the same";
        my $other = fail_job();
        is_deeply told(), [$other], "$kind: others are told, and of this nothing twice";
        sql($case{mend});
        is_deeply told('jobs'), $case{tells} eq 'new' ? [] : [$new], "$kind: mended, what is new is told";
        is_deeply [ @{ queue() }{qw(last_error broken_since)} ], [ undef, undef ], "$kind: and the queue is whole";
        sql($case{after}) if $case{after};
        is_deeply told('jobs'), [], "$kind: then silence";
    }
    sql(q(SELECT job_alerting.unwatch('jobs', true)));
};

# ---------------------------------------------------------------- pg_dump

subtest 'who may read all data can dump it' => sub {
    sql('CREATE ROLE dumper LOGIN; GRANT pg_read_all_data TO dumper');
    local $ENV{PGUSER} = 'dumper';
    my ($out, $error) = ('', '');
    ok IPC::Run::run([ 'pg_dump', '-d', $node->connstr('postgres') ], '>', \$out, '2>', \$error), 'pg_dump';
    is $error, '', 'says nothing';
    like $out, qr/^COPY job_alerting\.$_ /m, "and has $_" for qw(queue failure digest);
};

# ---------------------------------------------------------------- the end of what began above

subtest 'a database whose round is under way is refused clearly, or taken by force' => sub {
    for my $wish (sort keys %wishes) {
        like $wishes{$wish}->error, qr/ERROR:  55006: .*is being accessed by other users\nDETAIL:  There is 1 other session/,
          "$wish: refused";
    }
    is $busy_stub->held, 1, 'the request is still held';
    is +($busy->psql('postgres', 'DROP DATABASE doomed WITH (FORCE)'))[2], '', 'WITH (FORCE) drops it';
    $busy_stub->mode('202');
    my $job = JobAlerting::fail_job($busy);
    my @requests = $busy_stub->wait_for(2);
    is_deeply [ JobAlerting::named_jobs($requests[1]) ], [$job], 'and other databases have their rounds';
    my @fatal = grep { /FATAL/ && !/terminating background worker/ } problems($busy_log->());
    cmp_ok scalar @fatal, '<=', 1, 'at most one worker came too late' or diag explain \@fatal;
};

$busy->stop;
$node->stop;
done_testing();
