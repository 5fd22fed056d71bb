# The launcher: the databases that get rounds and when, those that it leaves alone, and the errors that it
# survives. The rounds come by themselves, unless a subtest says that it calls run_digest().

use strict;
use warnings;

use FindBin;
use Test::More;
use Time::HiRes ();

use lib "$FindBin::Bin/../support";
use JobAlerting qw(always fail_job log_from_now problems sql wait_for_round wait_until_idle);

my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub, conf => <<'CONF');
job_alerting.http_timeout = '60s'
job_alerting.lock_timeout = '1s'
autovacuum = off
# Logs the start of each worker.
log_min_messages = debug1
CONF

# The number of sessions in a database.
sub connected_to {
    my ($db) = @_;
    return sql("SELECT count(*) FROM pg_stat_activity WHERE datname = '$db'");
}

sub launcher {
    my @launchers = JobAlerting::rows($node, undef, <<'SQL');
        SELECT * FROM pg_stat_activity WHERE backend_type LIKE 'job_alerting launcher%'
SQL
    die "more than one launcher\n" if @launchers > 1;
    return $launchers[0];
}

sub workers {
    return sql(q(SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'job_alerting worker%'));
}

# The number of workers that were started for a database.
sub looks {
    my ($db, $logged) = @_;
    my @looks = $logged->() =~ /starting background worker process "job_alerting worker for \Q$db\E"/g;
    return scalar @looks;
}

sub is_quiet {
    my ($logged, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is_deeply([ problems($logged->()) ], [], $name // 'and the log is quiet');
}

# The database and the jobs of a mail.
sub mail {
    my ($number) = @_;
    my $request = ($stub->requests)[ $number - 1 ];
    my ($db) = $request->{json}{subject} =~ m{ failed in main/(\w+):};
    return [ $db, JobAlerting::named_jobs($request) ];
}

# Creates a database with the extension.
sub create_database {
    my ($name, $options) = @_;
    sql("CREATE DATABASE $name TEMPLATE watched " . ($options // ''));
    return;
}

# A failure in a round of the launcher whose request the stub holds. The stub answers later requests.
sub stall {
    my ($db) = @_;
    $stub->modes('stall', '202');
    my %stalled = (before => $stub->count, job => fail_job(db => $db));
    $stub->wait_for($stalled{before} + 1);
    is_deeply mail($stalled{before} + 1), [ $db, $stalled{job} ], 'a request is held';
    $stalled{worker} = JobAlerting::worker($node);
    return \%stalled;
}

# The launcher's rounds go on and deliver.
sub is_going_on {
    my ($name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $before = $stub->count;
    my $job = fail_job();
    $stub->wait_for($before + 1);
    return is_deeply(mail($before + 1), [ 'postgres', $job ], $name // 'rounds go on');
}

# The template of the other databases, which itself has no rounds.
sql('CREATE DATABASE watched');
JobAlerting::create_jobs($node, 'watched');
sql('ALTER DATABASE watched IS_TEMPLATE true');
JobAlerting::create_jobs($node);

# ---------------------------------------------------------------- rounds

subtest 'a round comes at server start, and then nothing is connected to a database' => sub {
    my $job = fail_job();
    $node->stop;
    my $logged = log_from_now();
    $node->start;
    $stub->wait_for(1, 10);
    is_deeply mail(1), [ 'postgres', $job ], 'the failure is reported';
    wait_until_idle();
    my $launcher = launcher();
    like $launcher->{backend_type}, qr/\Ajob_alerting launcher/, 'the backend_type names the launcher';
    like $launcher->{application_name}, qr/\Ajob_alerting launcher/, 'the application_name names the launcher';
    is $launcher->{$_}, undef, "$_ is NULL" for qw(datid datname xact_start backend_xmin);
    is sql("SELECT count(*) FROM pg_locks WHERE pid = $launcher->{pid}"), 0, 'it holds no lock';
    is sql(q(SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'job_alerting%' AND datid IS NOT NULL)), 0,
      'no process of ours is connected to a database';
    is_quiet($logged);
};

subtest 'between rounds nothing hinders DROP DATABASE, CREATE DATABASE ... TEMPLATE and RENAME' => sub {
    create_database($_) for qw(unused copied renamed);
    # At a restart each has a round.
    $node->restart;
    for my $db (qw(unused copied renamed)) {
        JobAlerting::poll(sub { sql('SELECT last_scan_at FROM job_alerting.queue', $db) ne '' }, 15, "a round in $db");
    }
    wait_until_idle();
    my $logged = log_from_now();
    # The server would wait 5 s for a session that is connected, and then refuse.
    is connected_to($_), 0, "nobody is connected to $_" for qw(unused copied renamed);
    is +($node->psql('postgres', $_))[2], '', $_ for 'DROP DATABASE unused', 'CREATE DATABASE copy TEMPLATE copied',
      'ALTER DATABASE renamed RENAME TO anew';
    is_quiet($logged);
};

subtest 'a shorter or longer interval takes effect at a reload' => sub {
    my $before = $stub->count;
    my $job = fail_job();
    ok always(sub { $stub->count == $before }, 1.5), 'no round comes before the interval is over';
    JobAlerting::configure($node, interval => '1s');
    $stub->wait_for($before + 1);
    is_deeply mail($before + 1), [ 'postgres', $job ], 'with a shorter interval, the round comes at once';
    is_going_on('the next round follows');

    JobAlerting::configure($node, interval => '1h');
    wait_until_idle();
    # A round that was due by the old interval may still come.
    always(sub { 1 }, 1.2);
    wait_until_idle();
    $before = $stub->count;
    my $logged = log_from_now();
    fail_job();
    ok always(sub { $stub->count == $before }, 1.5), 'with a longer interval, no request comes';
    is looks('postgres', $logged), 0, 'no worker is started';
    JobAlerting::configure($node, interval => '1s');
    $stub->wait_for($before + 1);
};

subtest 'a renamed database keeps its rounds, a dropped one has none' => sub {
    my $logged = log_from_now();
    my $before = $stub->count;
    my $job = fail_job(db => 'anew');
    $stub->wait_for($before + 1);
    is_deeply mail($before + 1), [ 'anew', $job ], 'the mail has the new name';
    wait_for_round('anew');
    is looks($_, $logged), 0, "no worker for $_" for qw(unused renamed);
    is_quiet($logged);
};

subtest 'each database has its rounds, with one worker at a time in the cluster' => sub {
    create_database('second');
    wait_for_round('second');
    my $logged = log_from_now();
    $stub->modes('stall', '202');
    my $before = $stub->count;
    my %job = map { $_ => fail_job(db => $_) } qw(postgres second copied);
    $stub->wait_for($before + 1);
    is workers(), 1, 'one worker';
    ok always(sub { workers() eq '1' && $stub->count == $before + 1 }, 1.5), 'no other worker runs while it waits';
    $stub->release;
    $stub->wait_for($before + 3);
    my %told = map { @{ mail($before + $_) } } 1 .. 3;
    is_deeply \%told, \%job, 'then the mails of the other databases come';
    wait_for_round('copied');
    is $stub->count, $before + 3, 'each mail comes once';
    is_quiet($logged);
    sql("DROP DATABASE $_") for qw(second copy copied anew);
};

subtest 'a database without the extension gets a worker at most every 10 s' => sub {
    my $logged = log_from_now();
    my $start = Time::HiRes::time();
    sql('CREATE DATABASE bare');
    JobAlerting::create_jobs_table($node, 'bare');
    # This schema looks like the extension's, but is not.
    sql('CREATE DATABASE planted');
    sql('CREATE SCHEMA job_alerting; CREATE TABLE job_alerting.queue (name text);'
          . 'CREATE FUNCTION job_alerting.run_digest() RETURNS void LANGUAGE plpgsql AS '
          . q($$ BEGIN RAISE WARNING 'called'; END $$), 'planted');
    my $before = $stub->count;
    for my $db (qw(bare planted)) {
        JobAlerting::poll(sub { looks($db, $logged) }, 20, "a look into $db");
    }
    wait_for_round() for 1 .. 2;
    my $most = 1 + (Time::HiRes::time() - $start) / 10;
    cmp_ok looks($_, $logged), '<=', $most, "$_: at most every 10 s" for qw(bare planted);
    cmp_ok looks('postgres', $logged), '>=', 2, 'other databases have their rounds';
    is $stub->count, $before, 'nothing is sent';
    is_quiet($logged);
    # A later subtest expects rounds in this database.
    sql('CREATE EXTENSION job_alerting', 'bare');
    sql('DROP DATABASE planted');
};

subtest 'a template, a database without connections and one dropped halfway get no workers' => sub {
    my $logged = log_from_now();
    my $before = $stub->count;
    my $job = fail_job(db => 'watched');
    create_database('closed', 'ALLOW_CONNECTIONS false');
    create_database('broken', 'ALLOW_CONNECTIONS false');
    sql(q(UPDATE pg_database SET datallowconn = true, datconnlimit = -2 WHERE datname = 'broken'));
    wait_for_round() for 1 .. 2;
    is looks($_, $logged), 0, "no worker for $_" for qw(watched closed broken template1 template0);
    is $stub->count, $before, 'nothing is sent';
    is_quiet($logged);

    sql('ALTER DATABASE closed ALLOW_CONNECTIONS true');
    sql(q(UPDATE pg_database SET datconnlimit = -1 WHERE datname = 'broken'));
    $stub->wait_for($before + 2, 10);
    is_deeply [ sort { $a->[0] cmp $b->[0] } map { mail($before + $_) } 1 .. 2 ], [ [ 'broken', $job ], [ 'closed', $job ] ],
      'they get rounds once they can be connected to';
    sql('DELETE FROM research_jobs', 'watched');
    sql("DROP DATABASE $_") for qw(closed broken);
};

# ---------------------------------------------------------------- while a request is held

subtest 'DROP DATABASE of another database does not wait for a round' => sub {
    create_database('other');
    wait_for_round('other');
    my $logged = log_from_now();
    my $stalled = stall('postgres');
    sql('DROP DATABASE other');
    is JobAlerting::worker($node), $stalled->{worker}, 'it is dropped while the request is held';
    $stub->release;
    wait_for_round();
    is_quiet($logged, 'the log has no problem with the dropped database');
};

subtest 'DROP DATABASE ... WITH (FORCE) ends a round in progress, and affects no other database' => sub {
    create_database('doomed');
    my $launcher = launcher()->{pid};
    my $stalled = stall('doomed');
    my $logged = log_from_now();
    # The server would wait 5 s for the end of the worker, and then refuse.
    is +($node->psql('postgres', 'DROP DATABASE doomed WITH (FORCE)'))[2], '', 'it is dropped';
    is_going_on();
    is launcher()->{pid}, $launcher, 'the launcher is the same';
    my @gone = grep { /FATAL: .*does not exist/ } problems($logged->());
    cmp_ok scalar @gone, '<=', 1, 'at most one worker was started too late' or diag explain \@gone;
    my @others = grep { !/does not exist|terminating background worker/ } problems($logged->());
    is_deeply \@others, [], 'no other problem';
};

subtest 'DROP EXTENSION does not wait for a request, and no request follows' => sub {
    create_database('dropped');
    my $stalled = stall('dropped');
    my $logged = log_from_now();
    sql('DROP EXTENSION job_alerting', 'dropped');
    is JobAlerting::worker($node), $stalled->{worker}, 'it is dropped while the request is held';
    fail_job(db => 'dropped');
    $stub->release;
    JobAlerting::poll(sub { (JobAlerting::worker($node) // 0) != $stalled->{worker} }, 20, 'the worker to end');
    wait_for_round();
    is $stub->count, $stalled->{before} + 1, 'no request follows';
    cmp_ok scalar(problems($logged->())), '<=', 1, 'at most one problem in the log' or diag explain [ problems($logged->()) ];
    sql('DROP DATABASE dropped');
};

subtest 'after a DROP EXTENSION that is rolled back, the answer is settled' => sub {
    my $stalled = stall('postgres');
    my $logged = log_from_now();
    my $digest = sql('SELECT max(id) FROM job_alerting.digest');
    # The transaction goes on when the worker waits for its lock.
    my $call = JobAlerting::Call->start($node, 'postgres', 'BEGIN', 'DROP EXTENSION job_alerting', <<"SQL", 'ROLLBACK');
        DO \$\$ BEGIN
            FOR i IN 1 .. 1000 LOOP
                PERFORM FROM pg_locks WHERE pid = $stalled->{worker} AND NOT granted;
                EXIT WHEN FOUND;
                PERFORM pg_sleep(0.01);
            END LOOP;
            IF NOT FOUND THEN RAISE 'the worker does not wait'; END IF;
            PERFORM pg_sleep(1.5);
        END \$\$
SQL
    JobAlerting::poll(sub { sql(q(SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted)) > 0 },
        10, 'the extension to be dropped');
    $stub->release;
    is $call->error, '', 'the worker waits, longer than lock_timeout, and the drop is rolled back';
    my $state = sub { sql("SELECT state FROM job_alerting.digest WHERE id = $digest") };
    ok JobAlerting::poll(sub { $state->() eq 'accepted' }, 10, 'the answer'), 'the answer is settled';
    is_going_on();
    is $stub->count, $stalled->{before} + 2, 'nothing was sent twice';
    is_quiet($logged);
};

subtest 'a database that gets the extension gets rounds' => sub {
    my $before = $stub->count;
    my $job = fail_job(db => 'bare');
    $stub->wait_for($before + 1, 15);
    is_deeply mail($before + 1), [ 'bare', $job ], 'its failure is reported';
    sql('DROP DATABASE bare');
};

# ---------------------------------------------------------------- retries

subtest 'a retry wakes the launcher before the interval is over' => sub {
    JobAlerting::configure($node, interval => '1h');
    always(sub { 1 }, 1.2);
    wait_until_idle();
    $stub->modes('429 retry-after=2', '202');
    my $before = $stub->count;
    my $job = fail_job();
    my ($row) = JobAlerting::run_digest($node);
    is $row->{outcome}, 'pending', 'the answer asks for a wait';
    # The shortest wait is a minute, so it is shortened here. A round by hand keeps it, and the launcher sends
    # the digest when it is due.
    sql("UPDATE job_alerting.digest SET next_attempt_at = now() + '4 s' WHERE id = $row->{digest_id}");
    JobAlerting::run_digest($node);
    is $stub->count, $before + 1, 'nothing is sent by hand';
    $stub->wait_for($before + 2, 20);
    is_deeply mail($before + 2), [ 'postgres', $job ], 'the launcher sends it, long before the interval is over';
    wait_until_idle();
    is sql("SELECT state || ' ' || attempts FROM job_alerting.digest WHERE id = $row->{digest_id}"), 'accepted 2',
      'accepted at the second try';
    ok always(sub { $stub->count == $before + 2 && workers() eq '0' }, 1), 'no further request or worker';
};

subtest 'an undelivered digest is delivered when the receiver is back' => sub {
    my $port = $stub->port;
    $stub->stop;
    JobAlerting::configure($node, interval => '1s');
    my $job = fail_job();
    my $digest = sub {
        my ($row) = JobAlerting::rows($node, undef, <<'SQL');
            SELECT state, attempts, next_attempt_at - updated_at <= '1 s' AS soon FROM job_alerting.digest ORDER BY id DESC LIMIT 1
SQL
        return $row;
    };
    my $pending = JobAlerting::poll(sub { my $row = $digest->(); $row->{state} eq 'pending' && $row }, 10, 'a try in vain');
    ok $pending->{soon}, 'the next try is due within the interval';
    $stub = JobAlerting::Stub->start(port => $port);
    $stub->wait_for(1, 10);
    is_deeply mail(1), [ 'postgres', $job ], 'it is delivered';
    wait_for_round();
    is $digest->()->{state}, 'accepted', 'accepted';
    is $stub->count, 1, 'one request';
};

# ---------------------------------------------------------------- signals and crashes

subtest 'a terminated launcher comes back, and the cluster stays up' => sub {
    my $since = sql('SELECT pg_postmaster_start_time()');
    my $old = launcher()->{pid};
    my $start = Time::HiRes::time();
    sql("SELECT pg_terminate_backend($old)");
    my $new = JobAlerting::poll(sub { my $it = launcher(); $it && $it->{pid} != $old && $it->{pid} }, 30, 'a new launcher');
    cmp_ok Time::HiRes::time() - $start, '<', 10, 'the launcher is back within 10 s';
    is_going_on();
    is sql('SELECT pg_postmaster_start_time()'), $since, 'the server was not restarted';
};

subtest 'kill -9 of the launcher: the server recovers, and rounds go on' => sub {
    my $old = launcher()->{pid};
    kill KILL => $old;
    JobAlerting::poll(sub { !kill 0, $old }, 20, 'its end');
    JobAlerting::wait_for_server($node);
    my $new = JobAlerting::poll(sub { launcher() }, 10, 'a new launcher');
    isnt $new->{pid}, $old, 'a new launcher';
    is_going_on();
};

subtest 'a fast shutdown does not wait for the receiver' => sub {
    my $stalled = stall('postgres');
    my $start = Time::HiRes::time();
    $node->stop('fast');
    cmp_ok Time::HiRes::time() - $start, '<', 20, 'the server stops long before http_timeout';
    $node->start;
    my @requests = $stub->wait_for($stalled->{before} + 2);
    is $requests[-1]{body}, $requests[-2]{body}, 'the digest in doubt comes again';
};

subtest 'when the postmaster is killed, worker and launcher end' => sub {
    my $stalled = stall('postgres');
    my @pids = ($stalled->{worker}, launcher()->{pid});
    $node->kill9;
    ok JobAlerting::poll(sub { !grep { kill 0, $_ } @pids }, 20, 'their end'), 'both end long before http_timeout';
    JobAlerting::start_again($node);
    my @requests = $stub->wait_for($stalled->{before} + 2);
    is $requests[-1]{body}, $requests[-2]{body}, 'the digest in doubt comes again';
};

subtest 'without a free worker slot there is one warning, and the round comes when a slot is free' => sub {
    $node->append_conf('postgresql.conf', "max_worker_processes = 2\nmax_logical_replication_workers = 0");
    JobAlerting::configure($node, interval => '1h');
    $node->restart;
    wait_until_idle();
    # The launcher has one slot, and a round by hand in another database has the other.
    create_database('elsewhere');
    my $by_hand = JobAlerting::stall($stub, db => 'elsewhere');
    my ($before, $call) = @$by_hand{qw(before call)};
    my $logged = log_from_now();
    my $warnings = sub { scalar grep { /WARNING: +job_alerting found no free background worker slot/ } problems($logged->()) };
    my $job = fail_job();
    JobAlerting::configure($node, interval => '1s');
    JobAlerting::poll($warnings, 10, 'the warning');
    ok always(sub { $warnings->() == 1 && $stub->count == $before + 1 }, 1.2), 'one warning, and no round';
    like $logged->(), qr/HINT: +Increase max_worker_processes/, 'the warning has a hint';
    $stub->release;
    is +($call->rows)[0]{outcome}, 'accepted', 'the round by hand ends';
    $stub->wait_for($before + 2, 20);
    is_deeply mail($before + 2), [ 'postgres', $job ], 'the round comes';
    is $warnings->(), 1, 'one warning in all';
};

$node->stop;
done_testing();
