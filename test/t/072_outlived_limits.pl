# A worker that is stuck beyond all its limits, so that not even its own alarm ends it, is ended by the
# launcher; and rounds go on. A stopped process stands for one that a broken disk or library holds.

use strict;
use warnings;

use FindBin;
use Test::More;
use Time::HiRes ();

use lib "$FindBin::Bin/../support";
use JobAlerting;

# What the launcher adds to what a worker announced, in seconds.
my $grace = 30;

my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub, interval => '1s', conf => 'job_alerting.http_timeout = 1s');
JobAlerting::create_jobs($node);
# The launcher, which may have looked before there was the extension, would look again in 10 s.
JobAlerting::run_digest($node);

my $stopped;

# It must not stay behind when the test dies.
END {
    my $status = $?;
    kill CONT => $stopped if $stopped;
    $? = $status;
}

sub logged {
    return scalar PostgreSQL::Test::Utils::slurp_file($node->logfile);
}

my $warning = qr/WARNING: +job_alerting worker for database "postgres" outlives its limits and is ended/;

$stub->modes('stall', '202');
my $job = JobAlerting::fail_job($node);
$stub->wait_for(1);
my $start = Time::HiRes::time();
$stopped = JobAlerting::worker($node);
kill STOP => $stopped;
my $since = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');

JobAlerting::poll(sub { logged() =~ $warning }, $grace + 20, 'the launcher to end it');
cmp_ok Time::HiRes::time() - $start, '>=', $grace, 'not before its time is over by far';
my $worker = JobAlerting::worker($node);
is $worker, $stopped, 'no other worker is started while it lasts';

kill CONT => $stopped;
JobAlerting::poll(sub { !kill 0, $stopped }, 5, 'its end');
# It would end by itself, too, once it goes on: its request is out of time.
like logged(), qr/\[$stopped\].* FATAL: +terminating background worker "job_alerting worker/, 'it was told to end';
undef $stopped;

my @requests = $stub->wait_for(2);
is_deeply [ map { JobAlerting::named_jobs($_) } @requests ], [ $job, $job ], 'its digest, in doubt, comes again';
is $requests[1]{body}, $requests[0]{body}, 'byte for byte';
my $next = JobAlerting::fail_job($node);
$stub->wait_for(3);
is_deeply [ JobAlerting::named_jobs(($stub->requests)[2]) ], [$next], 'and rounds go on';
my @warnings = logged() =~ /$warning/g;
is scalar @warnings, 1, 'it was said once';
is $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $since, 'the server did not restart';

$node->stop;
done_testing();
