# preview(), which shows the next digest; send_test(), which shows that messages arrive; and the heartbeat for
# an external watchdog.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting qw(log_from_now sql stall);

my $stub = JobAlerting::Stub->start;
my $watchdog = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub, slack => $stub, heartbeat => $watchdog,
    conf => "job_alerting.channels = 'sendgrid'");
JobAlerting::create_jobs($node);

sub preview {
    my ($row, @others) = JobAlerting::rows($node, undef, 'SELECT * FROM job_alerting.preview()');
    die "more than one row\n" if @others;
    return $row;
}

# The ids of the jobs that a preview lists, sorted.
sub previewed {
    my $row = preview() or return [];
    my $mail = { json => { content => [ { type => 'text/plain', value => $row->{body_text} } ] } };
    return [ sort { $a <=> $b } JobAlerting::named_jobs($mail) ];
}

# A text without the parts that only a recorded digest has: its number, its query and the digest before it;
# and without line ends, which depend on them.
sub without_number {
    my ($text) = @_;
    return $text =~ s/ \[#\d+\]//gr =~ s/Digest #\d+ of database/The next digest of database/gr =~ s/\n+    SELECT .*\n//gr
      =~ s/\s+/ /gr =~ s/No earlier digest was accepted\. //r =~ s/ \z//r;
}

# Everything that a call could change.
sub traces {
    return sql(<<'SQL') . $stub->count;
SELECT (SELECT count(*) FROM job_alerting.failure), (SELECT count(*) FROM job_alerting.digest),
       (SELECT string_agg(q::text, '') FROM job_alerting.queue q), (SELECT string_agg(d::text, '') FROM job_alerting.digest d),
       (SELECT last_value || is_called::text FROM job_alerting.failure_id_seq),
       (SELECT last_value || is_called::text FROM job_alerting.digest_id_seq)
SQL
}

# The error of a statement.
sub refusal {
    my ($statements, $db) = @_;
    my (undef, undef, $error) = $node->psql($db // 'postgres', $statements);
    return $error;
}

# ---------------------------------------------------------------- preview

subtest 'without new failures preview() returns no row' => sub {
    is preview(), undef, 'no row';
};

subtest 'a preview has the text of the next digest, and changes nothing' => sub {
    my @jobs = map { JobAlerting::fail_job($node, last_error => "boom <b>$_</b>") } 1 .. 3;
    my $before = traces();
    is_deeply previewed(), \@jobs, 'it lists all failures';
    my $preview = preview();
    is traces(), $before, 'nothing is sent, recorded or numbered';
    my ($row) = JobAlerting::run_digest($node);
    is $row->{outcome}, 'accepted', 'the next round';
    my $mail = ($stub->requests)[-1];
    is $preview->{subject}, without_number($mail->{json}{subject}), 'the subject is that of the mail';
    is without_number($preview->{body_text}), without_number(JobAlerting::text_part($mail)), 'the text is that of the mail';
    like $preview->{body_html}, qr/boom &lt;b&gt;1&lt;/, 'the HTML is escaped';
    is preview(), undef, 'then there is no row';
};

subtest 'a preview counts the failures that stand now' => sub {
    JobAlerting::fail_job($node);
    like preview()->{body_text}, qr/3\s+failures\s+reported\s+earlier\s+still\s+stand/, 'three failures stand';
    sql("DELETE FROM research_jobs WHERE id = (SELECT min(id) FROM research_jobs)");
    like preview()->{body_text}, qr/2\s+failures\s+reported\s+earlier\s+still\s+stand/, 'one of them has cleared';
    JobAlerting::run_digest($node);
};

subtest 'a preview shows an open digest with its number' => sub {
    my $waiting = JobAlerting::fail_job($node);
    $stub->modes('401', '202');
    my ($row) = JobAlerting::run_digest($node);
    is $row->{outcome}, 'pending', 'refused';
    my $new = JobAlerting::fail_job($node);
    is_deeply previewed(), [ $waiting, $new ], 'it lists the waiting and the new failure';
    my $preview = preview();
    like $preview->{subject}, qr/\[#$row->{digest_id}\]\z/, 'the subject has its number';
    like $preview->{body_text}, qr/401/, 'the text says why it is late';
    is((JobAlerting::run_digest($node))[0]{digest_id}, $row->{digest_id}, 'the digest keeps its number');
};

subtest 'a preview shows a queue that cannot be read, and the failures of others' => sub {
    sql('CREATE TABLE gone (id text, failed_at timestamptz)');
    sql(q(SELECT job_alerting.watch_query('gone', 'SELECT id AS job_id, failed_at FROM public.gone')));
    sql('DROP TABLE gone');
    my $job = JobAlerting::fail_job($node);
    is_deeply previewed(), [$job], 'the other queue is read';
    like preview()->{body_text}, qr/relation "public\.gone" does not exist/, 'the broken queue is shown';
    is sql(q(SELECT last_error FROM job_alerting.queue WHERE name = 'gone')), '', 'the queue has no last_error';
    sql(q(SELECT job_alerting.unwatch('gone')));
    JobAlerting::run_digest($node);
};

subtest "a preview uses the server's settings, works in a read-only transaction, and has any size" => sub {
    my $error = join ' ', 'x' x 500, 'y' x 90;
    JobAlerting::fail_job($node, job_type => "type $_", last_error => $error) for 1 .. 60;
    my $statements = 'BEGIN READ ONLY; SELECT length(body_html), length(body_text) FROM job_alerting.preview(); COMMIT';
    my ($html, $text) = split /\|/, sql("SET job_alerting.max_listed = 0; $statements");
    my ($row) = JobAlerting::rows($node, undef, 'SELECT * FROM job_alerting.preview()');
    is $html, length $row->{body_html}, "the session's setting has no effect";
    cmp_ok $text, '>', 24_000, 'the whole text';
    cmp_ok $html, '>', 64 * 1024, 'the whole HTML';
    like $row->{body_html}, qr{</html>\s*\z}, 'the HTML is complete';

    my $logged = log_from_now();
    sql(q(ALTER DATABASE postgres SET work_mem = '64kB'));
    sql('SELECT count(*) FROM job_alerting.preview()');
    sql('ALTER DATABASE postgres RESET work_mem');
    unlike $logged->(), qr/WARNING/, 'no warning where it does not fit into memory';
    JobAlerting::run_digest($node);
};

subtest 'a preview neither waits for a round nor holds one up' => sub {
    my $round = stall($stub)->{call};
    my $new = JobAlerting::fail_job($node);
    is_deeply previewed(), [$new], 'it lists only the failure that is not being sent';
    ok $round->running, 'the request is still under way';
    $stub->release;
    is(($round->rows)[0]{outcome}, 'accepted', 'the round succeeds');
    is_deeply [ JobAlerting::reported($node, $stub) ], [$new], 'the next round reports the previewed failure';
};

subtest 'calls that cannot be answered are refused with a hint' => sub {
    sql('CREATE DATABASE other');
    for my $function (qw(preview send_test)) {
        my $call = "SELECT * FROM job_alerting.$function()";
        like refusal("BEGIN; CREATE EXTENSION job_alerting; $call", 'other'),
          qr/$function\(\) cannot be called in the transaction that created the extension.*Commit first/s, "$function(): in the transaction of CREATE EXTENSION";
    }
    sql('CREATE EXTENSION job_alerting', 'other');
    like refusal('SELECT * FROM job_alerting.preview()', 'other'), qr/no queue is watched.*job_alerting\.watch/s, 'without a queue';
    sql('DROP DATABASE other');
};

# ---------------------------------------------------------------- send_test

subtest 'a test message is sent through every channel, and is not a digest' => sub {
    JobAlerting::configure($node, channels => 'sendgrid,slack,log');
    my ($logged, $before) = (log_from_now(), $stub->count);
    my $digests = sql('SELECT count(*) FROM job_alerting.digest');
    is_deeply [ JobAlerting::rows($node, undef, 'SELECT * FROM job_alerting.send_test()') ],
      [ map { { channel => $_, outcome => 'accepted', detail => undef } } qw(sendgrid slack log) ], 'all channels accept it';
    my ($mail, $post) = ($stub->requests)[ $before, $before + 1 ];
    is $mail->{verdict}, '202 ok', 'SendGrid accepts the mail';
    is $mail->{json}{subject}, 'Test message from job_alerting in postgres', 'the subject says that it is a test';
    is $mail->{json}{personalizations}[0]{to}[0]{email}, 'ops@example.com', 'the recipient is that of digests';
    is $post->{verdict}, '200 ok', 'Slack accepts the message';
    like $post->{json}{text}, qr/This is a test/, 'the text says that it is a test';
    like $logged->(), qr/LOG:  Test message from job_alerting in postgres/, 'the log has it';
    is sql('SELECT count(*) FROM job_alerting.digest'), $digests, 'there is no new digest';
};

subtest 'a test message that is not accepted says why, and does not stop the others' => sub {
    $stub->modes('401', 'close-after-read', '202');
    my @rows = JobAlerting::rows($node, undef, 'SELECT * FROM job_alerting.send_test()');
    is_deeply [ map { $_->{outcome} } @rows ], [qw(pending in_doubt accepted)], 'each has its outcome';
    like $rows[0]{detail}, qr/401/, 'the detail has the answer';
    JobAlerting::store_setting($node, mail_to => 'nobody');
    @rows = JobAlerting::rows($node, undef, 'SELECT * FROM job_alerting.send_test()');
    like $rows[0]{detail}, qr/job_alerting\.mail_to is malformed/, 'the detail names the wrong setting';
    is $rows[1]{outcome}, 'accepted', 'the next channel accepts it';
    sql('ALTER DATABASE postgres RESET job_alerting.mail_to');
    JobAlerting::configure($node, channels => 'sendgrid');
};

# ---------------------------------------------------------------- heartbeat

# The number of heartbeats of a round by hand.
sub beats {
    my $before = $watchdog->count;
    JobAlerting::run_digest($node);
    return $watchdog->count - $before;
}

subtest 'each successful round sends one heartbeat' => sub {
    JobAlerting::run_until_silent($node);
    is beats(), 1, 'a silent round';
    JobAlerting::fail_job($node);
    is beats(), 1, 'a round whose digest is accepted';
    my $request = ($watchdog->requests)[-1];
    is $request->{line}, 'GET /ping/canary-of-the-watchdog?status=up HTTP/1.1', 'the request line';
    is $request->{verdict}, '200 OK', 'the watchdog accepts it';
    my $before = $watchdog->count;
    JobAlerting::restart($node);
    $watchdog->wait_for($before + 1);
    pass 'a round of the launcher';
};

subtest 'a round with a problem sends no heartbeat' => sub {
    JobAlerting::fail_job($node);
    $stub->modes('401', '202');
    is beats(), 0, 'a refused digest';
    is beats(), 1, 'the digest is accepted';
    sql('ALTER TABLE research_jobs RENAME finished_at TO ended_at');
    is beats(), 0, 'a queue that cannot be read';
    sql('ALTER TABLE research_jobs RENAME ended_at TO finished_at');
    is beats(), 1, 'the queue can be read again';
    JobAlerting::store_setting($node, mail_to => 'nobody');
    is beats(), 0, 'a channel that cannot deliver';
    sql(q(ALTER DATABASE postgres RESET job_alerting.mail_to; ALTER DATABASE postgres SET job_alerting.on_in_doubt = 'hold'));
    JobAlerting::fail_job($node);
    $stub->modes('close-after-read', '202');
    is beats(), 0, 'a digest in doubt';
    JobAlerting::fail_job($node);
    is beats(), 0, 'a held digest, with the next one accepted';
    sql(q(SELECT job_alerting.settle(id, true) FROM job_alerting.digest WHERE state = 'in_doubt'));
    sql('ALTER DATABASE postgres RESET job_alerting.on_in_doubt');
    is beats(), 1, 'the digest is settled';
};

subtest 'a failing heartbeat is logged once, and does not fail the round' => sub {
    my $logged = log_from_now();
    my $warnings = sub { scalar(() = $logged->() =~ /cannot send its heartbeat/g) };
    $watchdog->mode('500');
    is_deeply [ map { (JobAlerting::run_digest($node))[0]{outcome} } 1 .. 2 ], [qw(silent silent)], 'two rounds';
    like $logged->(), qr/WARNING:  job_alerting cannot send its heartbeat: it answered HTTP 500/, 'the log has a warning';
    is $warnings->(), 1, 'only one warning';
    is sql('SELECT healthy FROM job_alerting.status'), 't', 'status is healthy';
    $watchdog->mode('202');
    is beats(), 1, 'the heartbeat works again';
    $watchdog->stop;
    my $call = JobAlerting::begin_digest($node);
    is(($call->rows)[0]{outcome}, 'silent', 'a round without a watchdog');
    is $warnings->(), 2, 'a new failure is logged again';
    my $log = $logged->();
    unlike $log, qr/canary-of-the-watchdog/, 'no line has the path';
    unlike $log, qr/heartbeat: .*127\.0\.0\.1/, 'no line has the host';
};

done_testing();
