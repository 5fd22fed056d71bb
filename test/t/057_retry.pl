# The times of retries, and the mails after an outage of a day. The test sets the clock, hours at a time.
# The launcher makes the rounds, unless a subtest says that it calls run_digest().

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting qw(always log_from_now sql);

my $hour = 3600;

my $clock = JobAlerting::Clock->start;
my $stub = JobAlerting::Stub->start;
# Without retention, reported and cleared failures are pruned at once; waiting ones must be kept.
my $node = JobAlerting::node('main', stub => $stub, conf => <<'CONF');
job_alerting.retention = 0
autovacuum = off
CONF
JobAlerting::create_jobs($node);
# The launcher may have looked before the extension existed, and would look again only after 10 s.
JobAlerting::run_digest($node);

# All failed jobs and all receivers of all subtests.
my (@failed, @stubs);
push @stubs, $stub;

sub fail_job {
    my $job = JobAlerting::fail_job($node, @_);
    push @failed, $job;
    return $job;
}

# One round by hand. Returns its row of the channel.
sub run_digest {
    my ($row) = JobAlerting::run_digest($node);
    return $row;
}

# The newest digest. `wait`: seconds from its last try to the next.
sub digest {
    my ($digest) = JobAlerting::rows($node, undef, <<'SQL');
        SELECT *, extract(epoch FROM next_attempt_at - updated_at)::float8 AS wait
        FROM job_alerting.digest ORDER BY id DESC LIMIT 1
SQL
    return $digest;
}

sub forward {
    my ($seconds) = @_;
    $clock->pass($node, $seconds);
    return;
}

# Sets the clock ahead and waits for the end of the launcher's round that is due by then.
sub round_after {
    my ($seconds) = @_;
    my $last = 'SELECT last_round_at FROM job_alerting.status';
    my $before = sql($last);
    forward($seconds);
    return JobAlerting::poll(sub { sql($last) ne $before }, 20, 'the round of the launcher');
}

sub named {
    my ($request) = @_;
    return [ sort { $a <=> $b } JobAlerting::named_jobs($request) ];
}

sub message_ids {
    my %seen = map { $_->{json}{headers}{'Message-ID'} => 1 } @_;
    return scalar keys %seen;
}

# The text of a mail, its lines joined.
sub words {
    my ($request) = @_;
    return JobAlerting::text_part($request) =~ s/\s+/ /gr;
}

# Rounds in vain, so many hours apart. Before each round a job fails and the one before it is retried, so
# that its unreported failure no longer stands.
sub outage {
    my ($rounds, $hours) = @_;
    my @jobs = fail_job();
    round_after($hour + 1);
    for (2 .. $rounds) {
        sql("UPDATE research_jobs SET status = 'queued' WHERE id = $jobs[-1]");
        push @jobs, fail_job();
        round_after($hours * $hour + 1);
    }
    return @jobs;
}

# ---------------------------------------------------------------- a day

subtest 'a day of refused connections ends in one mail' => sub {
    my $port = $stub->port;
    $stub->stop;
    my @jobs = outage(8, 3);
    my $digest = digest();
    is "$digest->{state} $digest->{attempts}", 'pending 8', 'the digest was tried every three hours';
    $stub = JobAlerting::Stub->start(port => $port);
    push @stubs, $stub;
    push @jobs, fail_job();
    round_after($hour + 1);
    my @requests = $stub->requests;
    is scalar @requests, 1, 'one mail';
    is_deeply named($requests[0]), \@jobs, 'with every failure of the day';
    like words($requests[0]), qr/This digest is late: 8 earlier attempts failed\. The last error was: \S.*(?:refused|connect)/i,
      'the mail says that it is late, and why';
    is digest()->{attempts}, 9, 'at the ninth try';
    round_after($hour + 1);
    is $stub->count, 1, 'the next round is silent';
};

subtest 'a day of 401 ends in one mail' => sub {
    my $came = $stub->from_now;
    $stub->mode('401');
    my @jobs = outage(24, 1);
    is scalar $came->(), 24, 'the digest was tried once an hour';
    $stub->mode('202');
    push @jobs, fail_job();
    round_after($hour + 1);
    my @requests = $came->();
    is scalar @requests, 25, 'one mail is accepted';
    is message_ids(@requests), 1, 'all requests have the same Message-ID';
    is_deeply named($requests[-1]), \@jobs, 'with every failure of the day';
    like words($requests[-1]), qr/This digest is late: 24 earlier attempts failed\. The last error was: HTTP 401/,
      'the mail says that it is late, and why';
    round_after($hour + 1);
    is scalar $came->(), 25, 'the next round is silent';
};

subtest 'a day of 503 ends in two mails' => sub {
    my $came = $stub->from_now;
    $stub->mode('503');
    my ($first, @others) = outage(8, 3);
    is scalar $came->(), 8, 'the digest was tried once every three hours';
    $stub->mode('202');
    round_after($hour + 1);
    my @requests = $came->();
    is scalar @requests, 10, 'two mails are accepted';
    is scalar(grep { $_->{body} ne $requests[0]{body} } @requests[ 1 .. 8 ]), 0,
      'the requests of the digest in doubt are the same byte for byte';
    is_deeply [ map { named($_) } @requests[ 8, 9 ] ], [ [$first], \@others ], 'the second mail has all later failures';
    like words($requests[9]), qr/This digest is late: it waited for digest #\d+, whose delivery was in doubt/,
      'the mail says that it is late, and why';
    unlike words($requests[9]), qr/may not have reached you/, 'it does not say that the other is in doubt';
    round_after($hour + 1);
    is scalar $came->(), 10, 'the next round is silent';
};

subtest 'a digest in doubt holds up newer digests for a day' => sub {
    my $came = $stub->from_now;
    $stub->mode('503');
    my $old = fail_job();
    round_after($hour + 1);
    my $id = digest()->{id};
    my $new = fail_job();
    round_after(23 * $hour);
    is scalar $came->(), 2, 'after 23 hours only the digest in doubt is tried';

    # The first request of each round is that of the old digest.
    $stub->modes('503', '202');
    round_after($hour + 1);
    my @requests = $came->();
    is scalar @requests, 4, 'after 24 hours the newer digest is sent, too';
    is_deeply named($requests[3]), [$new], 'with the later failure';
    like words($requests[3]), qr/Digest #$id \(1 failure\) may not have reached you: HTTP 503/, 'it names the digest in doubt';
    like words($requests[3]), qr/settle\($id, true\)/, 'it says how to settle that';
    like words($requests[3]), qr/This digest is late: it waited for digest #$id/, 'it says why it is late';

    $stub->modes('503', '202');
    my $newest = fail_job();
    round_after($hour + 1);
    @requests = $came->();
    is_deeply [ map { named($_) } @requests[ 4 .. $#requests ] ], [ [$old], [$newest] ], 'an hour later both are sent again';
    like words($requests[5]), qr/Digest #$id \(1 failure\) may not have reached you/, 'it names the digest in doubt';
    unlike words($requests[5]), qr/late/, 'it does not say that it is late';

    $stub->mode('202');
    round_after($hour + 1);
    @requests = $came->();
    is scalar @requests, 7, 'the old digest is accepted in the end';
    is $requests[6]{body}, $requests[0]{body}, 'byte for byte the same';
    round_after($hour + 1);
    is scalar $came->(), 7, 'the next round is silent';
};

# ---------------------------------------------------------------- an hour

subtest 'the wait doubles from a minute to an hour, and the launcher keeps it' => sub {
    my $came = $stub->from_now;
    $stub->mode('401');
    fail_job();
    round_after($hour + 1);
    for my $attempt (1 .. 8) {
        my $least = 60 * 2**($attempt - 1);
        $least = $hour if $least > $hour;
        my $most = $least * 1.1 > $hour ? $hour : $least * 1.1;
        my $digest = digest();
        is $digest->{attempts}, $attempt, "attempt $attempt";
        cmp_ok $digest->{wait}, '>=', $least - 0.001, "the next one not before $least s";
        cmp_ok $digest->{wait}, '<=', $most + 0.001, 'and at most a tenth later';
        is_due($digest, 'status says when');
        if ($attempt == 3) {
            forward($digest->{wait} - 20);
            ok always(sub { scalar $came->() == $attempt }, 0.7), '20 s earlier, no request comes';
            round_after(21);
        } else {
            round_after($digest->{wait} + 1);
        }
        is scalar $came->(), $attempt + 1, 'a request comes when it is due';
    }
};

sub is_due {
    my ($digest, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok sql("SELECT abs(extract(epoch FROM next_round_at - '$digest->{next_attempt_at}')) < 3 FROM job_alerting.status") eq 't',
      $name;
}

# The following subtests use the digest of this one, which was tried 9 times and waits for an hour.

subtest 'a restart does not make a digest due' => sub {
    my $came = $stub->from_now;
    my $before = digest();
    JobAlerting::restart($node);
    my $after = digest();
    is $after->{$_}, $before->{$_}, "the same $_" for qw(id state attempts next_attempt_at);
    is scalar $came->(), 0, 'nothing is sent by the round at the start';
    is_due($after, 'status says when it is due');
    round_after($after->{wait} + 1);
    is scalar $came->(), 1, 'it is sent when it is due';
};

subtest 'a clock set back makes a digest due' => sub {
    my $came = $stub->from_now;
    is digest()->{attempts}, 10, 'the digest was tried';
    round_after(-3 * 24 * $hour);
    is scalar $came->(), 1, 'it is tried at once, not in three days';
    my $digest = digest();
    is $digest->{attempts}, 11, 'the try is counted';
    cmp_ok $digest->{wait}, '<=', $hour, 'the next try is within the hour';
    round_after(3 * 24 * $hour);
};

subtest 'run_digest() tries at once, unless the provider asked for a wait' => sub {
    my $came = $stub->from_now;
    is run_digest()->{outcome}, 'pending', 'the outcome of a try by hand';
    is scalar $came->(), 1, 'it is tried before it is due';

    # At the twelfth try, our own wait has reached its maximum.
    $stub->modes('429 retry-after=600', '202');
    is run_digest()->{outcome}, 'pending', 'the answer asks for 600 s';
    is digest()->{wait}, $hour, 'our own longer wait stays';
    my $row = run_digest();
    is $row->{outcome}, 'pending', 'by hand it stays pending';
    like $row->{detail}, qr/HTTP 429/, 'the detail says why';
    is scalar $came->(), 2, 'nothing is sent';
    round_after($hour + 1);
    is scalar $came->(), 3, 'it is sent when it is due';
    is digest()->{state}, 'accepted', 'it is accepted';
};

# ---------------------------------------------------------------- two channels

subtest 'a failing channel does not affect the other' => sub {
    JobAlerting::configure($node, channels => 'log,sendgrid');
    my $logged = log_from_now();
    # The first digest of a channel would have all standing failures.
    sql('DELETE FROM research_jobs');
    my $came = $stub->from_now;
    $stub->mode('401');
    my @jobs;
    for my $round (1, 2) {
        push @jobs, fail_job();
        my %row = map { $_->{channel} => $_ } JobAlerting::run_digest($node);
        is "$row{log}{outcome} $row{log}{failures}", 'accepted 1', "round $round: the log accepts each failure";
        is "$row{sendgrid}{outcome} $row{sendgrid}{failures}", "pending $round", 'all failures wait for the other channel';
    }
    $stub->mode('202');
    round_after($hour + 1);
    my @requests = $came->();
    is scalar @requests, 3, 'one mail in the end';
    is_deeply named($requests[2]), \@jobs, 'it has both failures';
    my @told = $logged->() =~ /^\s+job (\d+) in research_jobs/mg;
    is_deeply \@told, \@jobs, 'the log has each failure once';
};

subtest 'each failure is in exactly one accepted mail' => sub {
    my %mails;
    for my $request (map { $_->requests } @stubs) {
        next if $request->{mode} ne '202';
        $mails{$_}++ for JobAlerting::named_jobs($request);
    }
    is_deeply \%mails, { map { $_ => 1 } @failed }, 'in the mails';
    cmp_ok scalar @failed, '>', 40, 'there were many failures';
    is sql(q(SELECT count(*) FROM job_alerting.failure WHERE cleared_at IS NOT NULL)), 0,
      'reported failures that no longer stand are pruned';
};

$node->stop;
done_testing();
