# Load: other extensions that inspect every statement or have workers, fifty callers at once, calls in loops
# and triggers, many signals, shutdowns at bad moments, no free connection, process or memory, and many
# databases.

use strict;
use warnings;

use FindBin;
use POSIX ();
use Test::More;
use Time::HiRes ();

use lib "$FindBin::Bin/../support";
use JobAlerting qw(fail_job launcher log_from_now problems sql stall wait_until_idle);

my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub, streaming => 1, conf => <<'CONF');
job_alerting.lock_timeout = '1s'
job_alerting.http_timeout = '60s'
max_connections = 70
autovacuum = off
jit = off
CONF
JobAlerting::create_jobs($node);

sub told {
    my ($db) = @_;
    return [ JobAlerting::reported($node, $stub, db => $db) ];
}

sub named {
    my ($number) = @_;
    return [ JobAlerting::named_jobs(($stub->requests)[ $number - 1 ]) ];
}

sub started {
    return sql('SELECT pg_postmaster_start_time()');
}

# The time of a fast shutdown, in seconds.
sub seconds_to_stop {
    my $start = Time::HiRes::time();
    $node->stop('fast');
    return Time::HiRes::time() - $start;
}

# ---------------------------------------------------------------- many databases

# They are created, and have their rounds, during the rest of this test.
my $many_stub = JobAlerting::Stub->start;
my $many = JobAlerting::node('many', stub => $many_stub, interval => '1s', conf => <<'CONF');
autovacuum = off
# Logs the start and the end of each worker.
log_min_messages = debug1
CONF
my @watched = qw(postgres first second);
my @bare = map { "bare$_" } 1 .. 17;
$many->safe_psql('postgres', "CREATE DATABASE $_") for @watched[ 1, 2 ];
JobAlerting::create_jobs($many, $_) for @watched;
my $making = JobAlerting::Call->start($many, 'postgres', map { "CREATE DATABASE $_" } @bare);

# ---------------------------------------------------------------- beside other extensions

# The number of statements that pg_stat_statements has of this database.
sub statements {
    return sql('SELECT count(*) FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())');
}

subtest 'beside pg_stat_statements, auto_explain and pg_cron, in any order' => sub {
    my @cron = JobAlerting::Server::has_extension('pg_cron') ? 'pg_cron' : ();
    diag 'pg_cron is not installed: testing without it' if !@cron;
    $node->append_conf('postgresql.conf', <<'CONF');
pg_stat_statements.track = all
auto_explain.log_min_duration = 0
auto_explain.log_analyze = on
auto_explain.log_buffers = on
auto_explain.log_triggers = on
auto_explain.log_verbose = on
auto_explain.log_nested_statements = on
CONF
    for my $libraries (
        [ 'job_alerting', 'pg_stat_statements', 'auto_explain', @cron ],
        [ 'pg_stat_statements', @cron, 'auto_explain', 'job_alerting' ],
        [ @cron, 'auto_explain', 'job_alerting', 'pg_stat_statements' ],
        ) {
        my $order = join ', ', @$libraries;
        $node->append_conf('postgresql.conf', "shared_preload_libraries = '$order'");
        my $logged = log_from_now();
        JobAlerting::restart($node);
        my $job = fail_job();
        is_deeply told(), [$job], $order;
        like $logged->(), qr/\[job_alerting worker\].*LOG: +duration: .*plan:/, 'auto_explain logs the statements of a round';
        my @problems = grep { /\b(?:WARNING|ERROR|PANIC): |\Q$JobAlerting::KEY\E/ } split /\n/, $logged->();
        is_deeply \@problems, [], 'the log has no problem and no key';
    }
    $node->append_conf('postgresql.conf', 'auto_explain.log_min_duration = -1');
    $node->reload;
    sql('CREATE EXTENSION pg_stat_statements');
    my $rounds = 'SELECT count(*) FROM (SELECT job_alerting.run_digest() FROM generate_series(1, 20)) r';
    my $twenty = sub { fail_job(); return sql($rounds) };
    $twenty->() for 1 .. 2;
    statements();
    my $before = statements();
    is $twenty->(), 20, 'twenty rounds in one statement' for 1 .. 5;
    is statements(), $before, 'after a hundred more rounds, pg_stat_statements has no more statements';
    $node->append_conf('postgresql.conf', "shared_preload_libraries = 'job_alerting'");
    JobAlerting::restart($node);
};

# ---------------------------------------------------------------- callers

subtest 'fifty callers at once: one mail, and each gets an answer' => sub {
    my $before = $stub->count;
    my $job = fail_job();
    my $script = $node->basedir . '/calls.sql';
    PostgreSQL::Test::Utils::append_to_file($script, "SELECT * FROM job_alerting.run_digest();\n");
    my @pgbench = ('pgbench', '-n', '-c', 50, '-j', 2, '-t', 1, '-f', $script, $node->connstr('postgres'));
    my ($out, $error) = ('', '');
    IPC::Run::run(\@pgbench, '>', \$out, '2>', \$error, IPC::Run::timeout(60));
    my ($answered) = $out =~ m{number of transactions actually processed: (\d+)/50};
    # There are eight slots. On a slow machine, a caller that finds none for 5 s gets an error.
    my $refused = () = $error =~ /ERROR:  no background worker slot became free/g;
    is $answered + $refused, 50, "$answered calls have made a round, $refused calls are refused" or diag $error;
    is $stub->count, $before + 1, 'one mail';
    is_deeply named($before + 1), [$job], 'the mail lists the failure';
};

subtest 'calls in a loop, in a trigger, in an exception block' => sub {
    my $before = $stub->count;
    my $job = fail_job();
    sql(<<'SQL');
DO $$ BEGIN
    FOR i IN 1 .. 10 LOOP
        BEGIN
            PERFORM job_alerting.run_digest();
            RAISE division_by_zero;
        EXCEPTION WHEN division_by_zero THEN
            NULL;
        END;
    END LOOP;
END $$
SQL
    is $stub->count, $before + 1, 'ten rounds in a loop: one mail';
    is_deeply named($before + 1), [$job], 'the mail lists the failure';
    sql(<<'SQL');
CREATE FUNCTION alert() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM job_alerting.run_digest(); RETURN NULL; END $$;
CREATE TRIGGER alert AFTER INSERT ON research_jobs FOR EACH ROW EXECUTE FUNCTION alert();
SQL
    my $unseen = fail_job();
    is $stub->count, $before + 1, 'the round of a trigger comes before the commit and sends nothing';
    my $next = fail_job();
    is_deeply named($before + 2), [$unseen], 'the next round reports it';
    sql('DROP TRIGGER alert ON research_jobs');
    is_deeply told(), [$next], 'a round after DROP TRIGGER reports the last';
};

subtest 'refused: in a parallel plan, and where a materialized view is filled' => sub {
    sql(<<'SQL');
CREATE FUNCTION lies() RETURNS text LANGUAGE plpgsql PARALLEL SAFE AS
    $$ BEGIN RETURN (SELECT outcome FROM job_alerting.run_digest()); END $$;
CREATE TABLE many AS SELECT n FROM generate_series(1, 10) n;
CREATE MATERIALIZED VIEW filled AS SELECT lies() WITH NO DATA;
SQL
    my $job = fail_job();
    my %refused = (
        "SET $JobAlerting::Server::PARALLEL = on; SELECT lies() FROM many" =>
          qr/25000: cannot execute run_digest\(\) during a parallel operation/,
        'REFRESH MATERIALIZED VIEW filled' => qr/42501: run_digest\(\) cannot be called in a security-restricted operation/,
    );
    for my $statement (sort keys %refused) {
        my $call = JobAlerting::Call->start($node, 'postgres', $statement);
        like $call->error, qr/ERROR:  $refused{$statement}/, $statement;
    }
    is_deeply told(), [$job], 'they have reported nothing';
    sql('DROP MATERIALIZED VIEW filled; DROP TABLE many; DROP FUNCTION lies');
};

subtest 'a caller whose transaction has written the same row gets an answer' => sub {
    my $job = fail_job(finished_at => '2026-01-01 00:00:00+00');
    my $row = "INSERT INTO job_alerting.failure (queue, job_id, occurrence)"
      . " VALUES ('research_jobs', '$job', '2026-01-01 00:00:00')";
    my $call = JobAlerting::begin_digest($node, before => [ 'BEGIN', $row ], after => ['ROLLBACK']);
    my ($answer) = $call->rows;
    like $answer->{detail}, qr/failures cannot be recorded: .*lock timeout/, 'the detail says that the ledger was locked';
    cmp_ok $call->seconds, '<', 1 + 10, 'after lock_timeout';
    is_deeply told(), [$job], 'the next round reports the failure';
};

subtest 'the round and the session of a killed caller end' => sub {
    my $stalled = stall($stub);
    my $callers = q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid());
    is sql($callers), 1, 'the call waits';
    $stalled->{call}{psql}->signal('KILL');
    $stalled->{call}->finish;
    is JobAlerting::worker($node), $stalled->{worker}, 'the round goes on without the caller';
    $stub->release;
    ok JobAlerting::poll(sub { sql($callers) eq '0' }, 10, 'the end of its session'), 'its session ends';
    wait_until_idle();
    is sql(q(SELECT count(*) FROM job_alerting.digest WHERE state <> 'accepted')), 0, 'the mail is accepted';
    is_deeply told(), [], 'nothing is reported twice';
};

# ---------------------------------------------------------------- signals

subtest 'many signals lose nothing' => sub {
    my $started = started();
    my $stalled = stall($stub);
    my @pids = (launcher(), $stalled->{worker});
    for (1 .. 500) {
        kill $_ => @pids for 'HUP', 'USR1';
    }
    is_deeply [ launcher(), JobAlerting::worker($node) ], \@pids, 'both processes live on after a thousand signals that end nothing';
    $stub->release;
    is +($stalled->{call}->rows)[0]{outcome}, 'accepted', 'the round is accepted';

    $stalled = stall($stub);
    @pids = (launcher(), $stalled->{worker});
    for my $signal (('HUP', 'USR1', 'TERM') x 334) {
        @pids = grep { kill 0, $_ } @pids or last;
        kill $signal => @pids;
    }
    $stalled->{call}->finish;
    ok JobAlerting::poll(sub { launcher() }, 15, 'the launcher'), 'terminated, the launcher comes back';
    is_deeply told(), [ $stalled->{job} ], 'the digest in doubt comes again';
    is +($stub->requests)[-1]{body}, ($stub->requests)[-2]{body}, 'byte for byte';
    is_deeply told(), [], 'nothing is reported twice';
    is started(), $started, 'the server was not restarted';
};

# ---------------------------------------------------------------- shutdowns

subtest 'a fast shutdown while a digest waits for its next try' => sub {
    my $job = fail_job();
    $stub->modes('401', '202');
    is +(JobAlerting::run_digest($node))[0]{outcome}, 'pending', 'the call waits';
    cmp_ok seconds_to_stop(), '<', 20, 'the server stops, and does not wait a minute for that try';
    $node->start;
    is_deeply told(), [$job], 'the digest is delivered after the start';
};

subtest 'a silent synchronous standby holds up neither rounds nor a shutdown' => sub {
    $node->append_conf('postgresql.conf', "synchronous_standby_names = 'nobody'");
    $node->reload;
    # Other sessions wait for it.
    my $probe = JobAlerting::Call->start($node, undef, q(SELECT pg_logical_emit_message(true, 'probe', '')));
    my $waits = q(SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep');
    JobAlerting::poll(sub { sql($waits) eq '1' }, 10, 'a session to wait for the standby');
    # The job's transaction must not wait, or it would not commit.
    my $job = sql(q(SET synchronous_commit = local; INSERT INTO research_jobs (source, job_type, status, finished_at)
        VALUES ('apple', 'refresh_catalog', 'dead', now()) RETURNING id));
    is_deeply told(), [$job], 'a round ends, and reports the failure';
    is sql($waits), 1, 'the other session still waits';
    cmp_ok seconds_to_stop(), '<', 20, 'the server stops';
    $probe->finish;
    $node->append_conf('postgresql.conf', "synchronous_standby_names = ''");
    $node->start;
    is sql('SELECT state FROM job_alerting.digest ORDER BY id DESC LIMIT 1'), 'accepted', 'the answer is settled';
    is_deeply told(), [], 'nothing is reported twice';
};

# ---------------------------------------------------------------- exhausted resources

subtest 'clients that use all connections do not stop rounds' => sub {
    $node->append_conf('postgresql.conf', 'max_connections = 8');
    JobAlerting::restart($node);
    JobAlerting::configure($node, interval => '1s');
    my $session = $node->background_psql('postgres', on_error_stop => 1);
    my @others = map { JobAlerting::Call->start($node, undef, 'SELECT pg_sleep(600)') } 1 .. 7;
    JobAlerting::poll(sub { $session->query_safe(q(SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep')) eq '7' },
        10, 'the connections');
    like +JobAlerting::Call->start($node, undef, 'SELECT 1')->error, qr/too many clients/, 'another client is refused';
    my $before = $stub->count;
    my $job = $session->query_safe(<<'SQL');
INSERT INTO research_jobs (source, job_type, status, finished_at) VALUES ('x', 'y', 'dead', now()) RETURNING id
SQL
    $stub->wait_for($before + 1);
    is_deeply named($before + 1), [$job], 'a failure is reported';
    $session->query_safe(q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'));
    $session->quit;
    $_->finish for @others;
    JobAlerting::configure($node, interval => '1h');
    wait_until_idle();
};

# The address space of a process, in bytes.
sub address_space {
    my ($pid) = @_;
    my ($kilobytes) = PostgreSQL::Test::Utils::slurp_file("/proc/$pid/status") =~ /^VmPeak:\s*(\d+) kB/m;
    return $kilobytes * 1024;
}

# Limits a resource of the processes that the postmaster starts from now on. Without a limit: the maximum.
sub limit {
    my ($resource, $limit) = @_;
    my ($postmaster) = PostgreSQL::Test::Utils::slurp_file($node->data_dir . '/postmaster.pid') =~ /\A(\d+)/;
    my @limits = ('prlimit', '--pid', $postmaster);
    ($limit) = PostgreSQL::Test::Utils::run_command([ @limits, "--$resource", qw(--noheadings --output HARD) ])
      if !defined $limit;
    return PostgreSQL::Test::Utils::system_or_bail(@limits, "--$resource=$limit:");
}

subtest 'where no process can be started, a caller gets an error, and the launcher tries again' => sub {
    my $session = $node->background_psql('postgres', on_error_stop => 0);
    my $before = $stub->count;
    my $logged = log_from_now();
    my $failed_starts = sub { scalar(() = $logged->() =~ /$JobAlerting::Server::NO_PROCESS/g) };
    limit('nproc', 1);
    my $job = $session->query_safe(<<'SQL');
INSERT INTO research_jobs (source, job_type, status, finished_at) VALUES ('x', 'y', 'dead', now()) RETURNING id
SQL
    $session->query('SELECT job_alerting.run_digest()');
    like $session->{stderr}, qr/ERROR: +the round was terminated before it finished/, 'a call by hand gets an error';
    $session->{stderr} = '';
    my $by_hand = $failed_starts->();
    $session->query_safe(q(ALTER SYSTEM SET job_alerting.interval = '1s'));
    $node->reload;
    JobAlerting::poll(sub { $failed_starts->() > $by_hand }, 10, 'the launcher to try');
    limit('nproc');
    $stub->wait_for($before + 1);
    is_deeply named($before + 1), [$job], 'the failure is reported when a process can be started';
    $session->quit;
    JobAlerting::configure($node, interval => '1h');
    wait_until_idle();
};

subtest 'a worker that runs out of memory gives up only that queue' => sub {
    my $started = started();
    my $stalled = stall($stub);
    my $usual = address_space($stalled->{worker});
    $stub->release;
    $stalled->{call}->finish;
    sql(<<'SQL');
CREATE TABLE huge AS SELECT repeat(md5(n::text), 25) AS job_id FROM generate_series(1, 30000) n;
SELECT job_alerting.watch_query('huge', 'SELECT job_id, now() AS failed_at
    FROM unnest((SELECT array_agg(h.job_id) FROM public.huge h)) job_id');
SQL
    JobAlerting::run_digest($node);
    is sql(q(SELECT count(*) FROM job_alerting.failure WHERE queue = 'huge')), 30000, 'a round with enough memory records all';
    # The query needs 25 MB, and everything else in a round less.
    limit('as', $usual + 12 * 1024 * 1024);
    my $job = fail_job();
    my $before = $stub->count;
    my ($row) = JobAlerting::run_digest($node);
    like $row->{detail}, qr/queue huge cannot be read: out of memory/, 'the detail of a round without memory says so';
    is $stub->count, $before + 1, 'one mail';
    is_deeply [ grep { /^\d+$/ } @{ named($before + 1) } ], [$job], 'it lists the failure of the other queue';
    limit('as');
    is_deeply told(), [], 'with memory again, nothing is reported twice';
    is sql(q(SELECT count(*) FROM job_alerting.queue WHERE broken_since IS NOT NULL)), 0, 'the queue can be read';
    is started(), $started, 'the server was not restarted';
    sql(q(SELECT job_alerting.unwatch('huge', true); DROP TABLE huge));
};

# ---------------------------------------------------------------- idle time

subtest 'between rounds there is no statement, no connection, and no wake-up' => sub {
    sql('CREATE DATABASE idle');
    JobAlerting::create_jobs($node, 'idle');
    fail_job(db => 'idle');
    JobAlerting::run_digest($node, 'idle');
    wait_until_idle();
    my $launcher = launcher();
    my $activity = sub {
        my $switches = PostgreSQL::Test::Utils::slurp_file("/proc/$launcher/status") =~ s/.*^(voluntary_ctxt_switches:\s*\d+).*/$1/msr;
        return sql(q(SELECT numbackends, xact_commit + xact_rollback, tup_returned, sessions FROM pg_stat_database
            WHERE datname = 'idle')) . " $switches";
    };
    JobAlerting::poll(sub { $activity->() =~ /\A0\|/ }, 10, 'the end of all sessions');
    my $before = $activity->();
    Time::HiRes::sleep(3);
    is $activity->(), $before, 'nothing for three seconds';
};

# ---------------------------------------------------------------- the many databases, begun above

# Starts of workers (time in seconds since midnight, database) and ends of workers (time only).
sub worker_events {
    my @events;
    for (split /\n/, PostgreSQL::Test::Utils::slurp_file($many->logfile)) {
        my ($h, $m, $s) = /^\S+ (\d+):(\d+):([\d.]+) / or next;
        my $time = 3600 * $h + 60 * $m + $s;
        push @events, { time => $time, database => $1 } if /starting background worker process "job_alerting worker for (\w+)"/;
        push @events, { time => $time } if /background worker "job_alerting worker" \(PID \d+\) exited/;
    }
    return @events;
}

sub looks {
    my ($database) = @_;
    return map { $_->{time} } grep { ($_->{database} // '') eq $database } worker_events();
}

subtest 'twenty databases: rounds in those with the extension, one worker at a time, and little work' => sub {
    is $making->error, '', 'twenty databases';
    JobAlerting::poll(sub { looks($bare[-1]) >= 2 }, 30, 'the launcher to have looked at the last of them twice');
    my %job = map { $_ => JobAlerting::fail_job($many, db => $_) } @watched;
    $many_stub->wait_for(3);
    my %told = map {
        my ($database) = $_->{json}{subject} =~ m{ failed in many/(\w+):};
        ($database => JobAlerting::named_jobs($_))
    } $many_stub->requests;
    is_deeply \%told, \%job, 'the failures of the three watched databases are reported';

    my ($most, $now) = (0, 0);
    for my $event (worker_events()) {
        $now += $event->{database} ? 1 : -1;
        $most = $now if $now > $most;
    }
    is $most, 1, 'one worker at a time';
    my ($shortest) = sort { $a <=> $b } map {
        my @looks = looks($_);
        map { my $gap = $looks[$_] - $looks[ $_ - 1 ]; $gap < 0 ? $gap + 86400 : $gap } 1 .. $#looks
    } @bare;
    cmp_ok $shortest, '>', 9, 'a database without the extension gets a worker at most every 10 s';

    my ($launcher) = JobAlerting::rows($many, undef, <<'SQL');
        SELECT pid, extract(epoch FROM now() - backend_start) AS age FROM pg_stat_activity
        WHERE backend_type = 'job_alerting launcher'
SQL
    my @stat = split / /, PostgreSQL::Test::Utils::slurp_file("/proc/$launcher->{pid}/stat") =~ s/.*\) //sr;
    my $busy = ($stat[11] + $stat[12]) / POSIX::sysconf(POSIX::_SC_CLK_TCK());
    cmp_ok $busy, '<', 0.05 * $launcher->{age}, sprintf 'the launcher was busy for %.2f s of %.0f', $busy, $launcher->{age};
    is_deeply [ problems(PostgreSQL::Test::Utils::slurp_file($many->logfile)) ], [], 'the log has no problem';
};

$many->stop;
$node->stop;
done_testing();
