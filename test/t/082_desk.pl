# What an operator can ask beside a round: what the next digest would say, and whether a message
# arrives; and the heartbeat, by which a watchdog outside knows that rounds come.

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

# A text without what only a recorded digest says, its number, how to ask for it and what was before
# it, and without the line ends that depend on that.
sub without_number {
    my ($text) = @_;
    return $text =~ s/ \[#\d+\]//gr =~ s/Digest #\d+ of database/From database/gr =~ s/\n+    SELECT .*\n//gr
      =~ s/\s+/ /gr =~ s/None was accepted before it\. //r =~ s/ \z//r;
}

# All that a call could leave behind.
sub traces {
    return sql(<<'SQL') . $stub->count;
SELECT (SELECT count(*) FROM job_alerting.failure), (SELECT count(*) FROM job_alerting.digest),
       (SELECT string_agg(q::text, '') FROM job_alerting.queue q), (SELECT string_agg(d::text, '') FROM job_alerting.digest d),
       (SELECT last_value || is_called::text FROM job_alerting.failure_id_seq),
       (SELECT last_value || is_called::text FROM job_alerting.digest_id_seq)
SQL
}

# What psql says of a statement that fails.
sub refusal {
    my ($statements, $db) = @_;
    my (undef, undef, $error) = $node->psql($db // 'postgres', $statements);
    return $error;
}

# ---------------------------------------------------------------- preview

subtest 'with nothing new there is nothing to preview' => sub {
    is preview(), undef, 'no row';
};

subtest 'a preview says what the next digest then says, and leaves no trace' => sub {
    my @jobs = map { JobAlerting::fail_job($node, last_error => "boom <b>$_</b>") } 1 .. 3;
    my $before = traces();
    is_deeply previewed(), \@jobs, 'all that failed';
    my $preview = preview();
    is traces(), $before, 'nothing is sent, recorded or numbered';
    my ($row) = JobAlerting::run_digest($node);
    is $row->{outcome}, 'accepted', 'the round after it';
    my $mail = ($stub->requests)[-1];
    is $preview->{subject}, without_number($mail->{json}{subject}), 'had that subject';
    is without_number($preview->{body_text}), without_number(JobAlerting::text_part($mail)), 'that text';
    like $preview->{body_html}, qr/boom &lt;b&gt;1&lt;/, 'and HTML, escaped';
    is preview(), undef, 'and then nothing is left to preview';
};

subtest 'a preview counts what stands, as a round would find it now' => sub {
    JobAlerting::fail_job($node);
    like preview()->{body_text}, qr/3\s+failures\s+reported\s+earlier\s+still\s+stand/, 'three do';
    sql("DELETE FROM research_jobs WHERE id = (SELECT min(id) FROM research_jobs)");
    like preview()->{body_text}, qr/2\s+failures\s+reported\s+earlier\s+still\s+stand/, 'one has gone since';
    JobAlerting::run_digest($node);
};

subtest 'a preview tells what already waits in an open digest, by its number' => sub {
    my $waiting = JobAlerting::fail_job($node);
    $stub->modes('401', '202');
    my ($row) = JobAlerting::run_digest($node);
    is $row->{outcome}, 'pending', 'refused';
    my $new = JobAlerting::fail_job($node);
    is_deeply previewed(), [ $waiting, $new ], 'what waits, and what is new';
    my $preview = preview();
    like $preview->{subject}, qr/\[#$row->{digest_id}\]\z/, 'under its number';
    like $preview->{body_text}, qr/401/, 'with the reason why it is late';
    is((JobAlerting::run_digest($node))[0]{digest_id}, $row->{digest_id}, 'which it keeps');
};

subtest 'a preview tells of a queue that cannot be read, and of the others' => sub {
    sql('CREATE TABLE gone (id text, failed_at timestamptz)');
    sql(q(SELECT job_alerting.watch_query('gone', 'SELECT id AS job_id, failed_at FROM public.gone')));
    sql('DROP TABLE gone');
    my $job = JobAlerting::fail_job($node);
    is_deeply previewed(), [$job], 'the others are read';
    like preview()->{body_text}, qr/relation "public\.gone" does not exist/, 'the broken one is told of';
    is sql(q(SELECT last_error FROM job_alerting.queue WHERE name = 'gone')), '', 'but nothing is noted';
    sql(q(SELECT job_alerting.unwatch('gone')));
    JobAlerting::run_digest($node);
};

subtest 'a preview uses the settings of the server, reads in a read-only transaction, and is of any size' => sub {
    my $error = join ' ', 'x' x 500, 'y' x 90;
    JobAlerting::fail_job($node, job_type => "type $_", last_error => $error) for 1 .. 60;
    my $statements = 'BEGIN READ ONLY; SELECT length(body_html), length(body_text) FROM job_alerting.preview(); COMMIT';
    my ($html, $text) = split /\|/, sql("SET job_alerting.max_listed = 0; $statements");
    my ($row) = JobAlerting::rows($node, undef, 'SELECT * FROM job_alerting.preview()');
    is $html, length $row->{body_html}, 'the session does not decide';
    cmp_ok $text, '>', 24_000, 'all of the text';
    cmp_ok $html, '>', 64 * 1024, 'and of the HTML';
    like $row->{body_html}, qr{</html>\s*\z}, 'to its end';

    my $logged = log_from_now();
    sql(q(ALTER DATABASE postgres SET work_mem = '64kB'));
    sql('SELECT count(*) FROM job_alerting.preview()');
    sql('ALTER DATABASE postgres RESET work_mem');
    unlike $logged->(), qr/WARNING/, 'nothing to warn of where it does not fit into memory';
    JobAlerting::run_digest($node);
};

subtest 'a preview neither waits for a round nor holds one up' => sub {
    my $round = stall($stub)->{call};
    my $new = JobAlerting::fail_job($node);
    is_deeply previewed(), [$new], 'what the digest on its way does not have';
    ok $round->running, 'while it is on its way';
    $stub->release;
    is(($round->rows)[0]{outcome}, 'accepted', 'the round comes to its end');
    is_deeply [ JobAlerting::reported($node, $stub) ], [$new], 'and the next tells what was previewed';
};

subtest 'what cannot be answered is refused with the way out' => sub {
    sql('CREATE DATABASE other');
    for my $function (qw(preview send_test)) {
        my $call = "SELECT * FROM job_alerting.$function()";
        like refusal("BEGIN; CREATE EXTENSION job_alerting; $call", 'other'),
          qr/$function\(\) cannot be called in the transaction that created the extension.*Commit first/s, "$function: uncommitted";
    }
    sql('CREATE EXTENSION job_alerting', 'other');
    like refusal('SELECT * FROM job_alerting.preview()', 'other'), qr/no queue is watched.*job_alerting\.watch/s, 'nothing to look at';
    sql('DROP DATABASE other');
};

# ---------------------------------------------------------------- send_test

subtest 'a test message goes through every channel, and is no digest' => sub {
    JobAlerting::configure($node, channels => 'sendgrid,slack,log');
    my ($logged, $before) = (log_from_now(), $stub->count);
    my $digests = sql('SELECT count(*) FROM job_alerting.digest');
    is_deeply [ JobAlerting::rows($node, undef, 'SELECT * FROM job_alerting.send_test()') ],
      [ map { { channel => $_, outcome => 'accepted', detail => undef } } qw(sendgrid slack log) ], 'all accept it';
    my ($mail, $post) = ($stub->requests)[ $before, $before + 1 ];
    is $mail->{verdict}, '202 ok', 'a mail as SendGrid wants it';
    is $mail->{json}{subject}, 'Test message from job_alerting in postgres', 'which says what it is';
    is $mail->{json}{personalizations}[0]{to}[0]{email}, 'ops@example.com', 'to who is to be told';
    is $post->{verdict}, '200 ok', 'a post as Slack wants it';
    like $post->{json}{text}, qr/This is a test/, 'which says so too';
    like $logged->(), qr/LOG:  Test message from job_alerting in postgres/, 'a line in the log';
    is sql('SELECT count(*) FROM job_alerting.digest'), $digests, 'and no digest';
};

subtest 'a test message that does not arrive says why, and stops no other' => sub {
    $stub->modes('401', 'close-after-read', '202');
    my @rows = JobAlerting::rows($node, undef, 'SELECT * FROM job_alerting.send_test()');
    is_deeply [ map { $_->{outcome} } @rows ], [qw(pending in_doubt accepted)], 'each has its outcome';
    like $rows[0]{detail}, qr/401/, 'the answer';
    JobAlerting::store_setting($node, mail_to => 'nobody');
    @rows = JobAlerting::rows($node, undef, 'SELECT * FROM job_alerting.send_test()');
    like $rows[0]{detail}, qr/job_alerting\.mail_to is malformed/, 'the setting that is wrong';
    is $rows[1]{outcome}, 'accepted', 'the next channel';
    sql('ALTER DATABASE postgres RESET job_alerting.mail_to');
    JobAlerting::configure($node, channels => 'sendgrid');
};

# ---------------------------------------------------------------- heartbeat

# How many heartbeats a round by hand sends.
sub beats {
    my $before = $watchdog->count;
    JobAlerting::run_digest($node);
    return $watchdog->count - $before;
}

subtest 'each round that did all it should sends one heartbeat' => sub {
    JobAlerting::run_until_silent($node);
    is beats(), 1, 'a silent one';
    JobAlerting::fail_job($node);
    is beats(), 1, 'one whose digest is accepted';
    my $request = ($watchdog->requests)[-1];
    is $request->{line}, 'GET /ping/canary-of-the-watchdog?status=up HTTP/1.1', 'the address is asked for';
    is $request->{verdict}, '200 OK', 'and nothing else';
    my $before = $watchdog->count;
    JobAlerting::restart($node);
    $watchdog->wait_for($before + 1);
    pass 'one that came by itself';
};

subtest 'a round in which something went wrong sends none' => sub {
    JobAlerting::fail_job($node);
    $stub->modes('401', '202');
    is beats(), 0, 'a refused digest';
    is beats(), 1, 'accepted at last';
    sql('ALTER TABLE research_jobs RENAME finished_at TO ended_at');
    is beats(), 0, 'a queue that cannot be read';
    sql('ALTER TABLE research_jobs RENAME ended_at TO finished_at');
    is beats(), 1, 'mended';
    JobAlerting::store_setting($node, mail_to => 'nobody');
    is beats(), 0, 'a channel that could deliver nothing';
    sql(q(ALTER DATABASE postgres RESET job_alerting.mail_to; ALTER DATABASE postgres SET job_alerting.on_in_doubt = 'hold'));
    JobAlerting::fail_job($node);
    $stub->modes('close-after-read', '202');
    is beats(), 0, 'a digest in doubt';
    JobAlerting::fail_job($node);
    is beats(), 0, 'held, while the next one is accepted';
    sql(q(SELECT job_alerting.settle(id, true) FROM job_alerting.digest WHERE state = 'in_doubt'));
    sql('ALTER DATABASE postgres RESET job_alerting.on_in_doubt');
    is beats(), 1, 'settled';
};

subtest 'a heartbeat that fails is logged once, and fails no round' => sub {
    my $logged = log_from_now();
    my $warnings = sub { scalar(() = $logged->() =~ /cannot send its heartbeat/g) };
    $watchdog->mode('500');
    is_deeply [ map { (JobAlerting::run_digest($node))[0]{outcome} } 1 .. 2 ], [qw(silent silent)], 'two rounds';
    like $logged->(), qr/WARNING:  job_alerting cannot send its heartbeat: it answered HTTP 500/, 'said';
    is $warnings->(), 1, 'once';
    is sql('SELECT healthy FROM job_alerting.status'), 't', 'and all is well otherwise';
    $watchdog->mode('202');
    is beats(), 1, 'it works again';
    $watchdog->stop;
    my $call = JobAlerting::begin_digest($node);
    is(($call->rows)[0]{outcome}, 'silent', 'with nobody there');
    is $warnings->(), 2, 'a new failure is said again';
    my $log = $logged->();
    unlike $log, qr/canary-of-the-watchdog/, 'the address is in no line';
    unlike $log, qr/heartbeat: .*127\.0\.0\.1/, 'nor whose it is';
};

done_testing();
