# A standby has no launcher and no rounds. Promoted, it has both without a restart, and tells nothing
# that the old primary told.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting qw(problems wait_for_round);

my $stub = JobAlerting::Stub->start;
my $primary = JobAlerting::node('primary', stub => $stub, streaming => 1, interval => '1s');
JobAlerting::create_jobs($primary);
# The launcher, which may have looked before there was the extension, would look again in 10 s.
JobAlerting::run_digest($primary);

my $standby = PostgreSQL::Test::Cluster->new('standby');
$primary->backup('backup');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

# What of ours runs there, as its server sees it.
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

subtest 'on a standby there is no launcher, and the primary alone reports' => sub {
    $stub->wait_for(1);
    is_deeply named(1), [$told], 'the failure is reported';
    wait_for_round($primary) for 1 .. 2;
    $primary->wait_for_catchup($standby, 'replay');
    is_deeply [ ours($standby) ], [], 'nothing of ours runs on the standby';
    is_deeply [ grep { /launcher/ } ours($primary) ], ['job_alerting launcher'], 'as it does on the primary';
    is $stub->count, 1, 'one mail';
    is $standby->safe_psql('postgres', 'SELECT healthy, reason FROM job_alerting.status'),
      'f|this server is a standby: rounds run on the primary, so look there', 'its status says so';
    my $log = PostgreSQL::Test::Utils::slurp_file($standby->logfile);
    is_deeply [ problems($log) ], [], 'the log of the standby is quiet';
};

subtest 'promoted, it has a launcher without a restart, which tells nothing twice' => sub {
    $primary->wait_for_catchup($standby, 'replay');
    $primary->stop;
    my $since = $standby->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');
    $standby->promote;
    JobAlerting::poll(sub { grep { /launcher/ } ours($standby) }, 10, 'its launcher');
    wait_for_round($standby) for 1 .. 2;
    is $standby->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $since, 'it was not restarted';
    is $stub->count, 1, 'nothing is told twice';

    my $new = JobAlerting::fail_job($standby);
    $stub->wait_for(2);
    is_deeply named(2), [$new], 'what is new is told';
    wait_for_round($standby) for 1 .. 2;
    is $stub->count, 2, 'once';
};

$standby->stop;
done_testing();
