# A worker that is stuck beyond all its limits, so that not even its own alarm ends it: the launcher asks
# it to end, leaves it behind and goes on with the other databases. A stopped process stands for one that
# a broken disk or library holds.

use strict;
use warnings;

use FindBin;
use Test::More;
use Time::HiRes ();

use lib "$FindBin::Bin/../support";
use JobAlerting qw(log_from_now status);

# What the launcher adds to what a worker announced, in seconds, where the limits are so short.
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
# The launcher, which may have looked before there was the extension, would look again in 10 s.
JobAlerting::run_digest($node, $_) for qw(postgres other);

my $stopped;

# It must not stay behind when the test dies.
END {
    my $status = $?;
    kill CONT => $stopped if $stopped;
    $? = $status;
}

my $worker = 'job_alerting worker for database "postgres"';
my $asked = qr/WARNING: +$worker outlives its limits and is asked to end/;
my $stays = qr/WARNING: +$worker does not end/;
my $ended = qr/LOG: +$worker, which outlived its limits, has ended/;

# In whichever way the round came about.
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
    is_deeply [ JobAlerting::named_jobs(($stub->requests)[ $before + 1 ]) ], [$elsewhere], 'the other database is told of';
    cmp_ok Time::HiRes::time() - $start, '<', 2 + 1 + $grace + 8, 'after the limits';

    JobAlerting::poll(sub { $logged->() =~ $asked }, 60 + $grace + 20, 'it to be asked to end');
    cmp_ok Time::HiRes::time() - $start, '>=', $grace, 'not before its time is over by far';
    my $status = status();
    ok !$status->{healthy}, 'the status knows';
    like $status->{reason}, qr/outlives its limits, and its process $stopped was asked to end/, 'and says so';
    JobAlerting::poll(sub { $logged->() =~ $stays }, $grace + 20, 'it to be given up');
    unlike $logged->(), $ended, 'nobody says that it has ended';
    is JobAlerting::worker($node), $stopped, 'no other worker is started beside it';
    is $stub->count, $before + 2, 'nothing of it is sent';
    ok status('other')->{healthy}, 'the other database is well' or diag status('other')->{reason};

    kill CONT => $stopped;
    JobAlerting::wait_for_end($stopped);
    # It would end by itself, too, once it goes on: its request is out of time.
    like $logged->(), qr/\[$stopped\].* FATAL: +terminating background worker "job_alerting worker/, 'it was told to end';
    JobAlerting::poll(sub { $logged->() =~ $ended }, 20, 'the log to say that it has ended');
    undef $stopped;
    $call->finish if $call;

    my @requests = ($stub->wait_for($before + 3))[ $before, $before + 2 ];
    is_deeply [ map { JobAlerting::named_jobs($_) } @requests ], [ $job, $job ], 'its digest, in doubt, comes again';
    is $requests[1]{body}, $requests[0]{body}, 'byte for byte';
    my $next = JobAlerting::fail_job($node);
    $stub->wait_for($before + 4);
    is_deeply [ JobAlerting::named_jobs(($stub->requests)[ $before + 3 ]) ], [$next], 'and rounds go on';
    JobAlerting::poll(sub { status()->{healthy} }, 20, 'the database to be well');
    for my $what ($asked, $stays, $ended) {
        my @lines = $logged->() =~ /$what/g;
        is scalar @lines, 1, 'it was said once';
    }
    is $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $since, 'the server did not restart';
    return;
}

subtest 'a round of the launcher' => sub { outlives(sub { return }) };

subtest 'a round by hand' => sub {
    # So that it is the first to find the failure.
    JobAlerting::configure($node, interval => '6s');
    outlives(sub { JobAlerting::begin_digest($node) });
};

$node->stop;
done_testing();
