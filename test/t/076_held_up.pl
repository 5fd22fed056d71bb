# Problems that hold up the rounds of one database must not hold up others: a lock on the database itself,
# and foreign servers that do not answer.

use strict;
use warnings;

use FindBin;
use IO::Select;
use Socket qw(AF_INET INADDR_LOOPBACK SOCK_STREAM pack_sockaddr_in unpack_sockaddr_in);
use POSIX ();
use Test::More;
use Time::HiRes ();

use lib "$FindBin::Bin/../support";
use JobAlerting qw(log_from_now sql status);

my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub, interval => '1s', conf => <<'CONF');
job_alerting.lock_timeout = '1s'
job_alerting.scan_timeout = '2s'
job_alerting.http_timeout = '5s'
autovacuum = off
CONF

# Two intervals, the time of a worker to connect and to scan, and slack for a slow machine.
my $soon = 2 + 1 + 2 + 2 + 8;

sub workers_for {
    my ($db) = @_;
    return sql(<<"SQL");
SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'job_alerting worker' AND application_name LIKE '% for $db'
SQL
}

# A round of the launcher reports a failure in a database within `$soon` seconds.
sub is_told {
    my ($db, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $came = $stub->from_now;
    my $job = JobAlerting::fail_job($node, db => $db);
    my $start = Time::HiRes::time();
    my $is_there = sub {
        return grep {
            my $request = $_;
            $request->{json}{subject} =~ m{ in main/\Q$db\E:} && grep { $_ eq $job } JobAlerting::named_jobs($request)
        } $came->();
    };
    my $there = eval { JobAlerting::poll($is_there, 60, "the mail of $db") };
    my $seconds = Time::HiRes::time() - $start;
    ok $there && $seconds < $soon, $name or diag sprintf '%s after %.1f s', $there ? 'it came' : 'no mail', $seconds;
    return;
}

sub create_database {
    my ($db) = @_;
    sql("CREATE DATABASE $db");
    JobAlerting::create_jobs($node, $db);
    JobAlerting::run_digest($node, $db);
    return;
}

JobAlerting::create_jobs($node);
create_database('well');
JobAlerting::run_digest($node);
my $since = sql('SELECT pg_postmaster_start_time()');
is_told($_, "$_: rounds come") for qw(postgres well);

# ---------------------------------------------------------------- a database that is locked

subtest 'an open ALTER DATABASE ... RENAME holds up the rounds of that database only' => sub {
    create_database('locked');
    is_told('locked', 'its rounds come');
    my $job = JobAlerting::fail_job($node, db => 'locked', status => 'running');
    my $logged = log_from_now();
    my $told = qr/WARNING: +job_alerting round in database "locked": cannot connect to the database/;
    my $held = JobAlerting::hold($node, 'ALTER DATABASE locked RENAME TO other');
    JobAlerting::poll(sub { $logged->() =~ $told }, $soon, 'a round that cannot begin');
    is_told($_, "$_ goes on") for qw(postgres well);
    ok status()->{healthy}, 'they are healthy' or diag status()->{reason};
    my @lines = $logged->() =~ /$told/g;
    is scalar @lines, 1, 'the log has one warning';
    is $logged->() =~ /exceeded its time limit/, '', 'the log has no warning of a worker that outlives its limits';
    JobAlerting::let_go($held);
    is_told('locked', 'let go, its rounds come again');
    JobAlerting::poll(sub { status('locked')->{healthy} }, 20, 'it to be well');
    sql('DROP DATABASE locked');
};

subtest 'among databases whose rounds cannot begin, each has its turn' => sub {
    my @locked = map { "locked$_" } 1 .. 4;
    create_database($_) for @locked;
    my $logged = log_from_now();
    my %held = map { $_ => JobAlerting::hold($node, "ALTER DATABASE $_ RENAME TO ${_}x", name => "holder of $_") } @locked;
    for my $db (@locked) {
        JobAlerting::poll(sub { $logged->() =~ /round in database "$db": cannot connect/ }, 4 * $soon,
            "a round in $db that cannot begin");
    }
    my $last = pop @locked;
    JobAlerting::let_go($held{$last});
    is_told($last, 'the last of them, which can be entered again, has its rounds');
    JobAlerting::let_go($held{$_}) for @locked;
    JobAlerting::poll(sub { status($_)->{healthy} }, 20, "$_ to be well") for @locked, $last;
    sql("DROP DATABASE $_") for @locked, $last;
};

# ---------------------------------------------------------------- foreign servers

# Each returns the port, and an object that keeps the server alive.

sub listener {
    my ($queue) = @_;
    socket my $listener, AF_INET, SOCK_STREAM, 0 or die "no socket: $!";
    bind $listener, pack_sockaddr_in(0, INADDR_LOOPBACK) or die "cannot bind: $!";
    listen $listener, $queue or die "cannot listen: $!";
    my ($port) = unpack_sockaddr_in getsockname $listener;
    return ($port, $listener);
}

# The kernel accepts connections, and no process reads from them.
sub accepts_only { return listener(50) }

# Its queue is full, so that connections are not completed.
sub never_connects {
    my ($port, $listener) = listener(0);
    my @full = map {
        socket my $client, AF_INET, SOCK_STREAM, 0 or die "no socket: $!";
        $client->blocking(0);
        connect $client, getsockname $listener;
        $client;
    } 1 .. 3;
    return ($port, [ $listener, @full ]);
}

# It completes the login, and answers no statement.
sub lets_in_only {
    my ($port, $listener) = listener(50);
    my $parent = $$;
    my $pid = fork // die "cannot fork: $!";
    if (!$pid) {
        $SIG{TERM} = 'DEFAULT';
        my @clients;
        while (getppid == $parent) {
            next if !IO::Select->new($listener)->can_read(1);
            accept my $client, $listener or next;
            push @clients, $client;
            my $bytes;
            sysread $client, $bytes, 8;
            # A cancel request.
            next if unpack('x4 N', $bytes) == 80877102;
            if (unpack('x4 N', $bytes) == 80877103) {
                # No TLS.
                syswrite $client, 'N';
                sysread $client, $bytes, 8;
            }
            sysread $client, $bytes, 4096;
            # AuthenticationOk, the server's version, ReadyForQuery.
            syswrite $client, pack('A N N', 'R', 8, 0) . pack('A N Z* Z*', 'S', 4 + 15 + 5, 'server_version', '15.0')
              . pack('A N A', 'Z', 5, 'I');
        }
        POSIX::_exit(0);
    }
    return ($port, bless { pid => $pid }, 'Child');
}

sub Child::DESTROY {
    local ($?, $!, $@);
    kill TERM => $_[0]{pid};
    waitpid $_[0]{pid}, 0;
    return;
}

sub watch_remote {
    my ($port, $host) = @_;
    $host //= '127.0.0.1';
    sql(<<"SQL", 'remote');
CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$host', port '$port', dbname 'postgres');
CREATE USER MAPPING FOR CURRENT_USER SERVER far;
CREATE FOREIGN TABLE public.far (id text, at timestamptz) SERVER far;
CREATE VIEW public.far_jobs AS SELECT id AS job_id, at AS failed_at FROM public.far;
SQL
    # watch_query() runs the query once, so the view is replaced afterwards.
    sql(q(CREATE OR REPLACE VIEW public.seen AS SELECT ''::text AS job_id, now() AS failed_at WHERE false), 'remote');
    sql(q(SELECT job_alerting.watch_query('far', 'SELECT * FROM public.seen')), 'remote');
    sql(q(CREATE OR REPLACE VIEW public.seen AS SELECT * FROM public.far_jobs), 'remote');
    return;
}

sub unwatch_remote {
    sql(q(SELECT job_alerting.unwatch('far', true); DROP VIEW public.seen; DROP SERVER far CASCADE), 'remote');
    return;
}

my @accepted;

create_database('remote');
sql('CREATE EXTENSION postgres_fdw', 'remote');

for my $way ([ 'accepts and never answers', \&accepts_only ], [ 'does not complete a connection', \&never_connects ],
    [ 'completes the login and answers no statement', \&lets_in_only ]) {
    my ($does, $begin) = @$way;
    subtest "a foreign server that $does holds up no other database or queue" => sub {
        my ($port, $keep) = $begin->();
        my $logged = log_from_now();
        watch_remote($port);
        my $start = Time::HiRes::time();
        my $in_scan = q(SELECT scan_started_at IS NOT NULL FROM job_alerting.queue WHERE name = 'far');
        JobAlerting::poll(sub { sql($in_scan, 'remote') eq 't' }, 30, 'a round to wait for the foreign server');
        is_told('well', 'another database goes on');
        JobAlerting::poll(sub { !status('remote')->{healthy} }, 60, 'the status to say so');
        cmp_ok Time::HiRes::time() - $start, '<', 60, 'status is unhealthy within a minute';
        is_told('remote', 'other queues of the database go on, too');
        my $queue = sub { (JobAlerting::rows($node, 'remote', q(SELECT * FROM job_alerting.queue WHERE name = 'far')))[0] };
        JobAlerting::poll(sub { ($queue->()->{last_error} // '') =~ /took longer than job_alerting\.scan_timeout \(2000 ms\)/ },
            30, 'the queue to say why');
        is_told('postgres', 'and other databases later');
        cmp_ok workers_for('remote'), '<=', 1, 'at most one worker is in the database';
        unlike $logged->(), qr/exceeded its time limit/, 'no worker outlives its limits';
        is sql('SELECT pg_postmaster_start_time()'), $since, 'the server did not restart';
        unwatch_remote();
        JobAlerting::poll(sub { status('remote')->{healthy} }, 30, 'the database to be well again');
    };
}

# Waits until `$is_waiting` says that the worker waits for the foreign server. Returns its process id.
sub waiting_worker {
    my ($is_waiting) = @_;
    my $workers = q(SELECT pid, wait_event_type FROM pg_stat_activity
        WHERE datname = 'remote' AND backend_type = 'job_alerting worker');
    return JobAlerting::poll(sub {
        my ($worker) = JobAlerting::rows($node, undef, $workers);
        return $worker && $is_waiting->($worker) && $worker->{pid};
    }, 30, 'the worker to wait');
}

# Whether a client has connected since the last call.
sub has_connected {
    my ($listener) = @_;
    IO::Select->new($listener)->can_read(0) or return 0;
    accept my $client, $listener or die "cannot accept: $!";
    push @accepted, $client;
    return 1;
}

for my $way ([ 'before its login', \&accepts_only, \&has_connected ],
    [ 'after its login', \&lets_in_only, sub { ($_[1]{wait_event_type} // '') eq 'Extension' } ]) {
    my ($when, $begin, $waits) = @$way;
    subtest "a worker that waits for a foreign server, $when, can be terminated" => sub {
        JobAlerting::configure($node, scan_timeout => '10min', interval => '1h');
        my $started = sql('SELECT pg_postmaster_start_time()');
        # After a complete round, the launcher's next one is an hour away, and only the caller has a worker.
        JobAlerting::begin_digest($node, db => 'remote')->finish;
        my ($port, $keep) = $begin->();
        watch_remote($port);
        my $is_waiting = sub { $waits->($keep, @_) };
        my $call = JobAlerting::begin_digest($node, db => 'remote');
        my $worker = waiting_worker($is_waiting);
        is sql("SELECT pg_terminate_backend($worker, 10000)"), 't', 'terminated, it ends';
        like $call->error, qr/was terminated before it finished/, 'its caller gets an error';
        is sql('SELECT pg_postmaster_start_time()'), $started, 'the server did not restart';

        my $preview = JobAlerting::Call->start($node, 'remote', q(SET statement_timeout = '2s'), 'SELECT * FROM job_alerting.preview()');
        $worker = waiting_worker($is_waiting);
        like $preview->error, qr/57014/, 'preview() is cancelled';
        JobAlerting::wait_for_end($worker);
        pass 'its worker ends';

        $call = JobAlerting::begin_digest($node, db => 'remote');
        waiting_worker($is_waiting);
        my $start = Time::HiRes::time();
        $node->stop('fast');
        cmp_ok Time::HiRes::time() - $start, '<', 20, 'a fast shutdown succeeds';
        $call->finish;
        $node->start;
        unwatch_remote();
    };
}

subtest 'a worker that waits for a foreign server, silent amid a statement, can be terminated' => sub {
    my $far = PostgreSQL::Test::Cluster->new('far');
    $far->init;
    $far->start;
    $far->safe_psql('postgres', q(CREATE VIEW far AS SELECT ''::text AS id, now() AS at FROM pg_sleep(600)));
    my ($postmaster) = PostgreSQL::Test::Utils::slurp_file($far->data_dir . '/postmaster.pid') =~ /\A(\d+)/;
    watch_remote($far->port, $far->host);
    my $sleeps = q(SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep');
    my $is_waiting = sub { $far->safe_psql('postgres', $sleeps) eq '1' };
    my $call = JobAlerting::begin_digest($node, db => 'remote');
    my $worker = waiting_worker($is_waiting);
    # The stopped postmaster cannot accept the cancel request.
    kill STOP => $postmaster;
    my $ends = eval { sql("SELECT pg_terminate_backend($worker, 10000)") };
    kill CONT => $postmaster;
    is $ends, 't', 'terminated, it ends';
    like $call->error, qr/was terminated before it finished/, 'its caller gets an error';
    unwatch_remote();
    $far->stop('immediate');
};

$node->stop;
done_testing();
