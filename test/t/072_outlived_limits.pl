# A worker that exceeds all its limits, and that not even its own alarm ends: the launcher terminates it,
# leaves it behind and goes on with the other databases. A stopped process simulates one that hangs in a
# broken disk or library.

use strict;
use warnings;

use FindBin;
use Test::More;
use Time::HiRes ();

use lib "$FindBin::Bin/../support";
use JobAlerting qw(log_from_now status);

# Seconds that the launcher adds to the limit of a worker, with limits as short as these.
my $grace = 5;

my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub, interval => '1s', conf => <<'CONF');
job_alerting.http_timeout = 1s
job_alerting.scan_timeout = 1s
job_alerting.lock_timeout = 1s
CONF
JobAlerting::create_jobs($node);
$node->safe_psql('postgres', 'CREATE DATABASE other');
JobAlerting::create_jobs($node, 'other');
# The launcher may have looked before the extension existed, and would look again only after 10 s.
JobAlerting::run_digest($node, $_) for qw(postgres other);

my $stopped;

# The stopped process must not outlive the test.
END {
    my $status = $?;
    kill CONT => $stopped if $stopped;
    $? = $status;
}

my $worker = 'job_alerting worker for database "postgres"';
my $asked = qr/WARNING: +$worker has exceeded its time limit and is being terminated/;
my $stays = qr/WARNING: +$worker does not terminate/;
my $ended = qr/LOG: +$worker, which had exceeded its time limit, has exited/;

# `begin` begins the round, unless the launcher does.
sub outlives {
    my ($begin) = @_;
    my $before = $stub->count;
    my $logged = log_from_now();
    $stub->modes('stall', '202');
    my $job = JobAlerting::fail_job($node);
    my $call = $begin->();
    $stub->wait_for($before + 1);
    my $start = Time::HiRes::time();
    $stopped = JobAlerting::worker($node);
    kill STOP => $stopped;
    my $since = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');

    my $elsewhere = JobAlerting::fail_job($node, db => 'other');
    $stub->wait_for($before + 2);
    is_deeply [ JobAlerting::named_jobs(($stub->requests)[ $before + 1 ]) ], [$elsewhere], "the other database's failure is reported";
    cmp_ok Time::HiRes::time() - $start, '<', 2 + 1 + $grace + 8, 'soon after the limits';

    JobAlerting::poll(sub { $logged->() =~ $asked }, 60 + $grace + 20, 'it to be asked to end');
    cmp_ok Time::HiRes::time() - $start, '>=', $grace, 'not before the limits are exceeded by far';
    my $status = status();
    ok !$status->{healthy}, 'status is unhealthy';
    like $status->{reason}, qr/exceeds its limits, and its process $stopped was asked to end/, 'the reason names the process';
    JobAlerting::poll(sub { $logged->() =~ $stays }, $grace + 20, 'it to be given up');
    unlike $logged->(), $ended, 'the log does not say that it has ended';
    is JobAlerting::worker($node), $stopped, 'no other worker is started in the database';
    is $stub->count, $before + 2, 'nothing of this database is sent';
    ok status('other')->{healthy}, 'the other database is healthy' or diag status('other')->{reason};

    kill CONT => $stopped;
    JobAlerting::wait_for_end($stopped);
    # The continued process would also end by itself, because its request has timed out.
    like $logged->(), qr/\[$stopped\].* FATAL: +terminating background worker "job_alerting worker/, 'the worker was terminated';
    JobAlerting::poll(sub { $logged->() =~ $ended }, 20, 'the log to say that it has ended');
    undef $stopped;
    $call->finish if $call;

    my @requests = ($stub->wait_for($before + 3))[ $before, $before + 2 ];
    is_deeply [ map { JobAlerting::named_jobs($_) } @requests ], [ $job, $job ], 'its digest in doubt comes again';
    is $requests[1]{body}, $requests[0]{body}, 'byte for byte';
    my $next = JobAlerting::fail_job($node);
    $stub->wait_for($before + 4);
    is_deeply [ JobAlerting::named_jobs(($stub->requests)[ $before + 3 ]) ], [$next], 'rounds go on';
    JobAlerting::poll(sub { status()->{healthy} }, 20, 'the database to be well');
    for my $what ($asked, $stays, $ended) {
        my @lines = $logged->() =~ /$what/g;
        is scalar @lines, 1, 'each message is logged once';
    }
    is $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $since, 'the server did not restart';
    return;
}

subtest 'a round of the launcher' => sub { outlives(sub { return }) };

subtest 'a round by hand' => sub {
    # A longer interval lets the round by hand find the failure first.
    JobAlerting::configure($node, interval => '6s');
    outlives(sub { JobAlerting::begin_digest($node) });
};

$node->stop;
done_testing();
