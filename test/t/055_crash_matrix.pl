# Each fault at each point of a round: the worker is killed, terminated or cancelled, the server stops at
# once, its postmaster dies. After recovery every failure has been reported in one digest, and twice only
# when the first request was wholly handed over and its answer lost.
#
# Locks, signals and the receiver stop a round at its points, without help from the product.

use strict;
use warnings;

use FindBin;
use Socket qw(AF_INET INADDR_LOOPBACK IPPROTO_TCP SOCK_STREAM SOL_SOCKET SO_RCVBUF TCP_MAXSEG
  pack_sockaddr_in unpack_sockaddr_in);
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting qw(sql);
use JobAlerting::Deliveries;
use JobAlerting::Faults;

my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub, conf => <<'CONF');
job_alerting.lock_timeout = '60s'
job_alerting.http_timeout = '60s'
CONF
JobAlerting::create_jobs($node);

# Two failures for a round that is to be interrupted; `came` returns the requests from now on.
sub new_round {
    my $before = $stub->count;
    return {
        before => $before,
        newest => sql('SELECT max(id) FROM job_alerting.digest'),
        jobs   => [ map { JobAlerting::fail_job($node) } 1 .. 2 ],
        came   => sub { return grep { $_->{number} > $before } $stub->requests },
    };
}

sub begin {
    my ($round) = @_;
    $round->{call} = JobAlerting::begin_digest($node);
    $round->{worker} = JobAlerting::poll(sub { JobAlerting::worker($node) }, 10, 'the worker');
    return;
}

# The worker of this round sends to the listener, and later ones to the stub.
sub begin_towards {
    my ($round, $listener) = @_;
    my ($port) = unpack_sockaddr_in getsockname $listener;
    JobAlerting::configure($node, sendgrid_url => "http://127.0.0.1:$port");
    begin($round);
    my $sending = q(SELECT count(*) FROM job_alerting.digest WHERE state = 'sending');
    JobAlerting::poll(sub { sql($sending) eq '1' }, 10, 'the request');
    JobAlerting::configure($node, sendgrid_url => $stub->url);
    return;
}

sub wait_until_blocked {
    return JobAlerting::poll(sub { sql(<<'SQL') eq '1' }, 10, 'the worker to wait for a lock');
        SELECT count(*) FROM pg_stat_activity w JOIN pg_stat_activity h ON h.pid = ANY (pg_blocking_pids(w.pid))
        WHERE w.backend_type = 'job_alerting worker' AND h.application_name = 'holder'
SQL
}

# ---------------------------------------------------------------- a receiver that does not listen

# It accepts one connection more than the queue's length, and buffers next to nothing.
sub deaf_listener {
    my ($queue) = @_;
    socket my $listener, AF_INET, SOCK_STREAM, 0 or die "no socket: $!";
    # A small window and small segments keep the buffers of both sides small.
    setsockopt $listener, SOL_SOCKET, SO_RCVBUF, 1 or die "no small buffer: $!";
    setsockopt $listener, IPPROTO_TCP, TCP_MAXSEG, 536 or die "no small segments: $!";
    bind $listener, pack_sockaddr_in(0, INADDR_LOOPBACK) or die "cannot bind: $!";
    listen $listener, $queue or die "cannot listen: $!";
    return $listener;
}

# The sockets at both ends of its connections, as Linux lists them: state and buffered bytes.
sub sockets_of {
    my ($listener) = @_;
    my ($port) = unpack_sockaddr_in getsockname $listener;
    my $address = sprintf '0100007F:%04X', $port;
    my @lines = grep { /\s$address\s/ } split /\n/, PostgreSQL::Test::Utils::slurp_file('/proc/net/tcp');
    return map {
        my ($state, $sending, $received) = /\s(\w\w) (\w{8}):(\w{8})\s/;
        { state => hex $state, bytes => hex($sending) + hex $received };
    } @lines;
}

# The number of sockets that wait for the connection.
sub connecting_to {
    my ($listener) = @_;
    return scalar grep { $_->{state} == 2 } sockets_of($listener);
}

# The bytes that the listener has not read.
sub unread_by {
    my ($listener) = @_;
    my $bytes = 0;
    $bytes += $_->{bytes} for grep { $_->{state} == 1 } sockets_of($listener);
    return $bytes;
}

# ---------------------------------------------------------------- the points of a round

# Each begins a round and waits until its worker has reached the point. Returns a function that lets it go on.

sub before_record {
    my ($round) = @_;
    my $held = JobAlerting::hold($node, 'LOCK TABLE research_jobs');
    begin($round);
    wait_until_blocked();
    return sub { JobAlerting::let_go($held) };
}

# Another session has an uncommitted open digest. The round has inserted its own, and waits on the unique
# index.
sub before_compose_commits {
    my ($round) = @_;
    my $held = JobAlerting::hold($node,
        q(UPDATE job_alerting.digest SET state = 'pending' WHERE id = (SELECT max(id) FROM job_alerting.digest)));
    begin($round);
    wait_until_blocked();
    return sub { JobAlerting::let_go($held) };
}

sub while_connecting {
    my ($round) = @_;
    my $deaf = deaf_listener(0);
    # This connection fills its queue.
    socket my $first, AF_INET, SOCK_STREAM, 0 or die "no socket: $!";
    connect $first, getsockname $deaf or die "cannot connect: $!";
    begin_towards($round, $deaf);
    JobAlerting::poll(sub { connecting_to($deaf) }, 10, 'the worker to connect');
    return sub { close $_ for $first, $deaf };
}

sub mid_upload {
    my ($round) = @_;
    push @{ $round->{jobs} }, split /\n/, sql(<<'SQL');
        INSERT INTO research_jobs (source, job_type, status, last_error, finished_at)
        SELECT 'youtube', 'search_song', 'dead', repeat(chr(96 + i), 3000), now() FROM generate_series(1, 20) i
        RETURNING id
SQL
    my $deaf = deaf_listener(1);
    begin_towards($round, $deaf);
    my $unread = 0;
    my $is_stuck = sub { my $before = $unread; $unread = unread_by($deaf); return $unread > 0 && $unread == $before };
    JobAlerting::poll($is_stuck, 10, 'the upload to get stuck');
    my $size = sql(q(SELECT octet_length(request) FROM job_alerting.digest WHERE state = 'sending'));
    cmp_ok $unread, '<', $size, 'the buffers do not hold the whole request';
    return sub { close $deaf };
}

sub after_upload {
    my ($round) = @_;
    $stub->modes('stall', '202');
    begin($round);
    $stub->wait_for($round->{before} + 1);
    return sub { $stub->release if $stub->held };
}

# The receiver has answered, and the stopped worker cannot read it.
sub after_the_answer_was_sent {
    my ($round) = @_;
    my $let_answer = after_upload($round);
    kill STOP => $round->{worker};
    $let_answer->();
    $round->{stopped} = 1;
    return sub { };
}

sub before_settle_commits {
    my ($round) = @_;
    my $let_answer = after_upload($round);
    my $held = JobAlerting::hold($node, q(SELECT FROM job_alerting.digest WHERE state = 'sending' FOR UPDATE));
    $let_answer->();
    wait_until_blocked();
    return sub { JobAlerting::let_go($held) };
}

# ---------------------------------------------------------------- the matrix

# For each point: the number of requests until then, and the possible numbers in the end. There are two where
# the worker may or may not have read the answer. `outlives`: faults that the worker survives; it settles its
# answer when it can go on.
my @points = (
    [ 'before record',             \&before_record,             came => 0, times => [1] ],
    [ 'before compose commits',    \&before_compose_commits,    came => 0, times => [1] ],
    [ 'while connecting',          \&while_connecting,          came => 0, times => [1] ],
    [ 'mid-upload',                \&mid_upload,                came => 0, times => [1] ],
    [ 'after upload',              \&after_upload,              came => 1, times => [2] ],
    [ 'after the answer was sent', \&after_the_answer_was_sent, came => 1, times => [ 1, 2 ] ],
    [ 'before settle commits',     \&before_settle_commits,     came => 1, times => [2], outlives => [qw(SIGTERM SIGINT)] ],
);
sub is_told {
    my ($round, @times) = @_;
    JobAlerting::run_until_silent($node);
    my @requests = $round->{came}->();
    my @faults = JobAlerting::Deliveries::faults(
        requests => \@requests,
        jobs     => $round->{jobs},
        digests  => [ split /\n/, sql("SELECT id FROM job_alerting.digest WHERE id > $round->{newest}") ],
        lost     => sub { 1 },
    );
    is_deeply \@faults, [], 'every failure was reported in one digest, in the same bytes';
    ok scalar(grep { $_ == @requests } @times), 'the number of requests is allowed' or diag scalar(@requests) . ' requests';
    is sql(q(SELECT count(*) FROM job_alerting.digest WHERE state <> 'accepted')), 0, 'every digest is accepted';
    return;
}

# The first digest of a channel is special, so it is sent before.
JobAlerting::fail_job($node);
JobAlerting::run_digest($node);

for my $point (@points) {
    my ($where, $go_to, %expected) = @$point;
    for my $fault (JobAlerting::Faults::all()) {
        my ($what, $strike) = @$fault;
        subtest "$what $where" => sub {
            my $round = new_round();
            my $let_go = $go_to->($round);
            is JobAlerting::worker($node), $round->{worker}, 'the round is at this point';
            is scalar $round->{came}->(), $expected{came}, 'the number of requests until then';
            $strike->($node, $round);
            my $outlived = grep { $_ eq $what } @{ $expected{outlives} // [] };
            $round->{call}->finish if !$outlived;
            $let_go->();
            $round->{call}->finish;
            is_told($round, $outlived ? 1 : @{ $expected{times} });
        };
    }
}

$node->stop;
done_testing();
