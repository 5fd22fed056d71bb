# The view `status`: unhealthy with a reason in each state that can keep a mail from arriving, at most one
# round later, and healthy again when the problem is fixed; and settle(), which fixes one of these states.
# The test sets the clock.

use strict;
use warnings;

use FindBin;
use POSIX ();
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting qw(sql stall status wait_for_lock_wait);

my $hour = 3600;

my $clock = JobAlerting::Clock->start;
my $stub = JobAlerting::Stub->start;
# One worker slot for the launcher, one for a round.
my $node = JobAlerting::node('main', stub => $stub, preload => 0, streaming => 1, conf => <<'CONF');
job_alerting.lock_timeout = '200ms'
max_worker_processes = 2
max_logical_replication_workers = 0
autovacuum = off
CONF

sub is_unhealthy {
    my ($why, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $status = status();
    ok !$status->{healthy}, "$name: not healthy";
    like $status->{reason}, $why, "$name: the reason";
    return $status;
}

sub is_healthy {
    my ($name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $status = status();
    ok $status->{healthy}, $name // 'healthy again' or diag $status->{reason};
    is $status->{reason}, undef, 'no reason';
    return $status;
}

# One round by hand. Returns its rows, or its error.
sub run_digest {
    my @rows = eval { JobAlerting::run_digest($node) };
    return @rows ? @rows : $@;
}

# The query of doc/operations.md for postgres_exporter.
sub exporter_query {
    my $doc = PostgreSQL::Test::Utils::slurp_file("$FindBin::Bin/../../doc/operations.md");
    my ($query) = $doc =~ /^  query: \|\n(.*?)^  metrics:/ms or die 'no query';
    return $query;
}

# Waits for a round of the launcher that makes the status healthy.
sub wait_until_healthy {
    my ($server) = @_;
    return JobAlerting::poll(sub { status($server)->{healthy} }, 20, 'a round');
}

# ---------------------------------------------------------------- rounds that do not begin

subtest 'not preloaded' => sub {
    JobAlerting::create_jobs($node);
    is +(run_digest())[0]{outcome}, 'silent', 'a round by hand works';
    my $status = is_unhealthy(qr/add job_alerting to shared_preload_libraries and restart/, 'not preloaded');
    is $status->{$_}, undef, "no $_" for qw(launcher_pid last_round_at next_round_at last_accepted_at oldest_waiting_since);
    is $status->{$_}, 0, "$_: 0" for qw(failures_waiting digests_waiting queues_broken);

    $node->append_conf('postgresql.conf', "shared_preload_libraries = 'job_alerting'");
    JobAlerting::restart($node);
    wait_until_healthy();
    $status = is_healthy('preloaded, and after the round at the start, healthy');
    is $status->{launcher_pid}, sql(q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'job_alerting launcher')),
      'the process id of the launcher';
    is sql('SELECT last_round_at BETWEEN pg_postmaster_start_time() AND clock_timestamp() FROM job_alerting.status'), 't',
      'the last round was at the start';
    is sql("SELECT next_round_at - last_round_at BETWEEN '59 min' AND '61 min' FROM job_alerting.status"), 't',
      'the next one is in an hour';
};

subtest 'a standby says where to look' => sub {
    $node->backup('backup');
    my $standby = PostgreSQL::Test::Cluster->new('standby');
    $standby->init_from_backup($node, 'backup', has_streaming => 1);
    $standby->start;
    my $status = status($standby);
    ok !$status->{healthy}, 'not healthy';
    like $status->{reason}, qr/standby.*on the primary/, 'the reason';
    is $status->{launcher_pid}, undef, 'it has no launcher';
    $standby->promote;
    ok wait_until_healthy($standby), 'promoted, its status is healthy';
    $standby->stop;
};

subtest 'the launcher is away' => sub {
    my $old = status()->{launcher_pid};
    sql("SELECT pg_terminate_backend($old)");
    JobAlerting::poll(sub { !status()->{launcher_pid} }, 20, 'its end');
    my $status = is_unhealthy(qr/launcher is not running.*10 seconds.*server log/, 'terminated');
    is $status->{next_round_at}, undef, 'no round is due';
    $clock->pass($node, 10);
    wait_until_healthy();
    isnt is_healthy('back again')->{launcher_pid}, $old, 'it is another process';
};

subtest 'the launcher is stuck' => sub {
    my $pid = status()->{launcher_pid};
    kill STOP => $pid;
    my $until_due = sql('SELECT ceil(extract(epoch FROM next_round_at - clock_timestamp())) FROM job_alerting.status');
    $clock->pass($node, $until_due + 5);
    my $before = status();
    $clock->pass($node, 35);
    my $after = status();
    kill CONT => $pid;
    ok $before->{healthy}, 'healthy while a round is less than 30 s late' or diag $before->{reason};
    ok !$after->{healthy}, 'not healthy when it is later';
    like $after->{reason}, qr/the round that was due at 20.* has not begun: see the server log/, 'the reason';
    wait_until_healthy();
    is_healthy('healthy when it goes on');
};

subtest 'no worker slot is free' => sub {
    sql('CREATE DATABASE other');
    JobAlerting::create_jobs($node, 'other');
    my $call = stall($stub, db => 'other')->{call};
    $clock->pass($node, $hour + 1);
    JobAlerting::poll(sub { !status()->{healthy} }, 10, 'a round without a slot');
    is_unhealthy(qr/no background worker slot is free.*max_worker_processes/, 'none');
    $stub->release;
    is +($call->rows)[0]{outcome}, 'accepted', 'the other round ends';
    wait_until_healthy();
    is_healthy();
    sql('DROP DATABASE other');
};

subtest 'the database is a template' => sub {
    sql('ALTER DATABASE postgres IS_TEMPLATE true');
    is_unhealthy(qr/template database: ALTER DATABASE postgres IS_TEMPLATE false/, 'a template');
    sql('ALTER DATABASE postgres IS_TEMPLATE false');
    is_healthy();
};

# ---------------------------------------------------------------- rounds that do not begin to their end

subtest 'rounds fail' => sub {
    # This lock does not block reading the view.
    my $held = JobAlerting::hold($node, 'LOCK TABLE job_alerting.digest IN EXCLUSIVE MODE');
    like run_digest(), qr/lock timeout/, 'a round fails';
    is_unhealthy(qr/the round failed: .*lock timeout; fix that, then call job_alerting\.run_digest\(\)/, 'one failed');
    JobAlerting::let_go($held);
    run_digest();
    is_healthy();
};

subtest 'rounds are cut off' => sub {
    $stub->modes('stall', 'stall', 'stall', '202');
    JobAlerting::fail_job($node);
    my $before = $stub->count;
    for my $round (1 .. 3) {
        $clock->pass($node, $round == 1 ? $hour + 1 : 100);
        $stub->wait_for($before + $round);
        is_unhealthy(qr/the last round was interrupted: see the server log/, 'in the second') if $round == 2;
        is_unhealthy(qr/the last 2 rounds were interrupted/, 'in the third') if $round == 3;
        my $worker = JobAlerting::worker($node);
        sql("SELECT pg_terminate_backend($worker)");
        JobAlerting::wait_for_end($worker);
    }
    is +(run_digest())[0]{outcome}, 'accepted', 'a round succeeds';
    is_healthy();
};

# ---------------------------------------------------------------- queues

subtest 'no queue' => sub {
    sql(q(SELECT job_alerting.unwatch('research_jobs')));
    is_unhealthy(qr/no queue is watched: call job_alerting\.watch\('/, 'none');
    like run_digest(), qr/no queue is watched/, 'a round fails with the same reason';
    is_unhealthy(qr/no queue is watched: call job_alerting\.watch\('/, 'after it');
    sql(q(SELECT job_alerting.watch('research_jobs')));
    is_healthy('healthy with one, at once');
};

subtest 'a queue that cannot be read' => sub {
    sql('ALTER TABLE research_jobs RENAME finished_at TO ended_at');
    run_digest();
    my $status = is_unhealthy(qr/queue research_jobs cannot be read: column .*job_alerting\.unwatch\('research_jobs'\)/, 'broken');
    is $status->{queues_broken}, 1, 'one queue is broken';
    sql('ALTER TABLE research_jobs RENAME ended_at TO finished_at');
    run_digest();
    is is_healthy()->{queues_broken}, 0, 'no queue is broken';
};

subtest 'a queue whose row is locked' => sub {
    my $held = JobAlerting::hold($node, 'SELECT FROM job_alerting.queue FOR UPDATE');
    my ($row) = run_digest();
    is_unhealthy(qr/queue research_jobs cannot be read: another session holds its row; fix that/, 'held');
    like $row->{detail}, qr/queue research_jobs cannot be read/, 'the detail has the same reason';
    JobAlerting::let_go($held);
    run_digest();
    is_healthy();
};

# ---------------------------------------------------------------- faults without anything to send

# A silent round and the view report the fault.
sub is_fault {
    my ($channel, $why, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($row) = grep { $_->{channel} eq $channel } run_digest();
    is $row->{outcome}, 'silent', "$name: nothing is new";
    like $row->{detail}, $why, "$name: the detail reports the fault";
    is_unhealthy(qr/channel $channel: $why.*; fix that, then call job_alerting\.run_digest\(\)/, $name);
    return;
}

sub is_fixed {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($row) = run_digest();
    is $row->{detail}, undef, 'fixed: no detail';
    is_healthy('fixed: healthy');
    return;
}

subtest 'addresses' => sub {
    for my $name (qw(mail_from mail_to)) {
        for my $value ('', 'nobody') {
            JobAlerting::store_setting($node, $name, $value);
            is_fault('sendgrid', $value ? qr/job_alerting\.$name is malformed/ : qr/job_alerting\.$name is not set/, "$name '$value'");
        }
        sql("ALTER DATABASE postgres RESET job_alerting.$name");
    }
    is_fixed();
};

subtest 'the key' => sub {
    my $file = sql('SHOW job_alerting.sendgrid_api_key_file');
    rename $file, "$file.kept" or die "cannot rename the key: $!";
    is_fault('sendgrid', qr/key file of job_alerting\.sendgrid_api_key_file cannot be opened: No such file/, 'missing');
    POSIX::mkfifo($file, 0600) or die "cannot make a FIFO: $!";
    is_fault('sendgrid', qr/key file of job_alerting\.sendgrid_api_key_file is not a regular file/, 'a FIFO');
    unlink $file;
    mkdir $file, 0700 or die "cannot make a directory: $!";
    is_fault('sendgrid', qr/key file of job_alerting\.sendgrid_api_key_file is not a regular file/, 'a directory');
    rmdir $file;
    rename "$file.kept", $file or die "cannot rename the key: $!";
    chmod 0644, $file;
    is_fault('sendgrid', qr/key file of job_alerting\.sendgrid_api_key_file is open to others.*0600/, 'open to others');
    chmod 0600, $file;
    is_fixed();
};

subtest 'certificate authorities' => sub {
    JobAlerting::configure($node, ca_file => '/nowhere/ca.pem');
    is_fault('sendgrid', qr{the file of job_alerting\.ca_file cannot be read: No such file}, 'unreadable');
    JobAlerting::configure($node, ca_file => '');
    is_fixed();
};

subtest "a server's log without digests" => sub {
    # The first digest of a channel would have all standing failures.
    sql('DELETE FROM research_jobs');
    sql(q(ALTER DATABASE postgres SET job_alerting.channels = 'log'; ALTER DATABASE postgres SET log_min_messages = fatal));
    is_fault('log', qr/log_min_messages/, 'log_min_messages = fatal');
    sql(q(ALTER DATABASE postgres RESET log_min_messages; ALTER DATABASE postgres RESET job_alerting.channels));
    is_fixed();
};

subtest 'no channel' => sub {
    JobAlerting::configure($node, channels => '');
    run_digest();
    is_unhealthy(qr/not reported: set job_alerting\.channels/, 'none');
    JobAlerting::configure($node, channels => 'sendgrid');
    is_fixed();
};

subtest 'values that are found at server start' => sub {
    my $proper = sql('SHOW job_alerting.sendgrid_url');
    my %bad = (channels => 'sendgird', sendgrid_url => 'http://example.com', proxy => 'nonsense://x');
    $node->append_conf('postgresql.conf', "job_alerting.$_ = '$bad{$_}'") for sort keys %bad;
    sql('ALTER SYSTEM RESET job_alerting.channels');
    $node->restart;
    JobAlerting::poll(sub { status()->{reason} =~ /the round failed/ }, 10, 'the round at the start');
    is_unhealthy(qr/job_alerting\.channels names "sendgird", which is no channel; fix that/, 'a channel that is none');
    JobAlerting::configure($node, channels => 'sendgrid');
    is_fault('sendgrid', qr/job_alerting\.sendgrid_url cannot be used/, 'a bad address');
    JobAlerting::configure($node, sendgrid_url => $proper);
    is_fault('sendgrid', qr/job_alerting\.proxy cannot be used/, 'a bad proxy');
    JobAlerting::configure($node, proxy => '');
    is_fixed();
};

subtest 'without a valid channel, the failures of a slow queue are recorded as well' => sub {
    sql('ALTER SYSTEM RESET job_alerting.channels'); # postgresql.conf still has the name that is no channel
    sql('UPDATE job_alerting.queue SET last_scan_ms = 1e6');
    my $job = JobAlerting::fail_job($node);
    $node->restart;
    JobAlerting::poll(sub { status()->{reason} =~ /the round failed: .*no channel/ }, 10, 'the round at the start');
    is sql("SELECT count(*) FROM job_alerting.failure WHERE job_id = '$job'"), 1, 'it is in the ledger';
    JobAlerting::configure($node, channels => 'sendgrid');
    sql('SELECT job_alerting.run_digest()');
    is sql('SELECT count(*) FROM job_alerting.unreported WHERE channel = \'sendgrid\''), 0, 'a round with a channel reports it';
    is_healthy('fixed');
};

# ---------------------------------------------------------------- digests that are not accepted

# The oldest digest that is not accepted.
sub waiting {
    my ($digest) = JobAlerting::rows($node, undef, <<'SQL');
        SELECT * FROM job_alerting.digest WHERE state <> 'accepted' ORDER BY id LIMIT 1
SQL
    return $digest;
}

sub recorded_first {
    return (JobAlerting::rows($node, undef, <<'SQL'))[0]{min};
        SELECT min(f.recorded_at) FROM job_alerting.digest_failure f WHERE f.digest_state <> 'accepted'
SQL
}

subtest 'refused' => sub {
    my $accepted = status()->{last_accepted_at};
    $stub->mode('401');
    JobAlerting::fail_job($node) for 1 .. 2;
    # The launcher makes this round, so that it knows the time of the next.
    $clock->pass($node, $hour + 1);
    JobAlerting::poll(sub { waiting() && waiting()->{error} }, 10, 'the refusal');
    JobAlerting::poll(sub { !JobAlerting::worker($node) }, 10, 'the end of the round');
    my $digest = waiting();
    my $status = is_unhealthy(
        qr/digest $digest->{id} could not be delivered through sendgrid: HTTP 401.*key.*next attempt is due at 20.*job_alerting\.run_digest/,
        'refused');
    is $status->{failures_waiting}, 2, 'two failures wait';
    is $status->{digests_waiting}, 1, 'one digest waits';
    is $status->{oldest_waiting_since}, recorded_first(), 'oldest_waiting_since is the time of the first record';
    is $status->{last_accepted_at}, $accepted, 'nothing was accepted';
    ok sql("SELECT next_round_at BETWEEN '$digest->{next_attempt_at}' AND '$digest->{next_attempt_at}'::timestamptz + interval '3 s'"
          . ' FROM job_alerting.status') eq 't', 'the next round is when it is due';
    $stub->mode('202');
    run_digest();
    $status = is_healthy('accepted, and healthy');
    is $status->{failures_waiting}, 0, 'nothing waits';
    is $status->{digests_waiting}, 0, 'no digest waits';
    is $status->{oldest_waiting_since}, undef, 'oldest_waiting_since is NULL';
    ok $status->{last_accepted_at} gt $accepted, 'a digest was accepted';
};

subtest 'asked for a wait' => sub {
    $stub->mode('429 retry-after=600');
    JobAlerting::fail_job($node);
    run_digest();
    my $status = is_unhealthy(qr/HTTP 429.*next attempt is due at 20/, '429');
    unlike $status->{reason}, qr/run_digest/, 'the reason does not advise a round by hand';
    $stub->mode('202');
    $clock->pass($node, 601);
    wait_until_healthy();
    is_healthy();
};

subtest 'in doubt' => sub {
    $stub->mode('503');
    JobAlerting::fail_job($node);
    run_digest();
    JobAlerting::fail_job($node) for 1 .. 2;
    run_digest();
    my $digest = waiting();
    my $status = is_unhealthy(
        qr/digest $digest->{id} through sendgrid is in doubt: HTTP 503.*; it will be sent again at 20.*settle\($digest->{id}, true\)/,
        'in doubt');
    is $status->{failures_waiting}, 3, 'its failure and two later ones wait';
    is $status->{digests_waiting}, 1, 'one digest';
    is $status->{oldest_waiting_since}, recorded_first(), 'oldest_waiting_since is the time of the first record';
    $stub->mode('202');
    run_digest();
    is_healthy('accepted, and healthy');
};

# Terminates a round by hand, an hour before the next round by the interval. The launcher must take it up.
sub is_taken_up {
    my ($came, $times, $reason, $held) = @_;
    my $worker = JobAlerting::worker($node);
    ok status()->{healthy}, 'healthy while it is under way' or diag status()->{reason};
    is sql("SELECT pg_terminate_backend($worker, 10000)"), 't', 'terminated';
    JobAlerting::let_go($held) if $held;
    is_unhealthy($reason, 'the status knows');
    ok sql(q(SELECT next_round_at < clock_timestamp() + interval '11 s' FROM job_alerting.status)) eq 't', 'the next is due within 10 s';
    $clock->pass($node, 11);
    wait_until_healthy();
    my @requests = $came->();
    is scalar @requests, $times, 'the launcher has taken the round up';
    is $requests[-1]{body}, $requests[0]{body}, 'the requests have the same bytes';
    return;
}

subtest 'a round by hand is terminated during its request' => sub {
    $stub->modes('stall', '202');
    my $came = $stub->from_now;
    JobAlerting::fail_job($node);
    my $call = JobAlerting::begin_digest($node);
    JobAlerting::poll(sub { $came->() == 1 }, 10, 'the request');
    my $id = waiting()->{id};
    is_taken_up($came, 2,
        qr/digest $id through sendgrid was being sent when its round was interrupted: the next round, due at 20.*, sends it again/);
};

subtest 'a round by hand is terminated between record and compose' => sub {
    my $came = $stub->from_now;
    JobAlerting::fail_job($node);
    # The worker must still wait when it is terminated.
    JobAlerting::configure($node, lock_timeout => '1min');
    # Another uncommitted open digest makes the round wait on the unique index.
    my $held = JobAlerting::hold($node,
        q(UPDATE job_alerting.digest SET state = 'pending' WHERE id = (SELECT max(id) FROM job_alerting.digest)));
    my $call = JobAlerting::begin_digest($node);
    wait_for_lock_wait();
    is_taken_up($came, 1, qr/the last round was interrupted: see the server log; the next is due at 20/, $held);
    JobAlerting::configure($node, lock_timeout => '200ms');
};

subtest 'two channels wait for the same failures' => sub {
    sql(q(ALTER DATABASE postgres SET job_alerting.channels = 'log,sendgrid'; ALTER DATABASE postgres SET log_min_messages = fatal));
    sql('DELETE FROM research_jobs');
    run_digest();
    $stub->mode('401');
    JobAlerting::fail_job($node) for 1 .. 2;
    run_digest();
    my $status = is_unhealthy(qr/digest \d+ could not be delivered through log: log_min_messages/, 'both');
    is $status->{digests_waiting}, 2, 'two digests';
    is $status->{failures_waiting}, 2, 'two failures, each counted once';
    sql('ALTER DATABASE postgres RESET log_min_messages');
    run_digest();
    is is_unhealthy(qr/digest \d+ could not be delivered through sendgrid/, 'one')->{digests_waiting}, 1, 'one digest';

    sql(q(ALTER DATABASE postgres SET job_alerting.channels = 'log'));
    run_digest();
    $status = is_healthy('what waits for a channel that is not configured does not count');
    is $status->{digests_waiting}, 0, 'no digest';
    is $status->{failures_waiting}, 0, 'no failure';
    sql('ALTER DATABASE postgres RESET job_alerting.channels');
    run_digest();
    is is_unhealthy(qr/sendgrid: HTTP 401/, 'configured again')->{failures_waiting}, 2, 'the failures count again';
    $stub->mode('202');
    run_digest();
    is_healthy();
};

subtest 'before the first digest of a channel, the failures that it will have wait' => sub {
    sql('CREATE DATABASE fresh');
    sql(q(ALTER DATABASE fresh SET job_alerting.channels = ''), 'fresh');
    JobAlerting::create_jobs($node, 'fresh');
    my @jobs = map { JobAlerting::fail_job($node, db => 'fresh') } 1 .. 4;
    JobAlerting::run_digest($node, 'fresh');
    # The first failure is gone, and the third lies between standing ones.
    sql("DELETE FROM research_jobs WHERE id IN ($jobs[0], $jobs[2])", 'fresh');
    JobAlerting::run_digest($node, 'fresh');
    $stub->mode('401');
    sql('ALTER DATABASE fresh RESET job_alerting.channels', 'fresh');
    my ($row) = JobAlerting::run_digest($node, 'fresh');
    is sql('SELECT failures_waiting FROM job_alerting.status', 'fresh'), $row->{failures}, 'as many failures wait as the digest has';
    sql('DELETE FROM job_alerting.digest', 'fresh');
    is sql('SELECT failures_waiting FROM job_alerting.status', 'fresh'), $row->{failures}, 'as many as the first digest will have';
    $stub->mode('202');
    sql('DROP DATABASE fresh');
};

# ---------------------------------------------------------------- settle()

# Returns the id of a digest in doubt, a function that returns the requests since, and the job.
sub doubt {
    my $before = $stub->count;
    $stub->mode('close-after-read');
    my $job = JobAlerting::fail_job($node);
    run_digest();
    my $digest = waiting();
    is $digest->{state}, 'in_doubt', 'a digest in doubt';
    my $came = sub { return grep { $_->{number} > $before } $stub->requests };
    return ($digest->{id}, $came, $job);
}

# Such a failure cannot be composed while another digest is open, so the next round is due with that digest.
subtest 'a failure that stands again before an open digest waits as long as the digest' => sub {
    my $db = 'again';
    my $on = sub { $node->safe_psql($db, $_[0]) };
    my $round_through = sub {
        my ($channel, $statement) = @_;
        $on->("ALTER DATABASE $db SET job_alerting.channels = '$channel'");
        $on->($statement);
        return JobAlerting::run_digest($node, $db);
    };
    $node->safe_psql('postgres', "CREATE DATABASE $db");
    $on->('CREATE EXTENSION job_alerting; CREATE TABLE jobs (id text PRIMARY KEY, failed bool, failed_at timestamptz DEFAULT now())');
    $on->(q(SELECT job_alerting.watch_query('q', 'SELECT id AS job_id, failed_at FROM public.jobs WHERE failed')));
    $round_through->('log', q(INSERT INTO jobs VALUES ('a', true)));
    $round_through->('sendgrid', q(UPDATE jobs SET failed = false; INSERT INTO jobs VALUES ('b', true)));
    $stub->mode('401');
    $round_through->('sendgrid', q(INSERT INTO jobs VALUES ('c', true)));
    my ($row) = $round_through->('sendgrid', 'UPDATE jobs SET failed = true');
    is "$row->{outcome} $row->{failures}", 'pending 1', 'the open digest is unchanged';
    is $on->('SELECT failures_waiting FROM job_alerting.status'), 2, 'two failures wait';
    is $on->(q(SELECT next_round_at > now() + interval '30 s' FROM job_alerting.status)), 't', 'no round is due before that digest';
    $stub->mode('202');
    is join(' ', map { "$_->{outcome} $_->{failures}" } JobAlerting::run_digest($node, $db)), 'accepted 1 accepted 1', 'both are reported in the end';
    $node->safe_psql('postgres', "DROP DATABASE $db WITH (FORCE)");
};

subtest 'settle(..., true): the digest is accepted, and not sent again' => sub {
    my ($id, $came) = doubt();
    is sql("SELECT job_alerting.settle($id, true)"), 'accepted', 'the state that settle() returns';
    is is_healthy('healthy at once')->{failures_waiting}, 0, 'nothing waits';
    $stub->mode('202');
    is +(run_digest())[0]{outcome}, 'silent', 'the next round is silent';
    is scalar $came->(), 1, 'one request in all';
};

subtest 'settle(..., false): the digest is sent again, also with on_in_doubt = hold' => sub {
    JobAlerting::configure($node, on_in_doubt => 'hold');
    my ($id, $came, $job) = doubt();
    is_unhealthy(qr/digest $id .* is in doubt: .* is held until you call job_alerting\.settle\($id, true\) .*settle\($id, false\)/, 'held');
    is JobAlerting::digest($node, $id)->{held}, 'in doubt', 'the digest is held as in doubt';
    $clock->pass($node, $hour + 1);
    run_digest();
    is scalar $came->(), 1, 'it is not sent';

    for my $mode ('close-after-read', '202') {
        is sql("SELECT job_alerting.settle($id, false)"), 'in_doubt', 'the state that settle() returns';
        is JobAlerting::digest($node, $id)->{held}, undef, 'settle() releases it in spite of the setting';
        is_unhealthy(qr/digest $id .* is in doubt: .*will be sent again at/, 'settled');
        like JobAlerting::digest($node, $id)->{note}, qr/marked as not arrived by role /, 'the note names the role';
        $stub->mode($mode);
        run_digest();
        next if $mode eq '202';
        is_unhealthy(qr/is held until you call/, 'after a lost answer it is held again');
        run_digest();
        is scalar $came->(), 2, 'and not sent';
    }
    is_healthy('accepted, and healthy');
    my @requests = $came->();
    is scalar @requests, 3, 'one request for each verdict';
    is $requests[$_]{body}, $requests[0]{body}, 'the same bytes, with the same Message-ID' for 1, 2;
    is_deeply [ JobAlerting::named_jobs($requests[2]) ], [$job], 'the mail lists the failure';
    JobAlerting::configure($node, on_in_doubt => 'resend');
};

subtest 'settle() in an open transaction: the round goes on without that digest' => sub {
    my ($id, $came) = doubt();
    $stub->mode('202');
    my $held = JobAlerting::hold($node, "SELECT job_alerting.settle($id, true)");
    my $call = JobAlerting::begin_digest($node);
    my ($row) = $call->rows;
    is "$row->{outcome} $row->{digest_id}", "in_doubt $id", 'it stays in doubt';
    like $row->{detail}, qr/lock timeout/, 'the detail says why';
    cmp_ok $call->seconds, '<', 10, 'after lock_timeout';
    is scalar $came->(), 1, 'nothing is sent';
    is_unhealthy(qr/channel sendgrid: .*lock timeout/, 'the view has the reason');
    JobAlerting::let_go($held);
    is waiting()->{id}, $id, 'settle() that is rolled back has no effect';
    sql("SELECT job_alerting.settle($id, true)");
    is +(run_digest())[0]{outcome}, 'silent', 'settle() that is committed has';
    is scalar $came->(), 1, 'the digest was not sent again';
    is_healthy();
};

# ---------------------------------------------------------------- privileges and speed

subtest 'pg_monitor can read status and nothing else; other roles cannot' => sub {
    sql('CREATE ROLE monitor IN ROLE pg_monitor; CREATE ROLE other');
    is sql('SET ROLE monitor; SELECT healthy FROM job_alerting.status'), 't', 'pg_monitor reads status';
    like sql('SET ROLE monitor; ' . exporter_query()), qr/^postgres\|1\|\d+\.\d+\|\d*\.?\d*\|0\|0\|0$/,
        'the query for postgres_exporter works';
    my @others = qw(queue failure digest installation digest_failure);
    for my $what (map { "TABLE job_alerting.$_" } @others) {
        like error_of("SET ROLE monitor; $what"), qr/permission denied/, "not: $what";
    }
    like error_of("SET ROLE monitor; SELECT job_alerting.$_"), qr/permission denied/, "not: $_"
      for 'run_digest()', 'settle(1, true)', q(unwatch('research_jobs'));
    like error_of('SET ROLE other; TABLE job_alerting.status'), qr/permission denied/, 'other roles cannot read status';
    like error_of('SET ROLE other; SELECT job_alerting.server_state()'), qr/permission denied/, 'other roles cannot call server_state()';
};

sub error_of {
    my ($statement) = @_;
    my (undef, undef, $error) = $node->psql('postgres', $statement);
    return $error;
}

# The best time of three, in milliseconds.
sub milliseconds {
    my ($query) = @_;
    my @plans = map { sql("EXPLAIN (ANALYZE, TIMING off) $query") } 1 .. 3;
    my ($best) = sort { $a <=> $b } map { /Execution Time: ([\d.]+)/ } @plans;
    return $best;
}

subtest 'status is cheap with 100,000 failures in the ledger' => sub {
    sql(<<'SQL');
INSERT INTO job_alerting.failure (queue, job_id, occurrence, status)
    SELECT 'research_jobs', 'told ' || n, '', 'dead' FROM generate_series(1, 100000) n;
INSERT INTO job_alerting.digest (channel, first_failure, last_failure, state)
    SELECT 'sendgrid', min(id), max(id), 'accepted' FROM job_alerting.failure WHERE job_id LIKE 'told %';
VACUUM ANALYZE job_alerting.failure;
SQL
    is is_healthy('nothing waits')->{failures_waiting}, 0, 'no failure waits';
    my $view = milliseconds('SELECT * FROM job_alerting.status');
    my $count = milliseconds('SELECT count(*) FROM job_alerting.failure');
    note "status: $view ms; count(*) of the ledger: $count ms";
    cmp_ok $view, '<', $count, 'status takes less time than counting the ledger';
};

subtest 'an unknown channel found at server start does not stop the others' => sub {
    # The name is not even valid in the database's encoding.
    sql('ALTER SYSTEM RESET job_alerting.channels');
    $node->adjust_conf('postgresql.conf', 'job_alerting.channels', "'sendgird\xFC, sendgrid'");
    $node->restart;
    JobAlerting::poll(sub { defined status()->{last_round_at} }, 10, 'the round at the start');
    is_unhealthy(qr/job_alerting\.channels names "sendgird\?", which is no channel; fix that/, 'told');
    my $job = JobAlerting::fail_job($node);
    my ($row, @more) = run_digest();
    is_deeply [ "$row->{channel}: $row->{outcome}", @more ], ['sendgrid: accepted'], 'the other channel goes on';
    is_deeply [ JobAlerting::named_jobs(($stub->requests)[-1]) ], [$job], 'the failure is reported';
    like $row->{detail}, qr/names "sendgird\?", which is no channel/, 'the detail reports the name';
    my ($found) = grep { $_->{item} eq 'channels' } JobAlerting::rows($node, undef, 'SELECT * FROM job_alerting.check()');
    is "$found->{state}: $found->{hint}", "error: ALTER SYSTEM SET job_alerting.channels = 'sendgrid'; SELECT pg_reload_conf();",
      'check() reports the name';
};

$node->stop;
done_testing();
