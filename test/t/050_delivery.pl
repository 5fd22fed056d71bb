# The outcomes of a delivery: accepted, surely not accepted, or in doubt. The test compares the requests that
# the receiver saw, their order and their bytes.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting qw(fail_job);

my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub, conf => "job_alerting.http_timeout = '1s'");
JobAlerting::create_jobs($node);

# One round. Returns its row of the newest digest.
sub run_digest {
    my @rows = JobAlerting::run_digest($node);
    return $rows[-1];
}

sub message_id {
    my ($request) = @_;
    return $request->{json}{headers}{'Message-ID'};
}

sub is_accepted {
    my ($row, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is $row->{outcome}, 'accepted', $name // 'accepted' or diag explain $row;
    return;
}

subtest 'an accepted digest is sent once and keeps no copy of the mail' => sub {
    my $came = $stub->from_now;
    my $job = fail_job();
    my $row = run_digest();
    is_deeply $row, { channel => 'sendgrid', digest_id => 1, failures => 1, outcome => 'accepted', detail => undef },
      'the row of the call';
    my @requests = $came->();
    is scalar @requests, 1, 'one request';
    is_deeply [ JobAlerting::named_jobs($requests[0]) ], [$job], 'it names the job';
    my $digest = JobAlerting::digest($node, $row->{digest_id});
    is $digest->{state}, 'accepted', 'its state';
    is $digest->{attempts}, 1, 'one attempt';
    is $digest->{http_status}, 202, 'the status of the answer';
    is $digest->{provider_id}, sprintf('stub-%017d', $requests[0]{number}), "the provider's name for it";
    is $digest->{message_id}, message_id($requests[0]), 'its Message-ID';
    is $digest->{subject}, $requests[0]{json}{subject}, 'its subject';
    is $digest->{request}, undef, 'the request is emptied';
    is $digest->{next_attempt_at}, undef, 'nothing is due';
    is run_digest()->{outcome}, 'silent', 'the next round is silent';
    is $stub->count, $requests[0]{number}, 'it sends nothing';
};

subtest 'the mail meets the rules of SendGrid and has all facts' => sub {
    my $came = $stub->from_now;
    my $job = fail_job(source => 'youtube', job_type => 'search_song', last_error => "caf\x{c3}\x{a9} <b>&</b> \"q\"");
    my $row = run_digest();
    my ($request) = $came->();
    my $json = $request->{json};
    like $request->{verdict}, qr/\A202 /, 'SendGrid accepts it';
    is $request->{line}, 'POST /v3/mail/send HTTP/1.1', 'the request line';
    is $request->{headers}{authorization}, "Bearer $JobAlerting::KEY", 'the key';
    is $request->{headers}{'content-type'}, 'application/json', 'the content type';
    is $request->{headers}{expect}, undef, 'without waiting for 100-continue';
    is $request->{headers}{'transfer-encoding'}, undef, 'with Content-Length';

    is_deeply $json->{from}, { email => 'alerts@example.com', name => 'Job alerts' }, 'from';
    is scalar @{ $json->{personalizations} }, 1, 'one personalization';
    is_deeply $json->{personalizations}[0]{to}, [ { email => 'ops@example.com' } ], 'to';
    is_deeply $json->{personalizations}[0]{custom_args}, { digest_id => "$row->{digest_id}" }, 'custom_args';
    is_deeply $json->{categories}, ['job_alerting'], 'category';
    is_deeply [ map { $_->{type} } @{ $json->{content} } ], [ 'text/plain', 'text/html' ], 'text before HTML';
    is $json->{headers}{'Auto-Submitted'}, 'auto-generated', 'Auto-Submitted';
    like $json->{headers}{'Message-ID'}, qr/\A<[A-Za-z0-9.-]+\@example\.com>\z/, 'Message-ID';
    is $json->{headers}{References}, $json->{headers}{'Message-ID'} =~ s/\@/.thread\@/r, 'References';
    like $json->{headers}{Date}, qr/\A\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d \+0000\z/, 'Date';
    ok !$json->{tracking_settings}{$_}{enable}, "no $_"
      for qw(click_tracking open_tracking subscription_tracking ganalytics);
    ok exists $json->{tracking_settings}{$_}{enable}, "$_ is set" for qw(click_tracking open_tracking);
    ok !$json->{tracking_settings}{click_tracking}{enable_text}, 'no click tracking in the text';
    is $json->{subject}, "1 job failed in main/postgres: youtube/search_song [#$row->{digest_id}]", 'subject';

    my ($text, $html) = map { $_->{value} } @{ $json->{content} };
    like $text, qr{caf\x{e9} <b>&</b> "q"}, 'the error in the text, unescaped';
    like $html, qr{caf\x{e9} &lt;b&gt;&amp;&lt;/b&gt; &quot;q&quot;}, 'the error in the HTML, escaped';
    is_deeply [ JobAlerting::named_jobs($request) ], [$job], 'the job';
};

subtest 'an outage of the endpoint ends in one mail with all failures' => sub {
    my @jobs = fail_job();
    my $port = $stub->port;
    $stub->stop;
    my $first = run_digest();
    is $first->{outcome}, 'pending', 'refused: pending';
    like $first->{detail}, qr/refused|connect/i, 'the detail says why';
    my $message_id = JobAlerting::digest($node, $first->{digest_id})->{message_id};
    ok $message_id, 'it has its Message-ID';

    for my $attempt (2 .. 3) {
        push @jobs, fail_job(), fail_job();
        my $row = run_digest();
        is $row->{outcome}, 'pending', "attempt $attempt: pending";
        is $row->{digest_id}, $first->{digest_id}, 'the same digest';
        is $row->{failures}, scalar @jobs, 'it has the new failures, too';
    }
    push @jobs, fail_job();

    $stub = JobAlerting::Stub->start(port => $port);
    my $row = run_digest();
    is_accepted($row, 'accepted when it is back');
    is $row->{digest_id}, $first->{digest_id}, 'the same digest';
    my @requests = $stub->requests;
    is scalar @requests, 1, 'one catch-up mail';
    is message_id($requests[0]), $message_id, 'with the same Message-ID';
    is_deeply [ sort { $a <=> $b } JobAlerting::named_jobs($requests[0]) ], \@jobs, 'all failures are in it';
    like $requests[0]{json}{content}[0]{value}, qr/late/, 'it says that it is late';
    is JobAlerting::digest($node, $row->{digest_id})->{attempts}, 4, 'it counts its attempts';
    is run_digest()->{outcome}, 'silent', 'the next round is silent';
};

# Each of these modes reads the whole request and gives no answer.
for my $mode ('close-after-read', 'reset-after-read', 'stall', 'garbage') {
    subtest "no answer ($mode): in doubt, and sent again byte for byte" => sub {
        my $came = $stub->from_now;
        $stub->modes($mode, $mode, '202');
        my $old = fail_job();
        my $first = run_digest();
        is $first->{outcome}, 'in_doubt', 'first try: in doubt';
        ok $first->{detail}, "says why: $first->{detail}";
        ok JobAlerting::digest($node, $first->{digest_id})->{next_attempt_at}, 'it is due again';

        my $new = fail_job();
        my $second = run_digest();
        is $second->{outcome}, 'in_doubt', 'second try: in doubt';
        is $second->{digest_id}, $first->{digest_id}, 'the same digest';
        is scalar $came->(), 2, 'nothing newer is sent before it';

        is_accepted(run_digest(), 'third try: accepted');
        my @requests = $came->();
        is scalar @requests, 4, 'three requests of the old digest, one of the new';
        is $requests[$_]{body}, $requests[0]{body}, 'byte-identical' for 1, 2;
        like $requests[2]{json}{subject}, qr/\[#$first->{digest_id}\]/, 'the subject has its number';
        isnt message_id($requests[3]), message_id($requests[0]), 'the new digest has its own Message-ID';
        is_deeply [ map { [ JobAlerting::named_jobs($_) ] } @requests[ 0, 3 ] ], [ [$old], [$new] ],
          'each failure is in one digest';
        is JobAlerting::digest($node, $first->{digest_id})->{state}, 'accepted', 'the digest is accepted';
        is JobAlerting::digest($node, $first->{digest_id})->{request}, undef, 'its request is emptied';
        is run_digest()->{outcome}, 'silent', 'the next round is silent';
    };
}

subtest 'a digest in doubt stays in doubt when the resend is surely not accepted' => sub {
    my $came = $stub->from_now;
    $stub->modes('close-after-read', '403', '202');
    fail_job();
    my $id = run_digest()->{digest_id};
    my $new = fail_job();
    is run_digest()->{outcome}, 'in_doubt', 'the first copy may have arrived';
    is JobAlerting::digest($node, $id)->{state}, 'in_doubt', 'the digest is in doubt';
    is_accepted(run_digest());
    my @requests = $came->();
    is $requests[$_]{body}, $requests[0]{body}, 'byte-identical' for 1, 2;
    is_deeply [ JobAlerting::named_jobs($requests[3]) ], [$new], 'the newer failure comes after it';
};

subtest 'an answer that breaks off after its status line counts' => sub {
    for my $mode ('cut-after-status', 'cut-body', 'huge-header', 'huge-body 5000000') {
        my $came = $stub->from_now;
        $stub->modes($mode, '202');
        fail_job();
        is_accepted(run_digest(), "$mode: accepted");
        is scalar $came->(), 1, 'one request';
        is run_digest()->{outcome}, 'silent', 'the next round is silent';
    }
};

subtest 'on_in_doubt = hold: a digest in doubt is not sent again' => sub {
    JobAlerting::configure($node, on_in_doubt => 'hold');
    my $came = $stub->from_now;
    $stub->modes('close-after-read', '202');
    my $old = fail_job();
    my $held = run_digest();
    is $held->{outcome}, 'in_doubt', 'in doubt';
    for (1 .. 2) {
        my $row = run_digest();
        is $row->{outcome}, 'in_doubt', 'it stays in doubt';
        is $row->{digest_id}, $held->{digest_id}, 'the row names the digest';
    }
    is scalar $came->(), 1, 'nothing is sent';

    my $new = fail_job();
    is_accepted(run_digest(), 'what is newer is not held up');
    my @requests = $came->();
    is scalar @requests, 2, 'one request more';
    is_deeply [ JobAlerting::named_jobs($requests[1]) ], [$new], 'with the newer failure only';
    is JobAlerting::digest($node, $held->{digest_id})->{state}, 'in_doubt', 'the old digest is still held';

    JobAlerting::configure($node, on_in_doubt => 'resend');
    is_accepted(run_digest(), 'sent again when the setting allows it');
    is(($came->())[2]{body}, $requests[0]{body}, 'byte-identical');
    is scalar $came->(), 3, 'it is sent only once';
};

subtest 'a redirect is not followed' => sub {
    my $elsewhere = JobAlerting::Stub->start;
    my $came = $stub->from_now;
    $stub->modes('redirect ' . $elsewhere->url . '/v3/mail/send', '202');
    my $job = fail_job();
    my $row = run_digest();
    is $row->{outcome}, 'pending', 'pending';
    like $row->{detail}, qr/HTTP 307.*sendgrid_url/, 'the detail names the setting';
    is $elsewhere->count + $elsewhere->broken, 0, 'no connection reached the other address';
    is_accepted(run_digest(), 'accepted at the right place');
    is_deeply [ JobAlerting::named_jobs(($came->())[1]) ], [$job], 'the mail lists the failure';
};

subtest 'a refused digest is composed anew, with later failures' => sub {
    my $came = $stub->from_now;
    $stub->modes('401', '202');
    my $old = fail_job();
    my $row = run_digest();
    is $row->{outcome}, 'pending', 'pending';
    like $row->{detail}, qr/HTTP 401.*key/, 'the detail names the key';
    my $new = fail_job();
    is_accepted(run_digest());
    my @requests = $came->();
    is message_id($requests[1]), message_id($requests[0]), 'the same Message-ID';
    is_deeply [ sort { $a <=> $b } JobAlerting::named_jobs($requests[1]) ], [ $old, $new ], 'both failures in it';
    is run_digest()->{outcome}, 'silent', 'the next round is silent';
};

# Covers all failures of the subtests above.
subtest 'in the end each failure is in exactly one digest' => sub {
    my ($lost) = JobAlerting::rows($node, undef, <<'SQL');
        SELECT count(*) AS failures, count(*) FILTER (WHERE digests <> 1) AS wrong
        FROM (SELECT f.id, count(d.digest_id) AS digests FROM job_alerting.failure f
              LEFT JOIN job_alerting.digest_failure d ON d.id = f.id AND d.digest_state = 'accepted'
              GROUP BY f.id) f
SQL
    my ($jobs) = JobAlerting::rows($node, undef, 'SELECT count(*) FROM research_jobs');
    is $lost->{failures}, $jobs->{count}, 'each job is in the ledger';
    is $lost->{wrong}, 0, 'each is in one accepted digest';
};

$node->stop;
done_testing();
