# The meaning of each answer for the digest, for the next attempt and for the caller of run_digest(). The
# receiver's records show that a digest that was surely not accepted comes again, that a digest that may have
# been accepted comes again as the same mail, and that an accepted digest does not come again.

use strict;
use warnings;

use FindBin;
use JSON::PP ();
use POSIX ();
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting qw(sql);

my $stub = JobAlerting::Stub->start;
my $json = JSON::PP->new->utf8;
my $elsewhere = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub, conf => "job_alerting.http_timeout = '2s'");
JobAlerting::create_jobs($node);

# One round. Returns its row of the channel and the newest digest, whose `wait` is the time from its last try
# to the next, in seconds. One psql runs both, because this test has many rounds.
sub run_digest {
    my (@statements_before) = @_;
    my ($row, $digest) = map { $json->decode($_) } split /\n/, sql(join ';', @statements_before, <<'SQL');
        SELECT row_to_json(r) FROM job_alerting.run_digest() r;
        SELECT row_to_json(d) FROM (SELECT *, extract(epoch FROM next_attempt_at - updated_at) AS wait
                                    FROM job_alerting.digest ORDER BY id DESC LIMIT 1) d
SQL
    return ($row, $digest);
}

sub is_silent {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($row) = run_digest();
    is $row->{outcome}, 'silent', 'the next round is silent';
    return;
}

# A new failure gets these answers, the last of which stays. Returns the result of the first round.
sub meet {
    my (@modes) = @_;
    $stub->modes(@modes);
    my %met = (before => $stub->count, job => JobAlerting::fail_job($node, last_error => 'canary of a job'));
    @met{qw(row digest)} = run_digest();
    return \%met;
}

# The requests since then; in scalar context their number.
sub came {
    my ($met) = @_;
    return grep { $_->{number} > $met->{before} } $stub->requests;
}

sub is_within {
    my ($value, $least, $most, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok $value >= $least && $value <= $most, $name or diag "$value is not within $least and $most";
    return;
}

# The call and the digest have this result of a failed try.
sub is_told_as {
    my ($met, %expected) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($row, $digest) = @$met{qw(row digest)};
    is $row->{outcome}, $expected{state}, "the outcome of the call: $expected{state}";
    is $digest->{state}, $expected{state}, 'the state of the digest';
    is $digest->{http_status}, $expected{status}, 'the status of the answer';
    like $digest->{error}, $expected{error}, 'the reason';
    is $row->{detail}, $digest->{error}, 'the same in the detail';
    is $digest->{attempts}, 1, 'one attempt';
    is_within($digest->{wait}, @{ $expected{wait} // [ 60, 66 ] }, 'the next attempt');
    is scalar came($met), 1, 'one request';
    return;
}

# The next round delivers the digest. Returns all its requests.
sub is_delivered_now {
    my ($met, $number) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($row, $digest) = run_digest();
    is $row->{outcome}, 'accepted', 'accepted at last' or diag explain $row;
    is $row->{digest_id}, $met->{row}{digest_id}, 'the same digest';
    is $digest->{$_}, undef, "no $_ is left" for qw(error request next_attempt_at);
    my @requests = came($met);
    is scalar @requests, $number, "$number requests in all";
    is_deeply [ JobAlerting::named_jobs($requests[-1]) ], [ $met->{job} ], 'the failure is reported';
    is message_id($requests[-1]), message_id($requests[0]), 'under the same Message-ID';
    return @requests;
}

sub message_id {
    my ($request) = @_;
    return $request->{json}{headers}{'Message-ID'};
}

# Ends the wait and forgets the earlier tries.
my $make_due = "UPDATE job_alerting.digest SET next_attempt_at = now(), attempts = 0 WHERE state <> 'accepted'";

sub http_date {
    my ($seconds) = @_;
    POSIX::setlocale(POSIX::LC_TIME(), 'C');
    return POSIX::strftime('%a, %d %b %Y %H:%M:%S GMT', gmtime(time + $seconds));
}

# ---------------------------------------------------------------- the meaning of an answer

for my $mode ('202', 'cut-after-status', 'cut-body', 'huge-header', 'slow 10') {
    subtest "accepted: $mode" => sub {
        my $met = meet($mode);
        is $met->{row}{outcome}, 'accepted', 'the outcome of the call';
        is $met->{digest}{state}, 'accepted', 'the state of the digest';
        is $met->{digest}{http_status}, 202, 'the status of the answer';
        is $met->{digest}{$_}, undef, "no $_" for qw(error request next_attempt_at);
        is scalar came($met), 1, 'one request';
        is_silent();
        is scalar came($met), 1, 'no further request';
    };
}

my $quota = 'Maximum credits exceeded';
my $new_place = 'Location: ' . $elsewhere->url . '/v3/mail/send';
for my $refusal (
    [ '200',                                  qr/sandbox.*sendgrid_url/ ],
    [ "301 $new_place",                       qr/redirect.*sendgrid_url/ ],
    [ "302 $new_place",                       qr/redirect.*sendgrid_url/ ],
    [ "307 $new_place",                       qr/redirect.*sendgrid_url/ ],
    [ "308 $new_place",                       qr/redirect.*sendgrid_url/ ],
    [ '401',                                  qr/grant is invalid, expired, or revoked.*API key/ ],
    [ qq(401 {"errors":[{"message":"$quota"}]}), qr/$quota.*account's credits/ ],
    [ '403',                                  qr/does not match a verified Sender Identity.*mail_from/ ],
    [ '404',                                  qr/sendgrid_url/ ],
    [ '405',                                  qr/sendgrid_url/ ],
    [ '407',                                  qr/proxy/ ],
    [ '410',                                  qr/sendgrid_url/ ],
    [ '415',                                  qr/Invalid UTF8 in request/ ],
    [ '418 body=<html>captive portal</html>', qr/sendgrid_url and proxy/ ],
  )
{
    my ($mode, $reason) = @$refusal;
    my $status = substr $mode, 0, 3;
    subtest 'surely not accepted: ' . $mode =~ s/ Location:.*//r => sub {
        my $met = meet($mode, '202');
        is_told_as($met, state => 'pending', status => $status, error => qr/\AHTTP $status: .*$reason/);
        is_delivered_now($met, 2);
    };
}

subtest 'no redirect was followed' => sub {
    is $elsewhere->count, 0, 'no request';
    is scalar $elsewhere->broken, 0, 'no connection';
};

for my $doubt (
    [ '204',                              204,   qr/\AHTTP 204/ ],
    [ '500',                              500,   qr/\AHTTP 500: Internal Server Error/ ],
    [ '502 body=<html>no gateway</html>', 502,   qr/\AHTTP 502\z/ ],
    [ '503',                              503,   qr/\AHTTP 503: Service Unavailable/ ],
    [ '503 retry-after=1',                503,   qr/\AHTTP 503/ ],
    [ '600',                              600,   qr/\AHTTP 600/ ],
    [ 'garbage',                          undef, qr/./ ],
    [ 'close-after-read',                 undef, qr/Empty reply/ ],
    [ 'reset-after-read',                 undef, qr/reset/ ],
    [ 'slow 150',                         undef, qr/timed out/ ],
  )
{
    my ($mode, $status, $reason) = @$doubt;
    subtest "in doubt: $mode" => sub {
        my $met = meet($mode, '202');
        is_told_as($met, state => 'in_doubt', status => $status, error => $reason);
        my @requests = is_delivered_now($met, 2);
        is $requests[1]{body}, $requests[0]{body}, 'byte for byte the same mail';
        like $requests[0]{json}{subject}, qr/\[#$met->{row}{digest_id}\]\z/, 'its number in the subject';
        is_silent();
        is scalar came($met), 2, 'no third request';
    };
}

# ---------------------------------------------------------------- the wait

subtest 'each try that fails doubles the wait' => sub {
    for my $mode ('403', '503') {
        my $met = meet($mode, $mode, $mode, '202');
        my @waits = $met->{digest}{wait};
        push @waits, (run_digest())[1]{wait} for 1, 2;
        is_within($waits[$_], 60 * 2**$_, 66 * 2**$_, "$mode: the wait after try " . ($_ + 1)) for 0 .. 2;
        $stub->modes($mode, '202');
        my (undef, $digest) = run_digest("UPDATE job_alerting.digest SET attempts = 50 WHERE state <> 'accepted'");
        is $digest->{wait}, 3600, "$mode: an hour at most";
        is_delivered_now($met, 5);
    }
};

subtest 'the wait that a 429 asks for is kept, at most an hour, and never shortens our own' => sub {
    my $met = meet('429 reset=+300');
    is_told_as($met, state => 'pending', status => 429, error => qr/too many requests/, wait => [ 240, 300 ]);
    my $tries = 1;
    for my $case (
        [ '429 reset=+99999',                   3600, 3600 ],
        [ '429 reset=99999999999999',           3600, 3600 ],
        [ '429 reset=+300 retry-after=700',     700,  700 ],
        [ '429 reset=-100 retry-after=700',     700,  700 ],
        [ '429 reset=soon retry-after=700',     700,  700 ],
        [ '429 retry-after=1000000000',         3600, 3600 ],
        [ '429 Retry-After: ' . http_date(300), 240,  300 ],
        [ '429 Retry-After: ' . http_date(9e6), 3600, 3600 ],
        [ '429',                                60,   66 ],
        [ '429 reset=+5',                       60,   66 ],
        [ '429 reset=-100',                     60,   66 ],
        [ '429 retry-after=0',                  60,   66 ],
        [ '429 retry-after=0 reset=-100',       60,   66 ],
        [ '429 Retry-After: ' . http_date(-100), 60,  66 ],
        [ '429 reset=soon',                     60,   66 ],
        [ '429 retry-after=1e9',                60,   66 ],
        [ '429 retry-after=-5',                 60,   66 ],
        [ '429 Retry-After: tomorrow at noon',  60,   66 ],
      )
    {
        my ($mode, $least, $most) = @$case;
        $stub->mode($mode);
        my ($row, $digest) = run_digest($make_due);
        is $row->{outcome}, 'pending', "$mode: pending";
        is scalar came($met), ++$tries, 'it was tried';
        is_within($digest->{wait}, $least, $most, 'the wait');
        ($row) = run_digest();
        is $row->{outcome}, 'pending', 'by hand: still pending';
        like $row->{detail}, qr/\AHTTP 429: too many requests/, 'the detail says why';
        is scalar came($met), $tries, 'by hand it is not tried earlier';
    }
    $stub->mode('202');
    sql($make_due);
    is_delivered_now($met, $tries + 1);
};

subtest 'a digest in doubt whose resend meets 429 waits, and stays in doubt' => sub {
    my $met = meet('close-after-read', '429 reset=+300', '202');
    my ($row, $digest) = run_digest();
    is $row->{outcome}, 'in_doubt', 'still in doubt';
    is $digest->{http_status}, 429, 'the answer asks for a wait';
    is_within($digest->{wait}, 240, 300, 'the wait');
    is((run_digest())[0]{outcome}, 'in_doubt', 'by hand: in doubt');
    is scalar came($met), 2, 'by hand it is not tried earlier';
    sql($make_due);
    my @requests = is_delivered_now($met, 3);
    is $requests[$_]{body}, $requests[0]{body}, 'byte for byte the same mail' for 1, 2;
};

# ---------------------------------------------------------------- endless answers

subtest 'an endless answer takes neither memory nor time' => sub {
    JobAlerting::configure($node, http_timeout => '60s');
    # Records the worker's peak of memory when it settles the answer.
    sql(<<'SQL');
        CREATE TABLE peak (kilobytes int);
        CREATE FUNCTION note_peak() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO public.peak
            SELECT substring(pg_read_file('/proc/self/status') FROM 'VmHWM:\s+(\d+)')::int;
            RETURN NULL;
        END $$;
        CREATE TRIGGER note_peak AFTER UPDATE ON job_alerting.digest
            FOR EACH ROW WHEN (OLD.state = 'sending') EXECUTE FUNCTION note_peak();
SQL
    my @peaks;
    for my $mode ('202', 'huge-body 1000000000000') {
        $stub->mode($mode);
        JobAlerting::fail_job($node);
        my $call = JobAlerting::begin_digest($node);
        is(($call->rows)[0]{outcome}, 'accepted', "$mode: accepted");
        cmp_ok $call->seconds, '<', 30, 'long before http_timeout';
        push @peaks, sql('DELETE FROM peak RETURNING kilobytes');
    }
    note "peaks of the worker: @peaks kB";
    cmp_ok $peaks[0], '>', 1000, 'the peak is recorded';
    cmp_ok $peaks[1], '<', $peaks[0] + 16_000, "the worker's memory is bounded";
    sql('DROP TRIGGER note_peak ON job_alerting.digest; DROP FUNCTION note_peak(); DROP TABLE peak');
    JobAlerting::configure($node, http_timeout => '2s');
};

# ---------------------------------------------------------------- mails that SendGrid refuses

for my $status (400, 413) {
    subtest "$status: at once one try with the minimal digest" => sub {
        my $met = meet($status, '202');
        is $met->{row}{outcome}, 'accepted', 'accepted';
        is $met->{digest}{state}, 'accepted', 'the state of the digest';
        like $met->{digest}{note}, qr/minimal.*HTTP $status/, 'the note says that it was the minimal form, and why';
        is $met->{digest}{error}, undef, 'its error is empty';
        is $met->{row}{detail}, $met->{digest}{note}, 'the same in the detail';
        my ($full, $minimal) = came($met);
        is scalar came($met), 2, 'two requests in one round';
        is_deeply [ JobAlerting::named_jobs($full) ], [ $met->{job} ], 'the full digest first';
        is_minimal($minimal, $met->{digest});
        is_silent();
        is scalar came($met), 2, 'no further request';
    };

    subtest "$status, and the answer to the minimal digest is lost: the note stays after its acceptance" => sub {
        my $met = meet($status, 'close-after-read', '202');
        is $met->{row}{outcome}, 'in_doubt', 'in doubt';
        like $met->{digest}{note}, qr/minimal.*HTTP $status/, 'the note says that it was the minimal form, and why';
        my ($row, $digest) = run_digest();
        is $row->{outcome}, 'accepted', 'accepted when sent again';
        is $digest->{note}, $met->{digest}{note}, 'the note stays';
        is $row->{detail}, $digest->{note}, 'the detail has it';
        my @requests = came($met);
        is $requests[2]{body}, $requests[1]{body}, 'byte-identical';
        is_minimal($requests[2], $digest);
    };

    subtest "$status to the minimal digest too: pending" => sub {
        my $met = meet($status, $status, '202');
        is $met->{row}{outcome}, 'pending', 'pending';
        is $met->{digest}{state}, 'pending', 'the state of the digest';
        like $met->{digest}{error}, qr/HTTP $status/, 'the reason';
        is $met->{digest}{attempts}, 1, 'one attempt';
        is_within($met->{digest}{wait}, 60, 66, 'the next attempt');
        is scalar came($met), 2, 'two requests in one round';
        is_minimal((came($met))[1], $met->{digest});
        is_delivered_now($met, 3);
        is JobAlerting::digest($node, $met->{row}{digest_id})->{note}, undef, 'sent in full, it has no note';
    };
}

subtest 'no answer to the minimal digest: in doubt, and sent again byte for byte' => sub {
    my $met = meet('400', 'close-after-read', '202');
    is $met->{row}{outcome}, 'in_doubt', 'in doubt';
    my ($row) = run_digest();
    is $row->{outcome}, 'accepted', 'accepted at last';
    my @requests = came($met);
    is scalar @requests, 3, 'three requests in all';
    is_minimal($requests[1], $met->{digest});
    is $requests[2]{body}, $requests[1]{body}, 'the same bytes as the minimal form';
    is_silent();
};

sub is_minimal {
    my ($request, $digest) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    unlike $request->{body}, qr/canary of a job|refresh_catalog/, 'it has no text of a job';
    is message_id($request), $digest->{message_id}, 'the same Message-ID';
    like $request->{json}{subject}, qr/\b1 job failed\b.*\[#$digest->{id}\]/, 'the count and the number in the subject';
    my $query = "SELECT * FROM job_alerting.digest_failure WHERE digest_id = $digest->{id};";
    for my $content (@{ $request->{json}{content} }) {
        like $content->{value}, qr/\b1 job\b/, "$content->{type}: the count";
        like $content->{value}, qr/\Q$query\E/, 'the query that lists all';
    }
    return;
}

# ---------------------------------------------------------------- a short interval

subtest 'the first wait is the interval where that is shorter than a minute' => sub {
    $node->append_conf('postgresql.conf', "job_alerting.interval = '20s'");
    JobAlerting::restart($node);
    my $met = meet('403', '503', '202');
    is $met->{digest}{wait}, 20, 'refused';
    is((run_digest())[1]{wait}, 20, 'in doubt');
    is_delivered_now($met, 3);
};

subtest 'in the end each failure is in exactly one accepted digest' => sub {
    my ($told) = JobAlerting::rows($node, undef, <<'SQL');
        SELECT count(*) AS failures, count(*) FILTER (WHERE digests <> 1) AS wrong,
               (SELECT count(*) FROM research_jobs) AS jobs
        FROM (SELECT f.id, count(d.digest_id) AS digests FROM job_alerting.failure f
              LEFT JOIN job_alerting.digest_failure d ON d.id = f.id AND d.digest_state = 'accepted'
              GROUP BY f.id) f
SQL
    is $told->{failures}, $told->{jobs}, 'each job is in the ledger';
    is $told->{wrong}, 0, 'each is in one accepted digest';
};

$node->stop;
done_testing();
