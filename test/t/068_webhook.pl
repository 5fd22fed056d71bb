# The channel webhook: the digest as JSON by its published schema, signed as Standard Webhooks demands, and the
# delivery promise with a receiver's answers. Only the receiver sees the address, and nobody sees the secret.

use strict;
use warnings;

use Digest::SHA qw(hmac_sha256_base64);
use FindBin;
use JSON::PP ();
use MIME::Base64 qw(decode_base64 encode_base64);
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting qw(fail_job sql stall status unicode_sql);

my $KEY = join '', map { chr } 200 .. 231;
my $SECRET = 'whsec_' . encode_base64($KEY, '');

my $receiver = JobAlerting::Stub->start;
my @received;    # before it was started again
my $node = JobAlerting::node('main', webhook => $receiver, conf => <<'CONF');
job_alerting.http_timeout = '2s'
job_alerting.job_url = 'https://admin.example.com/jobs/{job_id}'
log_min_messages = debug5
log_statement = all
log_error_verbosity = verbose
CONF
JobAlerting::create_jobs($node);
my $url_file = sql('SHOW job_alerting.webhook_url_file');
my $secret_file = PostgreSQL::Test::Utils::tempdir('signing') . '/secret';
JobAlerting::put_secret($secret_file, "$SECRET\n");

# One round. Returns the row of its newest digest.
sub round { return (JobAlerting::run_digest($node))[-1] }

sub is_accepted {
    my ($row, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is $row->{outcome}, 'accepted', $name // 'accepted' or diag explain $row;
    return;
}

sub data { return $_[0]{json}{data} }

sub listed_jobs { return [ map { $_->{job_id} } @{ data($_[0])->{failures} } ] }

# By Perl's own HMAC.
sub is_signed {
    my ($request, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($id, $time, $signature) = @{ $request->{headers} }{qw(webhook-id webhook-timestamp webhook-signature)};
    my $expected = hmac_sha256_base64("$id.$time.$request->{body}", $KEY);
    $expected .= '=' while length($expected) % 4;
    return is $signature, "v1,$expected", $name // 'signed';
}

subtest 'a receiver gets the facts of the digest as JSON' => sub {
    my $came = $receiver->from_now;
    my $job = fail_job(
        source => 'youtube', job_type => '<b>{{x}}', attempts => 2, target_id => \"'6f2c1a52-0d8e-4c7f-9b1c-2f3f5c1f7a10'",
        finished_at => \"'2026-07-14 03:11:00+00'", last_error => "\"caf\x{c3}\x{a9}\" \\ {{{text}}}\nsecond line",
        payload => \q('{"chain_started_at": "night 7"}'),
    );
    my $silent = fail_job(last_error => undef);
    is_deeply round(), { channel => 'webhook', digest_id => 1, failures => 2, outcome => 'accepted', detail => undef },
      'the row of the call';
    my ($request, @others) = $came->();
    is scalar @others, 0, 'one request';
    is $request->{verdict}, '200 thanks', 'the receiver accepts it';
    is $request->{line}, 'POST /hooks/jobs/canary HTTP/1.1', 'the request line';
    is $request->{headers}{'content-type'}, 'application/json', 'the content type';
    is $request->{headers}{$_}, undef, "without $_" for qw(authorization expect transfer-encoding webhook-signature);
    unlike $request->{body}, qr/[^ -~]/, 'a line of ASCII';

    my $digest = JobAlerting::digest($node, 1);
    my $data = data($request);
    is $request->{json}{type}, 'job_alerting.digest', 'its type';
    like $digest->{message_id}, qr/\Ajob-alerting-1-[0-9a-f]{24}\z/, 'the message id';
    is $request->{headers}{$_}, $digest->{message_id}, $_ for qw(webhook-id idempotency-key);
    is $data->{message_id}, $digest->{message_id}, 'the same in the body';
    is $data->{subject}, $digest->{subject}, 'the subject of the digest';
    is_deeply [ @$data{qw(digest_id database cluster html_url truncated)} ], [ 1, 'postgres', 'main', undef, JSON::PP::false ], 'where it comes from';
    is_deeply listed_jobs($request), [ $job, $silent ], 'the jobs';
    my ($ledger) = JobAlerting::rows($node, undef, 'SELECT * FROM job_alerting.failure WHERE id = 1');
    my $failure = $data->{failures}[0];
    is $failure->{$_}, $ledger->{$_}, "$_ of the failure is that of the ledger"
      for grep { !/\A(?:failed_at|cleared|url)\z/ } sort keys %$failure;
    is sql("SELECT '$failure->{failed_at}'::timestamptz = failed_at FROM job_alerting.failure WHERE id = 1"), 't', 'and so is failed_at';
    is $failure->{url}, "https://admin.example.com/jobs/$job", 'its link';
    is $data->{counts}{failures}, 2, 'the count';
    is $data->{chains}[0]{chain}, 'night 7', 'the chain';
    is_deeply [ map { $_->{lost_worker} } @{ $data->{causes} } ], [ JSON::PP::false, JSON::PP::true ], 'a lost worker';
    like $data->{text}, qr/^ *No error was recorded: the worker probably died\.$/m, 'the text of the mail';
    is $digest->{http_status}, 200, 'the status of the answer is stored';
    is $digest->{request}, undef, 'the request is emptied';
    is round()->{outcome}, 'silent', 'the next round is silent';
    is scalar $came->(), 1, 'it sends nothing';
};

subtest 'every 2xx accepts a digest' => sub {
    for my $answer ('201', '204', '299 body=whatever', 'cut-after-status') {
        $receiver->modes($answer, '202');
        fail_job();
        is_accepted(round(), "$answer: accepted");
    }
};

subtest 'with a secret each message is signed, and a copy is signed anew' => sub {
    JobAlerting::configure($node, webhook_secret_file => $secret_file);
    fail_job();
    is_accepted(round());
    is_signed(($receiver->requests)[-1]);
    for my $mode ('500 body=busy', '503', 'close-after-read', 'stall', 'garbage') {
        my $came = $receiver->from_now;
        $receiver->modes($mode, '202');
        my $old = fail_job();
        my $row = round();
        is $row->{outcome}, 'in_doubt', "$mode: in doubt" or diag explain $row;
        my $first = ($came->())[0]{headers}{'webhook-timestamp'};
        JobAlerting::poll(sub { time > $first }, 5, 'the next second');
        my $new = fail_job();
        is_accepted(round());
        my @requests = $came->();
        is scalar @requests, 3, 'two copies of the old digest, one of the new';
        is $requests[1]{body}, $requests[0]{body}, 'byte-identical';
        is $requests[1]{headers}{'webhook-id'}, $requests[0]{headers}{'webhook-id'}, 'under the same id';
        cmp_ok $requests[1]{headers}{'webhook-timestamp'}, '>', $first, 'at a new time';
        isnt $requests[1]{headers}{'webhook-signature'}, $requests[0]{headers}{'webhook-signature'}, 'with a new signature';
        is_signed($_) for @requests;
        isnt $requests[2]{headers}{'webhook-id'}, $requests[0]{headers}{'webhook-id'}, 'the new digest has another id';
        is_deeply [ map { listed_jobs($_) } @requests[ 0, 2 ] ], [ [$old], [$new] ], 'each failure is in one digest';
        abs($requests[1]{time} - $requests[1]{headers}{'webhook-timestamp'}) < 10 or fail 'the time is that of the try';
    }
};

# Mode of the stub, undef where nobody listens; the stored status; pattern of the detail.
my @refusals = (
    [ '401', 401, qr/HTTP 401: .*check webhook_url_file and webhook_secret_file/ ],
    [ '404 body=no such hook', 404, qr/HTTP 404: no such hook \(check webhook_url_file and proxy\)/ ],
    [ '410 body=unsubscribed', 410, qr/HTTP 410: unsubscribed \(the receiver has gone: check webhook_url_file\)/ ],
    [ '422 body=bad', 422, qr/HTTP 422: bad/ ],
    [ 'redirect http://127.0.0.1:1/hooks/', 307, qr/HTTP 307: a redirect: check webhook_url_file/ ],
    [ undef, undef, qr/connect/i ],
);

subtest 'a refused digest waits, and is sent with later failures under its id' => sub {
    for my $case (@refusals) {
        my ($mode, $status, $detail) = @$case;
        $receiver->modes($mode, '202') if $mode;
        my @jobs = fail_job();
        my $row = $mode ? round() : unheard_round();
        is $row->{outcome}, 'pending', ($mode // 'nobody listens') . ': pending' or diag explain $row;
        like $row->{detail}, $detail, 'the detail says why';
        my $digest = JobAlerting::digest($node, $row->{digest_id});
        is $digest->{http_status}, $status, 'the status is stored';
        like status()->{reason}, qr/could not be delivered through webhook: .*$detail/, 'the status says it';
        push @jobs, fail_job();
        is_accepted(round());
        my $request = ($receiver->requests)[-1];
        is $request->{headers}{'webhook-id'}, $digest->{message_id}, 'under its id';
        is_deeply listed_jobs($request), \@jobs, 'both failures are in it';
        like data($request)->{notes}[0], qr/^This digest is late: 1 earlier attempt failed/, 'a note says that it is late';
    }
};

sub unheard_round {
    my $port = $receiver->port;
    push @received, $receiver->requests;
    $receiver->stop;
    my $row = round();
    $receiver = JobAlerting::Stub->start(port => $port);
    return $row;
}

subtest 'a digest refused for its content is sent at once in its minimal form' => sub {
    for my $answer ('400 body=cannot read that', '413') {
        my $came = $receiver->from_now;
        $receiver->modes($answer, '202');
        my $job = fail_job(last_error => 'the unspeakable');
        my $row = round();
        is_accepted($row, "$answer: accepted");
        like $row->{detail}, qr/minimal form only, after HTTP 4/, 'the detail mentions the minimal form';
        my @requests = $came->();
        is_deeply [ map { listed_jobs($_) } @requests ], [ [$job], [] ], 'the second of two requests lists no job';
        unlike $requests[1]{body}, qr/unspeakable/, 'it does not have its error';
        is_deeply [ data($requests[1])->{counts}{failures}, data($requests[1])->{omitted}{failures} ], [ 1, 1 ], 'it has the count';
        is_signed($_) for @requests;
    }
};

subtest 'a wait that the receiver asks for is kept, also by hand' => sub {
    my $came = $receiver->from_now;
    $receiver->modes('429 retry-after=90', '202');
    fail_job();
    my $row = round();
    is $row->{outcome}, 'pending', 'pending';
    is sql("SELECT round(extract(epoch FROM next_attempt_at - updated_at)) FROM job_alerting.digest WHERE id = $row->{digest_id}"),
      90, 'due when the receiver says';
    round();
    is scalar $came->(), 1, 'nothing is sent before';
    sql("UPDATE job_alerting.digest SET next_attempt_at = now() WHERE id = $row->{digest_id}");
    is_accepted(round());
};

subtest 'a digest of many failures is bounded, and counts exactly' => sub {
    my $wide = "\x{1F3B5}" x 600;
    sql(q(ALTER DATABASE postgres SET job_alerting.max_listed = 1000));
    unicode_sql("INSERT INTO research_jobs (source, job_type, status, attempts, max_attempts, finished_at, last_error)
        SELECT 'apple', 'kind_' || chr(97 + i % 26) || chr(97 + i / 26 % 26), 'dead', 3, 3, now(), '$wide' FROM generate_series(1, 3000) i");
    is_accepted(round());
    my $request = ($receiver->requests)[-1];
    my $data = data($request);
    cmp_ok length $request->{body}, '<=', 256_000, 'at most 256 kB';
    is $data->{counts}{failures}, 3000, 'the count of all';
    is $data->{counts}{causes}, 676, 'the count of causes';
    for my $what (qw(causes failures)) {
        cmp_ok scalar @{ $data->{$what} }, '>', 0, "some $what are listed";
        is $data->{omitted}{$what} + @{ $data->{$what} }, $data->{counts}{$what}, 'and the others are counted';
    }
    ok $data->{truncated}, 'it says that it is truncated';
    sql(q(ALTER DATABASE postgres RESET job_alerting.max_listed));
};

subtest 'send_test() sends an event of its own, and check() reaches nobody' => sub {
    my $came = $receiver->from_now;
    my ($finding) = JobAlerting::rows($node, undef, q(SELECT * FROM job_alerting.check() WHERE item = 'channel webhook'));
    is $finding->{state}, 'ok', 'check() finds nothing wrong' or diag explain $finding;
    is scalar $came->(), 0, 'and sends nothing';
    is sql('SELECT channel, outcome, detail FROM job_alerting.send_test()'), 'webhook|accepted|', 'send_test() is accepted';
    my ($request) = $came->();
    is $request->{json}{type}, 'job_alerting.test', 'its type';
    is $request->{headers}{'webhook-id'}, data($request)->{message_id}, 'its id';
    is_signed($request);
    JobAlerting::configure($node, channels => 'log');
    is sql(q(SELECT state FROM job_alerting.check() WHERE item = 'receiver of webhook')), 'warning', 'check() names a receiver without its channel';
    JobAlerting::configure($node, channels => 'webhook');
};

# ---------------------------------------------------------------- the secrets

sub is_unused {
    my ($why, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $before = $receiver->count;
    my $row = round();
    is $row->{outcome}, 'pending', "$name: pending";
    like $row->{detail}, $why, 'the detail says why';
    unlike $row->{detail}, qr/canary|\Q$SECRET\E/, 'without the secret';
    is $receiver->count, $before, 'nothing is sent';
    like sql(q(SELECT detail FROM job_alerting.check() WHERE item = 'channel webhook')), $why, 'check() says it';
    return;
}

subtest 'with an unusable address or secret nothing is sent, and no text has it' => sub {
    my @jobs = fail_job();
    my $good = $receiver->url . "/hooks/jobs/canary\n";
    for my $case (
        [ qr/receiver URL file of job_alerting\.webhook_url_file is open to others/, 'a URL readable by all', $good, 0644 ],
        [ qr/a control character or a second line/, 'two lines', $good . $good ],
        [ qr/it is not a URL/, 'no URL', '/hooks/canary' ],
        [ qr/plain http is allowed only to this machine/, 'clear text', 'http://hooks.example.com/hooks/canary' ],
        [ qr/its scheme is not https/, 'another scheme', 'ftp://127.0.0.1/hooks/canary' ],
        [ qr/contains a user name or a password/, 'a password', 'https://u:canary@127.0.0.1/hooks/x' ],
      )
    {
        my ($why, $name, $content, $permissions) = @$case;
        JobAlerting::put_secret($url_file, $content, $permissions);
        is_unused($why, $name);
    }
    JobAlerting::put_secret($url_file, $good);
    my $is_no_secret = qr/job_alerting\.webhook_secret_file cannot be used: it is not whsec_ and 24 to 64 bytes in base64/;
    for my $case (
        [ qr/signing secret file of job_alerting\.webhook_secret_file is open to others/, 'a secret readable by all', $SECRET, 0644 ],
        [ $is_no_secret, 'no prefix', substr $SECRET, 6 ],
        [ $is_no_secret, 'no base64', 'whsec_' . '!' x 32 ],
        [ $is_no_secret, 'too short', 'whsec_' . encode_base64('x' x 23, '') ],
        [ $is_no_secret, 'too long', 'whsec_' . encode_base64('x' x 65, '') ],
      )
    {
        my ($why, $name, $content, $permissions) = @$case;
        JobAlerting::put_secret($secret_file, $content, $permissions);
        is_unused($why, $name);
    }
    JobAlerting::put_secret($secret_file, "$SECRET\n");
    JobAlerting::configure($node, webhook_url_file => '');
    is_unused(qr/job_alerting\.webhook_url_file is not set/, 'no file');
    JobAlerting::configure($node, webhook_url_file => $url_file);
    push @jobs, fail_job();
    is_accepted(round(), 'fixed');
    is_deeply listed_jobs(($receiver->requests)[-1]), \@jobs, 'both failures are sent';
};

subtest 'an address may have a query' => sub {
    JobAlerting::put_secret($url_file, $receiver->url . "/hooks/jobs?sig=canary-of-the-query&v=1\n");
    $receiver->modes('403 body=canary-of-the-query is revoked', '202');
    fail_job();
    my $row = round();
    like $row->{detail}, qr/HTTP 403: \(webhook\) is revoked/, 'it is concealed like the path';
    is_accepted(round());
    is +($receiver->requests)[-1]{line}, 'POST /hooks/jobs?sig=canary-of-the-query&v=1 HTTP/1.1', 'the receiver gets it';
    JobAlerting::put_secret($url_file, $receiver->url . "/hooks/jobs/canary\n");
};

# By way of a file: judge_webhook may end before it has read all.
sub verdict {
    my $dir = PostgreSQL::Test::Utils::tempdir('bodies');
    JobAlerting::put_secret("$dir/bodies", join '', map { "$_\n" } @_);
    my @command = ("$FindBin::Bin/../support/judge_webhook", "$FindBin::Bin/../../doc/webhook.schema.json");
    IPC::Run::run(\@command, '<', "$dir/bodies", '>&', \my $verdict);
    return $verdict;
}

subtest 'every body follows the published schema' => sub {
    my @bodies = map { $_->{body} } @received, $receiver->requests;
    cmp_ok scalar @bodies, '>', 30, 'there are many';
    is verdict(@bodies), scalar(@bodies) . " bodies are good\n", 'they are good';
    (my $bad = $bodies[0]) =~ s/"digest_id"/"digestid"/ or die "no place for a fault\n";
    like verdict($bad), qr/'digest_id' is a required property/, 'a misnamed member is found';
};

# The text that a receiver of such a format shows.
my %shown = (
    discord     => sub { $_[0]{content} },
    google_chat => sub { $_[0]{text} },
    mattermost  => sub { $_[0]{text} },
    teams       => sub { $_[0]{attachments}[0]{content}{body}[1]{inlines}[0]{text} },
);

subtest 'each format has the text of the mail, and the promise of the channel' => sub {
    for my $format (sort keys %shown) {
        sql("ALTER DATABASE postgres SET job_alerting.webhook_format = '$format'");
        my $came = $receiver->from_now;
        $receiver->modes('503', '202');
        my $job = fail_job(last_error => '"quoted" ``` \\ {{{text}}}');
        is round()->{outcome}, 'in_doubt', "$format: in doubt";
        is_accepted(round());
        my @requests = $came->();
        is $requests[1]{body}, $requests[0]{body}, 'sent again byte for byte';
        is_signed($_) for @requests;
        my $text = $shown{$format}->($requests[1]{json});
        like $text, qr/^    job $job in research_jobs/m, 'it lists the job';
        my $mark = $format eq 'teams' ? '```' : "'''";
        cmp_ok index($text, qq(    | "quoted" $mark \\ {{{text}}}\n)), '>', 0, 'with its error as it is';
        is sql('SELECT outcome FROM job_alerting.send_test()'), 'accepted', 'send_test() is accepted';
        like $shown{$format}->(($receiver->requests)[-1]{json}), qr/This is a test message/, 'in the same form';
    }
    my (undef, undef, $refusal) = $node->psql('postgres', q(ALTER DATABASE postgres SET job_alerting.webhook_format = 'Discord'));
    like $refusal, qr/Available values: json, discord, google_chat, mattermost and teams\./, 'another word is refused';
    JobAlerting::store_setting($node, webhook_format => 'irc');
    my $job = fail_job();
    is_unused(qr/job_alerting\.webhook_format is none of json, discord/, 'a stored word');
    sql('ALTER DATABASE postgres RESET job_alerting.webhook_format');
    is_accepted(round());
    is_deeply listed_jobs(($receiver->requests)[-1]), [$job], 'the failure is sent';
};

subtest 'only the request has the address, and nothing has the secret' => sub {
    for my $answer ('404 body=no webhook at /hooks/jobs/canary', '403 body=token canary is revoked',
        '403 body={"path":"\/hooks\/jobs\/canary"}', '307 Location: http://127.0.0.1/hooks/jobs/canary') {
        $receiver->modes($answer, '202');
        fail_job();
        my $row = round();
        is $row->{outcome}, 'pending', "$answer: pending";
        unlike $row->{detail}, qr/canary/, 'the detail does not quote it';
        is_accepted(round());
    }
    my $stalled = stall($receiver);
    my %place = (
        'the process title' => PostgreSQL::Test::Utils::slurp_file("/proc/$stalled->{worker}/cmdline"),
        'pg_stat_activity'  => sql('SELECT string_agg(a::text, chr(10)) FROM pg_stat_activity a'),
    );
    $receiver->release;
    JobAlerting::wait_until_idle($node);
    $place{'the status'} = sql('SELECT s::text FROM job_alerting.status s');
    $place{'pg_settings'} = sql('SELECT string_agg(s::text, chr(10)) FROM pg_settings s');
    ($place{'a dump'}) = PostgreSQL::Test::Utils::run_command([ 'pg_dump', '-d', $node->connstr('postgres') ]);
    $node->stop;
    $place{"the server's log"} = PostgreSQL::Test::Utils::slurp_file($node->logfile);
    cmp_ok length $place{"the server's log"}, '>', 100_000, 'the log is one of debug5';
    for my $name (sort keys %place) {
        ok length $place{$name}, "$name is not empty";
        is(index($place{$name}, $_), -1, "$name does not hold it") for 'hooks/jobs', 'canary', substr($SECRET, 6), $KEY;
    }
};

done_testing();
