# Rounds at short intervals, a stream of failures, a receiver that misbehaves, and faults at random moments.
# Every failure is reported in one digest, and repeated, byte for byte, only when the answer to the first
# request may have been lost.
#
#   CRASH_SECONDS=3600   runs for an hour instead of a minute
#   CRASH_SEED=17        repeats the choices of an earlier run, but not their timing

use strict;
use warnings;

use FindBin;
use IO::Socket::INET;
use Test::More;
use Time::HiRes ();

use lib "$FindBin::Bin/../support";
use JobAlerting qw(sql);
use JobAlerting::Deliveries;

my $seconds = $ENV{CRASH_SECONDS} || 60;
my $seed = $ENV{CRASH_SEED} || 1 + int rand 2**31;
diag "random crashes for $seconds s; CRASH_SEED=$seed makes the same choices";

my $stub = JobAlerting::Stub->start;
my %count;
my $node = JobAlerting::node('main', stub => $stub, interval => '1s', conf => <<'CONF');
job_alerting.http_timeout = '5s'
job_alerting.max_listed = 1000
CONF
JobAlerting::create_jobs($node);
# This round announces the database to the launcher.
JobAlerting::run_digest($node);

# A port that is bound, so that no other process can listen on it.
my $closed = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'tcp') or die "no port: $@";

sub pick {
    my (@choices) = @_;
    return $choices[ rand @choices ];
}

# ---------------------------------------------------------------- the faults

# Each gets the worker of the round in progress, and returns when the server is up again.
my %strike = (
    SIGKILL            => \&kill_worker,
    SIGTERM            => sub { kill TERM => $_[0] },
    SIGINT             => sub { kill INT => $_[0] },
    'immediate stop'   => sub { $node->stop('immediate'); $node->start },
    'postmaster death' => sub { $node->kill9; JobAlerting::start_again($node) },
);

sub kill_worker {
    my ($worker) = @_;
    kill KILL => $worker;
    # After the worker's death the postmaster refuses connections until it has recovered.
    JobAlerting::poll(sub { !kill 0, $worker }, 10, 'the end of the worker');
    return JobAlerting::wait_for_server($node);
}

sub postmaster {
    return PostgreSQL::Test::Utils::slurp_file($node->data_dir . '/postmaster.pid') =~ s/\n.*//sr;
}

# The worker of a round that has just begun, from /proc: a query would take longer than most rounds.
sub worker_of {
    my ($postmaster) = @_;
    my @children = split ' ', PostgreSQL::Test::Utils::slurp_file("/proc/$postmaster/task/$postmaster/children");
    for my $pid (@children) {
        open my $title, '<', "/proc/$pid/cmdline" or next;
        return $pid if (readline($title) // '') =~ /: job_alerting worker /;
    }
    return;
}

# Waits for a random moment of a round. Most rounds are short.
sub wait_for_moment {
    my $postmaster = postmaster();
    my $deadline = Time::HiRes::time() + 5;
    my $worker;
    until ($worker = worker_of($postmaster)) {
        die "no round for 5 s\n" if Time::HiRes::time() > $deadline;
        Time::HiRes::usleep(2_000);
    }
    Time::HiRes::usleep(1_000_000 * rand pick(0.01, 0.04, 0.4));
    return $worker;
}

sub strike {
    my ($what) = @_;
    my $worker = wait_for_moment();
    my $from = Time::HiRes::time();
    $count{'of them upon a round'}++ if kill 0, $worker;
    $strike{$what}->($worker);
    $count{$what}++;
    return { what => $what, from => $from, to => Time::HiRes::time() };
}

# ---------------------------------------------------------------- a receiver that misbehaves

my @good = ('202', 'slow 1');
my @bad = ('stall', '503', '429 retry-after=1', '401', 'close', 'close-after-head', 'close-after-read',
    'reset-after-read');

sub misbehave {
    $stub->modes((map { pick(pick(@good), pick(@bad)) } 1 .. 1 + int rand 3), '202');
    send_to(rand() < 0.1 ? 'http://127.0.0.1:' . $closed->sockport : $stub->url);
    return;
}

sub behave {
    $stub->modes('202');
    $stub->release if $stub->held;
    send_to($stub->url);
    return;
}

my $receiver = $stub->url;

sub send_to {
    my ($url) = @_;
    JobAlerting::configure($node, sendgrid_url => $url) if $url ne $receiver;
    $receiver = $url;
    return;
}

# ---------------------------------------------------------------- a spell

# Some faults with a few failures each, then calm. Returns the faults and the violations of the promise.
sub spell {
    my ($deadline) = @_;
    my ($before, $digest, $failure) = ($stub->count, newest('digest'), newest('failure'));
    my (@jobs, @strikes);
    do {
        misbehave();
        push @jobs, map { JobAlerting::fail_job($node) } 1 .. 1 + int rand 3;
        push @strikes, strike(pick(sort keys %strike));
    } until @strikes == 8 || Time::HiRes::time() > $deadline;
    behave();
    JobAlerting::run_until_silent($node);

    $count{failures} += @jobs;
    my $faults = faults_since($before, $digest, \@jobs, @strikes);
    return (\@strikes, [ @$faults, faults_of_queue($before, $failure) ]);
}

# A queue whose scans were cut off twice in succession is reported as one that cannot be read.
sub faults_of_queue {
    my ($before, $failure) = @_;
    my $recorded = sql("SELECT count(*) FROM job_alerting.failure WHERE id > $failure AND job_id = 'unreadable'");
    my $says = qr/queue\s+research_jobs\s+could\s+not\s+be\s+read/;
    my $told = grep { JobAlerting::text_part($_) =~ $says } requests_since($before);
    return !$told == !$recorded ? () : "the queue could not be read $recorded times, and $told mails say so";
}

sub requests_since {
    my ($before) = @_;
    return grep { $_->{number} > $before } $stub->requests;
}

sub faults_since {
    my ($before, $digest, $jobs, @strikes) = @_;
    my @requests = requests_since($before);
    my @digests = split /\n/, sql("SELECT id FROM job_alerting.digest WHERE id > $digest");
    $count{digests} += @digests;
    $count{repetitions} += @requests - @digests;
    return [ JobAlerting::Deliveries::faults(
        requests => \@requests,
        jobs     => $jobs,
        digests  => \@digests,
        lost     => sub { return was_lost(@_, @strikes) },
    ) ];
}

# A failure without any fault: the launcher's rounds report it, and go on.
sub calm {
    my ($before, $digest) = ($stub->count, newest('digest'));
    my $job = JobAlerting::fail_job($node);
    $stub->wait_for($before + 1);
    JobAlerting::run_until_silent($node);
    return faults_since($before, $digest, [$job]);
}

sub newest {
    my ($table) = @_;
    return sql("SELECT coalesce(max(id), 0) FROM job_alerting.$table");
}

# Whether the answer to a request may have been lost before it was repeated.
sub was_lost {
    my ($request, $again, @strikes) = @_;
    return 1 if !grep { $request->{mode} eq $_ } @good;
    return scalar grep { $_->{to} > $request->{time} - 2 && $_->{from} < $again->{time} } @strikes;
}

# Here, because the modules that start the cluster use random numbers, too.
srand $seed;
my $deadline = Time::HiRes::time() + $seconds;
my $spell = 0;
do {
    subtest 'spell ' . ++$spell => sub {
        my ($strikes, $faults) = spell($deadline);
        note join ', ', map { $_->{what} } @$strikes;
        is_deeply $faults, [], 'every failure was reported in one digest, and repeated only for a reason, in the same bytes';
        is sql(q(SELECT count(*) FROM job_alerting.digest WHERE state <> 'accepted')), 0, 'every digest is accepted';
        is_deeply calm(), [], 'without faults a failure is reported once';
    };
} while (Test::More->builder->is_passing && Time::HiRes::time() < $deadline);

diag join ', ', map { "$_: " . ($count{$_} // 0) } sort(keys %strike), 'of them upon a round',
  qw(failures digests repetitions);
$node->stop;
done_testing();
