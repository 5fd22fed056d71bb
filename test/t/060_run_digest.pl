# run_digest(): one round now, in a process of its own. Tests its rows, the calls that it refuses, and its
# independence of the caller's transaction, session settings, time-outs and end.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting qw(fail_job sql stall wait_for_lock_wait);

my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub, streaming => 1, conf => <<'CONF');
job_alerting.lock_timeout = '1s'
job_alerting.http_timeout = '60s'
max_connections = 40
max_worker_processes = 24
CONF
JobAlerting::create_jobs($node);

sub named {
    my ($number) = @_;
    return [ sort { $a <=> $b } JobAlerting::named_jobs(($stub->requests)[ $number - 1 ]) ];
}

sub is_silent {
    my ($name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is((JobAlerting::run_digest($node))[0]{outcome}, 'silent', $name // 'the next round is silent');
}

# The process ids of the sessions whose calls wait for their rounds.
sub callers {
    return map { $_->{pid} } JobAlerting::rows($node, undef, <<'SQL');
        SELECT pid FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND query LIKE '%run_digest%' AND pid <> pg_backend_pid()
SQL
}

sub is_refused {
    my ($call, $sqlstate, $message, $hint) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $error = $call->error;
    like $error, qr/ERROR:  $sqlstate: $message/, "refused: $message";
    like $error, qr/^HINT:  .*$hint/m, "with a hint: $hint" if $hint;
    return;
}

# ---------------------------------------------------------------- its rows

subtest 'a row for each configured channel' => sub {
    is_deeply [ JobAlerting::run_digest($node) ],
      [ { channel => 'sendgrid', digest_id => undef, failures => 0, outcome => 'silent', detail => undef } ],
      'silent: no digest';
    fail_job();
    fail_job();
    sql("ALTER DATABASE postgres SET job_alerting.channels = 'log, sendgrid'");
    my @rows = JobAlerting::run_digest($node);
    is_deeply [ map { $_->{channel} } @rows ], [ 'log', 'sendgrid' ], 'two channels, in their order';
    is_deeply [ map { $_->{outcome} } @rows ], [ 'accepted', 'accepted' ], 'both accepted';
    is_deeply [ map { $_->{failures} } @rows ], [ 2, 2 ], 'the failures of each';
    isnt $rows[0]{digest_id}, $rows[1]{digest_id}, 'each has its own digest';
    is $stub->count, 1, 'one mail';

    sql("ALTER DATABASE postgres SET job_alerting.channels = ''");
    my $job = fail_job();
    is_deeply [ JobAlerting::run_digest($node) ], [], 'no channel, no row';
    is sql("SELECT count(*) FROM job_alerting.failure WHERE job_id = '$job'"), 1, 'but the round records';
    sql('ALTER DATABASE postgres RESET job_alerting.channels');
    is +(JobAlerting::run_digest($node))[0]{failures}, 1, 'with a channel again, it sends';
};

subtest 'a row for each digest that was tried or waits' => sub {
    my @told = map { +{ channel => 'sendgrid', failures => 1, detail => undef, %$_ } } (
        { outcome => 'accepted' }, { outcome => 'accepted' });
    my $rows_are = sub {
        my ($rows, @wanted) = @_;
        my @found = map { my %row = %$_; delete $row{digest_id}; \%row } @$rows;
        is_deeply \@found, \@wanted, join ', ', map { $_->{outcome} } @wanted or diag explain $rows;
    };
    $stub->modes('503', '202');
    fail_job();
    my ($doubtful) = JobAlerting::run_digest($node);
    is $doubtful->{outcome}, 'in_doubt', 'a digest is in doubt';
    fail_job();
    my @rows = JobAlerting::run_digest($node);
    $rows_are->(\@rows, @told);
    is $rows[0]{digest_id}, $doubtful->{digest_id}, 'the digest in doubt came first';

    JobAlerting::configure($node, on_in_doubt => 'hold');
    $stub->modes('503', '503', '202');
    my @doubt;
    for my $held (0 .. 1) {
        fail_job();
        @rows = JobAlerting::run_digest($node);
        push @doubt, { channel => 'sendgrid', failures => 1, outcome => 'in_doubt', detail => $rows[-1]{detail} };
        $rows_are->(\@rows, @doubt);
    }
    fail_job();
    $rows_are->([ JobAlerting::run_digest($node) ], @doubt, $told[0]);
    $rows_are->([ JobAlerting::run_digest($node) ], @doubt);
    my $lost = q(SELECT job_alerting.settle(id, true) FROM job_alerting.digest WHERE held = 'in doubt');
    is sql($lost), "accepted\naccepted", 'both are settled as arrived';
    JobAlerting::configure($node, on_in_doubt => 'resend');
    is_silent();
};

subtest 'the number of rows is not limited' => sub {
    my $many = 300;
    sql(<<"SQL");
        INSERT INTO job_alerting.digest (channel, first_failure, last_failure, state, held, error)
        SELECT 'sendgrid', 1000000 + i, 1000000 + i, 'in_doubt', 'copy', repeat('why ', 500)
        FROM generate_series(1, $many) i
SQL
    my @rows = JobAlerting::run_digest($node);
    is scalar @rows, $many, "$many rows";
    is length $rows[-1]{detail}, 2000, 'no detail is cut off';
    sql(q(DELETE FROM job_alerting.digest WHERE held = 'copy'));
};

# ---------------------------------------------------------------- the caller's transaction

subtest "the caller's rollback changes nothing" => sub {
    my $before = $stub->count;
    my $job = fail_job();
    my $unborn = sql(q(SELECT nextval('research_jobs_id_seq') + 1));
    my $insert = "INSERT INTO research_jobs (source, job_type, status, finished_at) VALUES ('x', 'y', 'dead', now())";
    my $call = JobAlerting::begin_digest($node, before => [ 'BEGIN', $insert ], after => ['ROLLBACK']);
    is +($call->rows)[0]{outcome}, 'accepted', 'accepted';
    is $stub->count, $before + 1, 'the mail is sent';
    is_deeply named($before + 1), [$job], 'the mail lists committed failures only';
    is sql("SELECT count(*) FROM job_alerting.failure WHERE job_id = '$job'"), 1, 'the ledger has the failure';
    is_silent();
};

subtest 'a caller that holds the jobs table gets an answer' => sub {
    my $job = fail_job();
    my $call = JobAlerting::begin_digest($node, before => [ 'BEGIN', 'LOCK TABLE research_jobs IN ACCESS EXCLUSIVE MODE' ]);
    my ($row) = $call->rows;
    cmp_ok $call->seconds, '<', 1 + 10, 'after lock_timeout';
    is $row->{outcome}, 'silent', 'nothing could be read';
    like $row->{detail}, qr/queue research_jobs cannot be read: .*lock timeout/, 'the detail names the queue';
    is_deeply [ JobAlerting::reported($node, $stub) ], [$job], 'the next round reports the failure';
    is sql('SELECT last_error FROM job_alerting.queue'), '', 'the queue can be read';
};

subtest 'a caller that holds the ledger gets an answer, too' => sub {
    my $job = fail_job();
    for my $table (qw(queue failure digest)) {
        my $call = JobAlerting::begin_digest($node,
            before => [ 'BEGIN', "LOCK TABLE job_alerting.$table IN ACCESS EXCLUSIVE MODE" ]);
        $call->finish;
        cmp_ok $call->seconds, '<', 1 + 10, "$table: after lock_timeout";
        like $call->out . $call->error, qr/lock timeout/, "$table: the answer says why";
    }
    is_deeply [ JobAlerting::reported($node, $stub) ], [$job], 'the next round reports the failure';
};

# ---------------------------------------------------------------- at the same time

subtest 'sixteen calls at once send one mail, and all get an answer' => sub {
    my $before = $stub->count;
    my $job = fail_job();
    $stub->modes('stall', '202');
    my @calls = map { JobAlerting::begin_digest($node) } 1 .. 16;
    JobAlerting::poll(sub { callers() == 16 }, 30, 'all to be under way');
    $stub->release;
    my @rows = map { $_->rows } @calls;
    is scalar @rows, 16, 'sixteen answers';
    my %outcomes;
    $outcomes{ $_->{outcome} }++ for @rows;
    is_deeply \%outcomes, { accepted => 1, silent => 15 }, 'one call returns the mail';
    is $stub->count, $before + 1, 'one request';
    is_deeply named($before + 1), [$job], 'the mail lists the failure';
};

subtest 'a call waits for the round in progress, and then does its own' => sub {
    my $stalled = stall($stub);
    my $new = fail_job();
    my $second = JobAlerting::begin_digest($node);
    my $workers = q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'job_alerting worker');
    JobAlerting::poll(sub { sql($workers) == 2 }, 10, 'the second worker');
    wait_for_lock_wait();
    is $stub->count, $stalled->{before} + 1, 'nothing is sent meanwhile';
    ok $second->running, 'it waits';

    $stub->release;
    is +($stalled->{call}->rows)[0]{outcome}, 'accepted', 'the outcome of the first call';
    is +($second->rows)[0]{outcome}, 'accepted', 'the outcome of the second call';
    is_deeply [ named($stalled->{before} + 1), named($stalled->{before} + 2) ], [ [ $stalled->{job} ], [$new] ],
      'each with its own failures';
};

# ---------------------------------------------------------------- the caller's end

for my $way ('cancel', 'terminate') {
    subtest "pg_${way}_backend() ends the caller's wait, not the round" => sub {
        my $stalled = stall($stub);
        my ($pid) = callers();
        sql("SELECT pg_${way}_backend($pid)");
        like $stalled->{call}->error, $way eq 'cancel' ? qr/57014/ : qr/57P01/, 'the wait ends';
        is $stub->held, 1, 'while the request is held';
        is JobAlerting::worker($node), $stalled->{worker}, 'the worker goes on';
        $stub->release;
        my $waiting = q(SELECT count(*) FROM job_alerting.digest WHERE state <> 'accepted');
        ok JobAlerting::poll(sub { sql($waiting) eq '0' }, 10, 'the round to end'), 'the round finishes';
        is_silent();
        is $stub->count, $stalled->{before} + 1, 'one request';
    };
}

subtest 'statement_timeout ends the wait, not the round' => sub {
    my $stalled = stall($stub, before => [q(SET statement_timeout = '1s')]);
    like $stalled->{call}->error, qr/57014.*statement timeout/, 'the wait ends';
    is $stub->held, 1, 'while the request is held';
    $stub->release;
    is_silent('the next call finds the round over');
    is $stub->count, $stalled->{before} + 1, 'one request';
};

subtest 'callers that give up during a round leave no worker, and the round goes on' => sub {
    my $stalled = stall($stub);
    my $since = sql('SELECT clock_timestamp()');
    my @calls = map { JobAlerting::begin_digest($node, before => [q(SET statement_timeout = '500ms')]) } 1 .. 6;
    like $_->error, qr/57014/, 'a caller gives up' for @calls;
    my $workers = q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'job_alerting worker');
    ok JobAlerting::poll(sub { sql($workers) == 1 }, 10, 'their workers to end'), 'their workers end';
    ok $stalled->{call}->running, 'the round goes on';
    $stub->release;
    is +($stalled->{call}->rows)[0]{outcome}, 'accepted', 'it ends normally';
    is $stub->count, $stalled->{before} + 1, 'one request';
    is_silent();
};

# ---------------------------------------------------------------- settings

subtest "the caller's session settings do not affect the round" => sub {
    my $before = $stub->count;
    my $job = fail_job();
    sql('CREATE SCHEMA decoy; CREATE TABLE decoy.research_jobs (LIKE public.research_jobs);'
          . 'CREATE FUNCTION decoy.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT NULL::timestamptz $$');
    my $call = JobAlerting::begin_digest($node, before => [
        q(SET search_path = decoy, pg_catalog),
        q(SET job_alerting.channels = 'log'),
        q(SET job_alerting.mail_to = 'session@example.com'),
        q(SET job_alerting.job_url = 'https://session.example.com/{job_id}'),
        q(SET job_alerting.max_listed = 0),
        q(SET TimeZone = 'Asia/Tokyo'),
        q(SET DateStyle = 'SQL, DMY'),
        q(SET session_replication_role = replica),
    ]);
    is_deeply [ map { "$_->{channel} $_->{outcome}" } $call->rows ], ['sendgrid accepted'], 'channels: those of the server';
    my $request = ($stub->requests)[$before];
    is_deeply named($before + 1), [$job], 'the job is listed';
    is $request->{json}{personalizations}[0]{to}[0]{email}, 'ops@example.com', 'mail_to: that of the server';
    unlike $request->{body}, qr/session\.example\.com/, 'job_url: that of the server';
    unlike $request->{body}, qr/\+09:00/, "TimeZone: not the session's";
    sql('DROP SCHEMA decoy CASCADE');
};

subtest 'settings that would stop a session do not stop the round' => sub {
    my %setting = (
        default_transaction_read_only       => 'on',
        default_transaction_isolation       => 'serializable',
        default_transaction_deferrable      => 'on',
        statement_timeout                   => '1ms',
        lock_timeout                        => '1ms',
        idle_in_transaction_session_timeout => '1ms',
        idle_session_timeout                => '1ms',
        search_path                         => 'nowhere',
        DateStyle                           => 'SQL, DMY',
        IntervalStyle                       => 'sql_standard',
        row_security                        => 'off',
        synchronous_commit                  => 'off',
    );
    $setting{transaction_timeout} = '1ms' if $node->pg_version >= 17;
    # The test's own sessions need other values.
    local $ENV{PGOPTIONS} = join ' ', '-c default_transaction_read_only=off', map { "-c $_=0" } grep { /_timeout$/ } keys %setting;
    for my $whose ('DATABASE postgres', 'ROLE ALL', 'ROLE CURRENT_USER') {
        my $job = fail_job();
        sql(join ';', map { "ALTER $whose SET $_ = '$setting{$_}'" } sort keys %setting);
        is_deeply [ JobAlerting::reported($node, $stub) ], [$job], "of $whose";
        sql("ALTER $whose RESET ALL");
    }
};

subtest 'settings of the server and the database count, settings of a role do not' => sub {
    my $before = $stub->count;
    my @job_url = map { "job_alerting.job_url = 'https://$_.example.com/'" } qw(role role-here database);
    sql("ALTER ROLE CURRENT_USER SET $job_url[0]; ALTER ROLE CURRENT_USER IN DATABASE postgres SET $job_url[1];"
          . "ALTER DATABASE postgres SET $job_url[2]");
    sql("ALTER ROLE CURRENT_USER SET job_alerting.channels = 'log';"
          . "ALTER ROLE CURRENT_USER SET job_alerting.mail_to = 'role\@example.com';"
          . "ALTER ROLE CURRENT_USER SET TimeZone = 'Asia/Tokyo'; ALTER DATABASE postgres SET TimeZone = 'Asia/Kolkata'");
    my $job = fail_job();
    is_deeply [ map { "$_->{channel} $_->{outcome}" } JobAlerting::run_digest($node) ], ['sendgrid accepted'],
      'channels: those of the server';
    my $json = ($stub->requests)[$before]{json};
    my $text = $json->{content}[0]{value};
    is $json->{personalizations}[0]{to}[0]{email}, 'ops@example.com', 'mail_to: that of the server';
    like $text, qr{https://database\.example\.com/}, 'job_url: that of the database';
    like $text, qr/\+05:30/, 'TimeZone: that of the database';
    is_deeply named($before + 1), [$job], 'the mail lists the failure';
    sql("ALTER $_ RESET ALL") for 'ROLE CURRENT_USER', 'ROLE CURRENT_USER IN DATABASE postgres', 'DATABASE postgres';
};

# ---------------------------------------------------------------- refused calls

subtest 'refused: no queue is watched' => sub {
    sql(q(SELECT job_alerting.unwatch('research_jobs')));
    is_refused(JobAlerting::begin_digest($node), '55000', 'no queue is watched', qr/job_alerting\.watch\(/);
    sql(q(SELECT job_alerting.watch('public.research_jobs')));
    is_silent('watched again, nothing is reported twice');
};

subtest 'refused: in the transaction that created the extension' => sub {
    sql('CREATE DATABASE fresh');
    JobAlerting::create_jobs_table($node, 'fresh');
    my $call = JobAlerting::begin_digest($node, db => 'fresh', before => [ 'BEGIN', 'CREATE EXTENSION job_alerting' ]);
    is_refused($call, '55000', 'run_digest\(\) cannot be called in the transaction that created the extension', qr/Commit/);
    sql('CREATE EXTENSION job_alerting', 'fresh');
    is +(JobAlerting::run_digest($node, 'fresh'))[0]{outcome}, 'silent', 'after the commit it works';
};

subtest 'refused: in a read-only transaction' => sub {
    is_refused(JobAlerting::begin_digest($node, before => ['BEGIN READ ONLY']), '25006',
        'cannot execute run_digest\(\) in a read-only transaction', qr/read-write/);
};

subtest 'refused: a role without EXECUTE' => sub {
    sql('CREATE ROLE outsider LOGIN');
    my $as_outsider = ['SET SESSION AUTHORIZATION outsider'];
    is_refused(JobAlerting::begin_digest($node, before => $as_outsider), '42501', 'permission denied for schema');
    sql('GRANT USAGE ON SCHEMA job_alerting TO outsider');
    is_refused(JobAlerting::begin_digest($node, before => $as_outsider), '42501', 'permission denied for function run_digest');
    sql('GRANT EXECUTE ON FUNCTION job_alerting.run_digest() TO outsider');
    my $job = fail_job();
    my $before = $stub->count;
    is +(JobAlerting::begin_digest($node, before => $as_outsider)->rows)[0]{outcome}, 'accepted', 'with it, it works';
    is_deeply named($before + 1), [$job], 'the round reads tables that the role cannot read';
};

subtest 'refused: during recovery' => sub {
    $node->backup('backup');
    my $standby = PostgreSQL::Test::Cluster->new('standby');
    $standby->init_from_backup($node, 'backup', has_streaming => 1);
    $standby->start;
    is_refused(JobAlerting::begin_digest($standby), '25006', 'run_digest\(\) cannot be called during recovery', qr/primary/);
    $standby->stop('immediate');
};

subtest 'refused: no free worker slot' => sub {
    $node->append_conf('postgresql.conf', "max_worker_processes = 3\nmax_logical_replication_workers = 0");
    JobAlerting::restart($node);
    # The launcher has one slot; these calls have the others.
    my $stalled = stall($stub);
    my $waiting = JobAlerting::begin_digest($node);
    wait_for_lock_wait();

    my $call = JobAlerting::begin_digest($node);
    is_refused($call, '53000', 'no background worker slot became free within 5 seconds', qr/max_worker_processes/);
    cmp_ok $call->seconds, '>', 4, 'the call waits for a slot';
    cmp_ok $call->seconds, '<', 5 + 10, 'but not for long';

    my $patient = JobAlerting::begin_digest($node);
    $stub->release;
    is +($_->rows)[0]{outcome} =~ /accepted|silent/, 1, 'the others get their answers'
      for $stalled->{call}, $waiting, $patient;
};

# ---------------------------------------------------------------- beside logical replication

subtest 'a publication of all tables does not disturb rounds' => sub {
    sql('CREATE DATABASE published');
    sql('CREATE PUBLICATION everything FOR ALL TABLES', 'published');
    JobAlerting::create_jobs($node, 'published');
    my $job = JobAlerting::fail_job($node, db => 'published');
    is_deeply [ JobAlerting::reported($node, $stub, db => 'published') ], [$job], 'the failure is reported';
    is_deeply [ JobAlerting::reported($node, $stub, db => 'published') ], [], 'it is reported once';
};

# ---------------------------------------------------------------- without preloading

subtest 'run_digest() works without shared_preload_libraries' => sub {
    my $plain = JobAlerting::node('plain', stub => $stub, preload => 0);
    JobAlerting::create_jobs($plain);
    my $before = $stub->count;
    my $job = JobAlerting::fail_job($plain);
    is +(JobAlerting::run_digest($plain))[0]{outcome}, 'accepted', 'accepted';
    is_deeply named($before + 1), [$job], 'the mail lists the failure';
    is +(JobAlerting::run_digest($plain))[0]{outcome}, 'silent', 'the next round is silent';
    $plain->stop;
};

$node->stop;
done_testing();
