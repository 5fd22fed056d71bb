# The channel slack: the digest as a message, the delivery promise with Slack's answers, and two channels
# that do not affect each other. Only the receiver sees the webhook's address.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting qw(fail_job sql stall status);

# The secret parts of the addresses: of JobAlerting::node() and of this test.
my @TOKENS = ('canary', 'sparrow_of_the_environment');

my $mail = JobAlerting::Stub->start;
my $slack = JobAlerting::Stub->start;
my $port = $slack->port;
my $node = do {
    local $ENV{SLACK_WEBHOOK_URL} = $slack->url . "/services/T0/B0/$TOKENS[1]";
    JobAlerting::node('main', stub => $mail, slack => $slack, conf => <<'CONF');
job_alerting.channels = 'slack'
job_alerting.http_timeout = '2s'
job_alerting.job_url = 'https://admin.example.com/jobs/{job_id}'
log_min_messages = debug5
log_statement = all
log_error_verbosity = verbose
debug_print_parse = on
track_activity_query_size = 100kB
CONF
};
JobAlerting::create_jobs($node);
my $url_file = sql('SHOW job_alerting.slack_webhook_url_file');

# One round. Returns its rows by channel.
sub round {
    return map { $_->{channel} => $_ } JobAlerting::run_digest($node);
}

sub slack_round {
    my %row = round();
    return $row{slack};
}

# The texts and addresses of a message, in order.
sub shown {
    my ($value) = @_;
    return map { shown($_) } @$value if ref $value eq 'ARRAY';
    return () if ref $value ne 'HASH';
    return map { /\A(?:text|url)\z/ && !ref $value->{$_} ? $value->{$_} : shown($value->{$_}) } sort keys %$value;
}

sub words {
    my ($request) = @_;
    return join "\n", shown($request->{json}{blocks});
}

sub listed_jobs {
    my ($request) = @_;
    return sort { $a <=> $b } words($request) =~ /^job (\d+) in research_jobs/mg;
}

sub is_accepted {
    my ($row, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is $row->{outcome}, 'accepted', $name // 'accepted' or diag explain $row;
    return;
}

subtest 'Slack accepts the message of a digest, which has the facts of the mail' => sub {
    my $came = $slack->from_now;
    my $job = fail_job(
        source => 'youtube', job_type => '<!channel>', attempts => 2,
        last_error => "*caf\x{c3}\x{a9}* <!here> & <https://evil.example.com|x>\n```\nsecond line"
    );
    my $silent = fail_job(last_error => undef);
    my $row = slack_round();
    is_deeply $row, { channel => 'slack', digest_id => 1, failures => 2, outcome => 'accepted', detail => undef },
      'the row of the call';
    my ($request, @others) = $came->();
    is scalar @others, 0, 'one request';
    is $request->{verdict}, '200 ok', 'Slack accepts it';
    is $request->{line}, 'POST /services/T0/B0/canary HTTP/1.1', 'the request line';
    is $request->{headers}{'content-type'}, 'application/json', 'the content type';
    is $request->{headers}{$_}, undef, "without $_" for qw(authorization expect transfer-encoding);
    is $request->{json}{text}, '2 jobs failed in main/postgres: apple/refresh_catalog (worker lost), youtube/&lt;!channel&gt; [#1]',
      'the text of the notification, escaped';

    my $words = words($request);
    like $words, qr/^Digest #1 of database postgres in cluster main\. .*No failure reported earlier still stands\.$/m, 'the footer';
    like $words, qr/^\Q$_\E$/m, "it says: $_" for '2 jobs failed in main/postgres', 'youtube/<!channel>: 1 job failed, NEW',
      "https://admin.example.com/jobs/$job", 'No error was recorded: the worker probably died.',
      "*caf\x{e9}* <!here> & <https://evil.example.com|x>", '```', 'second line',
      'apple/refresh_catalog: 1 job failed without an error (worker lost), NEW',
      'SELECT * FROM job_alerting.digest_failure WHERE digest_id = 1;';
    like $words, qr{^dead, attempts 2/3, \d{4}-\d\d-\d\dT}m, 'status, attempts and time';
    is_deeply [ listed_jobs($request) ], [ $job, $silent ], 'both jobs';

    my $digest = JobAlerting::digest($node, 1);
    is $digest->{http_status}, 200, 'the status of the answer is stored';
    is $digest->{subject}, $request->{json}{text} =~ s/&lt;/</r =~ s/&gt;/>/r, 'the subject is stored';
    is $digest->{request}, undef, 'the request is emptied';
    is slack_round()->{outcome}, 'silent', 'the next round is silent';
    is scalar $came->(), 1, 'it sends nothing';
};

# Mode of the stub, undef where nobody listens; the stored status; pattern of the detail.
my @refusals = (
    [ '403 body=action_prohibited', 403, qr/HTTP 403: action_prohibited.*slack_webhook_url_file/ ],
    [ '404 body=no_service', 404, qr/HTTP 404: no_service.*slack_webhook_url_file/ ],
    [ '410 body=channel_is_archived', 410, qr/HTTP 410: channel_is_archived.*slack_webhook_url_file/ ],
    [ 'redirect ' . $mail->url . '/services/T0/B0/canary', 307, qr/HTTP 307: a redirect: check slack_webhook_url_file/ ],
    [ undef, undef, qr/connect/i ],
);

subtest 'a refused message waits, and is sent with later failures' => sub {
    for my $case (@refusals) {
        my ($mode, $status, $detail) = @$case;
        $slack->modes($mode, '202') if $mode;
        my @jobs = fail_job();
        my $row = $mode ? slack_round() : unheard_round();
        is $row->{outcome}, 'pending', ($mode // 'nobody listens') . ': pending' or diag explain $row;
        like $row->{detail}, $detail, 'the detail says why';
        is JobAlerting::digest($node, $row->{digest_id})->{http_status}, $status, 'the status is stored';
        push @jobs, fail_job();
        my $next = slack_round();
        is_accepted($next);
        is $next->{digest_id}, $row->{digest_id}, 'the same digest';
        my $request = ($slack->requests)[-1];
        is_deeply [ listed_jobs($request) ], \@jobs, 'both failures are in it';
        like words($request), qr/This digest is late: 1 earlier attempt failed/, 'it says that it is late';
    }
    is $mail->count + $mail->broken, 0, 'the redirect was not followed';
};

# A round while nobody listens.
sub unheard_round {
    $slack->stop;
    my $row = slack_round();
    $slack = JobAlerting::Stub->start(port => $port);
    return $row;
}

subtest 'a message refused for its content is sent at once in its minimal form' => sub {
    for my $answer ('400 body=invalid_blocks', '413') {
        my $came = $slack->from_now;
        $slack->modes($answer, '202');
        my $job = fail_job(last_error => 'the unspeakable');
        my $row = slack_round();
        is_accepted($row, "$answer: accepted");
        like $row->{detail}, qr/minimal form only, after HTTP 4/, 'the detail mentions the minimal form';
        my @requests = $came->();
        is scalar @requests, 2, 'two requests';
        is_deeply [ map { [ listed_jobs($_) ] } @requests ], [ [$job], [] ], 'the second does not list the job';
        unlike $requests[1]{body}, qr/unspeakable/, 'the second does not have its error';
        like words($requests[1]), qr/^1 failure is only counted here\./m, 'it has the count';
    }
    $slack->modes(('400 body=invalid_payload') x 2, '202');
    fail_job();
    my $row = slack_round();
    is $row->{outcome}, 'pending', 'refused in both forms: pending';
    like $row->{detail}, qr/HTTP 400: invalid_payload/, 'with the reason';
    is_accepted(slack_round());
};

subtest 'a wait that Slack asks for is kept, also by hand' => sub {
    my $came = $slack->from_now;
    $slack->modes('429 retry-after=90 body=rate_limited', '202');
    my $job = fail_job();
    my $row = slack_round();
    is $row->{outcome}, 'pending', 'pending';
    like $row->{detail}, qr/HTTP 429: rate_limited/, 'with the reason';
    is sql("SELECT round(extract(epoch FROM next_attempt_at - updated_at)) FROM job_alerting.digest WHERE id = $row->{digest_id}"),
      90, 'due when Slack says';
    slack_round();
    is scalar $came->(), 1, 'nothing is sent before';
    sql("UPDATE job_alerting.digest SET next_attempt_at = now() WHERE id = $row->{digest_id}");
    is_accepted(slack_round());
    is_deeply [ map { [ listed_jobs($_) ] } $came->() ], [ [$job], [$job] ], 'sent again when it is due';
};

subtest 'an ambiguous answer leaves the digest in doubt, and it is sent again byte for byte' => sub {
    for my $mode ('500 body=rollup_error', '200 body=maybe', '204', 'close-after-read') {
        my $came = $slack->from_now;
        $slack->modes($mode, '202');
        my $old = fail_job();
        my $row = slack_round();
        is $row->{outcome}, 'in_doubt', "$mode: in doubt" or diag explain $row;
        ok $row->{detail}, "says why: $row->{detail}";
        my $new = fail_job();
        is_accepted(slack_round());
        my @requests = $came->();
        is scalar @requests, 3, 'two requests of the old digest, one of the new';
        is $requests[1]{body}, $requests[0]{body}, 'byte-identical';
        is_deeply [ map { [ listed_jobs($_) ] } @requests[ 0, 2 ] ], [ [$old], [$new] ], 'each failure is in one digest';
    }
};

# ---------------------------------------------------------------- beside the mail

# Both channels begin together, without standing failures.
sub use_both {
    sql('DELETE FROM research_jobs');
    is slack_round()->{outcome}, 'silent', 'nothing stands';
    JobAlerting::configure($node, channels => 'sendgrid, slack');
    return;
}

# The digest's wait follows the backoff: 1 min, 2 min, 4 min ..., up to a tenth more.
sub is_backoff {
    my ($id, $attempts, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $digest = JobAlerting::digest($node, $id);
    my $wait = sql("SELECT extract(epoch FROM next_attempt_at - updated_at) FROM job_alerting.digest WHERE id = $id");
    my $least = 60 * 2**($attempts - 1);
    is $digest->{attempts}, $attempts, "$name: attempts";
    ok $wait >= $least && $wait <= 1.1 * $least, "$name: its own backoff" or diag "$wait s after $attempts";
    return;
}

my %refusal = (sendgrid => '401', slack => '403 body=action_prohibited');

sub jobs_of {
    my ($name, $request) = @_;
    return sort { $a <=> $b } $name eq 'slack' ? listed_jobs($request) : JobAlerting::named_jobs($request);
}

subtest 'a channel that was refused for long catches up once, and the other is not affected' => sub {
    use_both();
    my %channel = (sendgrid => $mail, slack => $slack);
    for my $pair ([qw(slack sendgrid)], [qw(sendgrid slack)]) {
        my ($refused, $other) = @$pair;
        my $before = $channel{$other}->count;
        $channel{$refused}->mode($refusal{$refused});
        my (@jobs, %digests);
        for my $round (1 .. 3) {
            push @jobs, fail_job();
            my @rows = JobAlerting::run_digest($node);
            is_deeply [ map { $_->{channel} } @rows ], [ 'sendgrid', 'slack' ], "round $round: a row for each channel";
            my %row = map { $_->{channel} => $_ } @rows;
            is_accepted($row{$other}, "$other goes on");
            is $row{$other}{failures}, 1, 'with the new failure only';
            is $row{$refused}{outcome}, 'pending', "$refused is refused";
            is $row{$refused}{failures}, $round, 'with all failures since';
            $digests{ $row{$_}{digest_id} } = 1 for @$pair;
            is_backoff($row{$refused}{digest_id}, $round, $refused);
        }
        is scalar keys %digests, 4, "three digests of $other, one of $refused, none shared";
        my $status = status();
        is $status->{failures_waiting}, 3, 'three failures wait';
        is $status->{digests_waiting}, 1, 'in one digest';
        like $status->{reason}, qr/could not be delivered through $refused: HTTP 40/, 'the status names the channel';

        $channel{$refused}->mode('202');
        my $attempts = $channel{$refused}->count;
        my %row = round();
        is_accepted($row{$refused}, "$refused catches up");
        is $row{$other}{outcome}, 'silent', "$other is silent";
        is $channel{$refused}->count, $attempts + 1, 'one request';
        is_deeply [ jobs_of($refused, ($channel{$refused}->requests)[-1]) ], \@jobs, 'with all failures';
        is_deeply [ map { [ jobs_of($other, $_) ] } ($channel{$other}->requests)[ $before .. $before + 2 ] ],
          [ map { [$_] } @jobs ], "$other reported each failure in its round";
    }
};

subtest 'a failure refused by both channels counts once, and each channel has its own backoff' => sub {
    $slack->mode($refusal{slack});
    fail_job();
    my %first = round();
    $mail->mode($refusal{sendgrid});
    fail_job();
    my %second = round();
    is_backoff($second{slack}{digest_id}, 2, 'slack');
    is_backoff($second{sendgrid}{digest_id}, 1, 'sendgrid');
    is $second{slack}{digest_id}, $first{slack}{digest_id}, 'slack still has its first digest';
    isnt $second{sendgrid}{digest_id}, $first{sendgrid}{digest_id}, 'sendgrid has its second digest';
    my $status = status();
    is $status->{failures_waiting}, 2, 'each failure is counted once';
    is $status->{digests_waiting}, 2, 'both digests are counted';
    $_->mode('202') for $mail, $slack;
    my %row = round();
    is_accepted($row{$_}, "$_ is accepted") for sort keys %row;
};

subtest 'doubt in one channel does not hold up the other' => sub {
    my ($mails, $messages) = ($mail->count, $slack->count);
    $slack->modes('close-after-read', 'close-after-read', '202');
    my @jobs;
    for my $try (1, 2) {
        push @jobs, fail_job();
        my %row = round();
        is $row{slack}{outcome}, 'in_doubt', "try $try: slack is in doubt";
        is_accepted($row{sendgrid}, 'sendgrid goes on');
    }
    is_accepted({ round() }->{slack}, 'slack is accepted in the end');
    is_deeply [ map { [ JobAlerting::named_jobs($_) ] } ($mail->requests)[ $mails .. $mails + 1 ] ],
      [ map { [$_] } @jobs ], 'sendgrid sent two mails';
    is_deeply [ map { [ listed_jobs($_) ] } ($slack->requests)[ $messages .. $slack->count - 1 ] ],
      [ ([ $jobs[0] ]) x 3, [ $jobs[1] ] ], 'slack got the first digest three times, then the second';
};

subtest 'in the end each failure is in one digest of each channel' => sub {
    is sql(<<'SQL'), "sendgrid|1|0\nslack|1|0", 'both channels';
        WITH since AS (SELECT min(first_failure) AS id FROM job_alerting.digest WHERE channel = 'sendgrid')
        SELECT c.channel, (count(f.id) > 9)::int, count(*) FILTER (WHERE (SELECT count(*) FROM job_alerting.digest_failure d
            WHERE d.id = f.id AND d.channel = c.channel AND d.digest_state = 'accepted') <> 1)
        FROM since, job_alerting.failure f, (VALUES ('sendgrid'), ('slack')) c(channel)
        WHERE f.id >= since.id GROUP BY c.channel ORDER BY c.channel
SQL
    JobAlerting::configure($node, channels => 'slack');
};

# ---------------------------------------------------------------- the secret

sub is_unused {
    my ($why, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $before = $slack->count;
    my $row = slack_round();
    is $row->{outcome}, 'pending', "$name: pending";
    like $row->{detail}, $why, 'the detail says why';
    unlike $row->{detail}, qr/canary|T0/, 'the detail has no part of the address';
    is $slack->count, $before, 'nothing is sent';
    return;
}

subtest 'with an unusable address nothing is sent, and no text has it' => sub {
    my @jobs = fail_job();
    my $good = $slack->url . "/services/T0/B0/canary\n";
    unlink $url_file;
    is_unused(qr/webhook URL file of job_alerting\.slack_webhook_url_file cannot be opened: No such file/, 'missing');
    for my $case (
        [ qr/is open to others/, 'readable by all', $good, 0644 ],
        [ qr/is empty/, 'empty', "\n" ],
        [ qr/a control character or a second line/, 'of two lines', $good . $good ],
        [ qr/it is not a URL/, 'no URL', '/services/T0/B0/canary' ],
        [ qr/plain http is allowed only to this machine/, 'in clear text', 'http://hooks.example.com/services/T0/B0/canary' ],
        [ qr/its scheme is not https/, 'of another scheme', 'ftp://127.0.0.1/services/T0/B0/canary' ],
        [ qr/contains a user name or a password/, 'with a password', 'https://u:canary@127.0.0.1/services/T0/B0/x' ],
        [ qr/it has a query/, 'with a query', 'https://127.0.0.1/services?canary' ],
        [ qr/contains a space/, 'with a blank', 'https://127.0.0.1/services/T0/B0/ canary' ],
        [ qr/it has no path/, 'without a path', $slack->url ],
        [ qr/resolv/i, 'of a host that there is not', 'https://hooks.slack.invalid/services/T0/B0/canary' ],
        [ qr/./, 'of a server without TLS', $good =~ s/http:/https:/r ],
      )
    {
        my ($why, $name, $content, $permissions) = @$case;
        JobAlerting::put_secret($url_file, $content, $permissions);
        is_unused($why, $name);
    }
    push @jobs, fail_job();
    JobAlerting::put_secret($url_file, $good);
    is_accepted(slack_round(), 'fixed');
    is_deeply [ listed_jobs(($slack->requests)[-1]) ], \@jobs, 'both failures are sent';
};

subtest "without a file, the address is that of the server's environment" => sub {
    JobAlerting::configure($node, slack_webhook_url_file => '');
    fail_job();
    is_accepted(slack_round());
    is +($slack->requests)[-1]{line}, "POST /services/T0/B0/$TOKENS[1] HTTP/1.1", 'the request line';
    JobAlerting::configure($node, slack_webhook_url_file => $url_file);
};

subtest 'only the request has the address' => sub {
    # Answers are stored and logged, and an answer can quote its request.
    for my $answer ('404 body=no webhook at /services/T0/B0/canary', '404 body=no webhook at T0/B0/canar',
        '403 body=token canary is revoked',
        '403 body={"path":"\/services\/T0\/B0\/canary"}', '307 Location: http://127.0.0.1/services/T0/B0/canary') {
        $slack->modes($answer, '202');
        fail_job();
        my $row = slack_round();
        is $row->{outcome}, 'pending', "$answer: pending";
        unlike $row->{detail}, qr/canary/, 'the detail does not quote it';
        is_accepted(slack_round());
    }

    my $stalled = stall($slack);
    my %place = (
        'the process title' => PostgreSQL::Test::Utils::slurp_file("/proc/$stalled->{worker}/cmdline"),
        'pg_stat_activity'  => sql('SELECT string_agg(a::text, chr(10)) FROM pg_stat_activity a'),
    );
    $slack->release;
    is(($stalled->{call}->rows)[0]{outcome}, 'accepted', 'accepted');
    $slack->mode('404 body=no webhook at /services/T0/B0/canary');
    fail_job();
    slack_round();
    $place{'the status'} = sql('SELECT s::text FROM job_alerting.status s');
    $place{'pg_settings'} = sql('SELECT string_agg(s::text, chr(10)) FROM pg_settings s');
    ($place{'a dump'}) = PostgreSQL::Test::Utils::run_command([ 'pg_dump', '-d', $node->connstr('postgres') ]);
    $node->stop;
    # At this level the postmaster logs its environment at each start.
    $place{"the server's log"} = PostgreSQL::Test::Utils::slurp_file($node->logfile) =~ s/^.*\tSLACK_WEBHOOK_URL=.*\n//mgr;

    cmp_ok length $place{"the server's log"}, '>', 100_000, 'the log is one of debug5';
    # As text, and as the bytes that debug_print_parse prints.
    my @canaries = map { $_, join ' ', unpack 'C*', $_ } @TOKENS, 'services/T0';
    for my $name (sort keys %place) {
        ok length $place{$name}, "$name is not empty";
        is(index($place{$name}, $_), -1, "$name does not hold it") for @canaries;
    }
};

done_testing();
