# Each fault at each point of a dialogue with a mail server: as in 055_crash_matrix, every failure has been
# reported in one digest, and twice only when the end of the mail was sent and the verdict lost. A mail is
# never cut short.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting qw(sql);
use JobAlerting::Deliveries;
use JobAlerting::Faults;

my $stub = JobAlerting::MailStub->start(narrow => 1);
my $node = JobAlerting::node('main', mail => $stub, conf => <<'CONF');
job_alerting.lock_timeout = '60s'
job_alerting.http_timeout = '60s'
CONF
JobAlerting::create_jobs($node);

# The server is silent at this step of the dialogue, and the round is there.
sub stall_at {
    my ($round, $step) = @_;
    $stub->modes("stall $step", 'ok');
    $round->{call} = JobAlerting::begin_digest($node);
    JobAlerting::poll(sub { $stub->held }, 30, 'the silence');
    $round->{worker} = JobAlerting::worker($node);
    return;
}

# The first part of a large mail is sent, and no more of it is read.
sub mid_message {
    my ($round) = @_;
    push @{ $round->{jobs} }, JobAlerting::fail_large_jobs($node);
    stall_at($round, 'CONTENT');
    cmp_ok sql(q(SELECT octet_length(request) FROM job_alerting.digest WHERE state = 'sending')), '>', 200_000, 'it is large';
    return;
}

my @points = (
    [ 'before the greeting',  sub { stall_at(@_, 'CONNECT') }, came => 0, times => 1 ],
    [ 'at a recipient',       sub { stall_at(@_, 'RCPT') },    came => 0, times => 1 ],
    [ 'in the message',       \&mid_message,                   came => 0, times => 1 ],
    [ 'after the message',    sub { stall_at(@_, 'END') },     came => 1, times => 2 ],
);

JobAlerting::fail_job($node);
JobAlerting::run_digest($node);

for my $point (@points) {
    my ($where, $go_to, %expected) = @$point;
    for my $fault (JobAlerting::Faults::all()) {
        my ($what, $strike) = @$fault;
        subtest "$what $where" => sub {
            my $newest = sql('SELECT max(id) FROM job_alerting.digest');
            my $came = $stub->from_now;
            my %round = (jobs => [ map { JobAlerting::fail_job($node) } 1 .. 2 ]);
            $go_to->(\%round);
            is scalar $came->(), $expected{came}, 'the number of mails until then';
            $strike->($node, \%round);
            $round{call}->finish;
            $stub->release if $stub->held;
            JobAlerting::run_until_silent($node);
            my @mails = $came->();
            my @faults = JobAlerting::Deliveries::faults(
                requests => \@mails,
                jobs     => $round{jobs},
                digests  => [ split /\n/, sql("SELECT id FROM job_alerting.digest WHERE id > $newest") ],
                lost     => sub { 1 },
            );
            is_deeply \@faults, [], 'every failure was reported in one digest, in whole mails of the same bytes';
            is scalar @mails, $expected{times}, 'the number of mails in the end'
              or diag join ', ', map { length($_->{body}) . " bytes in mode $_->{mode}" } @mails;
            is sql(q(SELECT count(*) FROM job_alerting.digest WHERE state <> 'accepted')), 0, 'every digest is accepted';
        };
    }
}

$node->stop;
done_testing();
