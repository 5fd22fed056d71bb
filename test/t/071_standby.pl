# A standby has no launcher and no rounds. After its promotion it has both without a restart, and reports
# no failure that the old primary reported.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting qw(problems wait_for_round);

my $stub = JobAlerting::Stub->start;
my $primary = JobAlerting::node('primary', stub => $stub, streaming => 1, interval => '1s');
JobAlerting::create_jobs($primary);
# The launcher may have looked before the extension existed, and would look again only after 10 s.
JobAlerting::run_digest($primary);

my $standby = PostgreSQL::Test::Cluster->new('standby');
$primary->backup('backup');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

# Our processes on a server.
sub ours {
    my ($node) = @_;
    return map { $_->{backend_type} } JobAlerting::rows($node, undef, <<'SQL');
        SELECT backend_type FROM pg_stat_activity WHERE backend_type LIKE 'job_alerting%' ORDER BY 1
SQL
}

sub named {
    my ($number) = @_;
    return [ JobAlerting::named_jobs(($stub->requests)[ $number - 1 ]) ];
}

my $told = JobAlerting::fail_job($primary);

subtest 'a standby has no launcher, and only the primary reports' => sub {
    $stub->wait_for(1);
    is_deeply named(1), [$told], 'the failure is reported';
    wait_for_round($primary) for 1 .. 2;
    $primary->wait_for_catchup($standby, 'replay');
    is_deeply [ ours($standby) ], [], 'the standby has no process of ours';
    is_deeply [ grep { /launcher/ } ours($primary) ], ['job_alerting launcher'], 'the primary has a launcher';
    is $stub->count, 1, 'one mail';
    is $standby->safe_psql('postgres', 'SELECT healthy, reason FROM job_alerting.status'),
      'f|this server is a standby: rounds run on the primary, so read its status', "the standby's status refers to the primary";
    my $log = PostgreSQL::Test::Utils::slurp_file($standby->logfile);
    is_deeply [ problems($log) ], [], "the standby's log has no problem";
};

subtest 'a promoted standby has a launcher without a restart, and reports nothing twice' => sub {
    $primary->wait_for_catchup($standby, 'replay');
    $primary->stop;
    my $since = $standby->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');
    $standby->promote;
    JobAlerting::poll(sub { grep { /launcher/ } ours($standby) }, 10, 'its launcher');
    wait_for_round($standby) for 1 .. 2;
    is $standby->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $since, 'the server was not restarted';
    is $stub->count, 1, 'nothing is reported twice';

    my $new = JobAlerting::fail_job($standby);
    $stub->wait_for(2);
    is_deeply named(2), [$new], 'a new failure is reported';
    wait_for_round($standby) for 1 .. 2;
    is $stub->count, 2, 'it is reported once';
};

$standby->stop;
done_testing();
