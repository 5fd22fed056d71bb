# A mail's facts about its failures: whether a cause is new, which failures have cleared, where a chain broke
# and which steps never ran, and the headers that group mails.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting qw(fail_job log_from_now sql);

my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub);
JobAlerting::create_jobs($node);

my $TIME = qr/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d/;

# One round that sends a mail. Returns its digest's id, and the text and the HTML of the mail.
sub mail {
    my $before = $stub->count;
    my ($row) = JobAlerting::run_digest($node);
    is $stub->count, $before + 1, 'one mail';
    my $content = ($stub->requests)[-1]{json}{content};
    return ($row->{digest_id}, map { $_->{value} } @$content);
}

# The text of a mail from the line that begins a cause to the next blank line.
sub cause {
    my ($text, $kind) = @_;
    my ($cause) = $text =~ /^\* (\Q$kind\E: .*?)\n\n/ms;
    return $cause // '';
}

sub job {
    my ($chain, $step, %columns) = @_;
    return fail_job(
        target_type => $step, job_type => $step eq 'index' ? 'rebuild_index' : 'refresh_catalog',
        payload => qq({"chain_started_at": "$chain"}), last_error => undef, %columns);
}

# A chain that succeeded so many hours ago, its steps in the order in which they ended.
sub run_chain {
    my ($chain, $hours) = @_;
    my $minutes = 60 * $hours;
    job($chain, $_, status => 'done', finished_at => \"now() - make_interval(mins => @{[ $minutes-- ]})")
      for qw(album song artist index);
    return;
}

subtest 'a cause is NEW, and later AGAIN with the last digest that had it' => sub {
    fail_job(last_error => 'HTTP 503 after 30 s');
    my ($first, $text, $html) = mail();
    like cause($text, 'apple/refresh_catalog'), qr/\A\S+ 1 job failed, NEW$/m, 'new in the text';
    like $html, qr/<b>NEW</, 'new in the HTML';
    like $text, qr/^No earlier digest was accepted\.$/m, 'no digest before it';

    fail_job(last_error => 'HTTP 503 after 7 s');
    fail_job(job_type => 'rebuild_index', last_error => 'HTTP 503 after 7 s');
    (my $second, $text, $html) = mail();
    my $known = cause($text, 'apple/refresh_catalog');
    like $known, qr/\A\S+ 1 job failed, AGAIN$/m, 'AGAIN, since the normalised errors are the same';
    my $accepted = sql(qq(SELECT to_char(updated_at, 'YYYY-MM-DD"T"HH24:MI:SSTZH:TZM') FROM job_alerting.digest WHERE id = $first));
    like $known, qr/^  last reported \Q$accepted\E in digest #$first$/m, 'the time and the digest of the last report';
    like $html, qr/<b>AGAIN<.*last reported \Q$accepted\E in digest #$first/s, 'the same in the HTML';
    like cause($text, 'apple/rebuild_index'), qr/\A\S+ 1 job failed, NEW$/m, 'the same error of another job_type is new';
    like $text, qr/^The previous digest, #$first, was accepted at \Q$accepted\E\.$/m, 'the time of the last accepted digest';

    fail_job(last_error => 'HTTP 503 after 1 s');
    ($first, $text) = mail();
    like cause($text, 'apple/refresh_catalog'), qr/in digest #$second$/m, 'a third time: the second digest is named';

    fail_job(last_error => 'HTTP 503 after 9 s');
    mail();
    fail_job(job_type => 'rebuild_index', last_error => 'HTTP 503 after 9 s');
    (undef, $text) = mail();
    like cause($text, 'apple/rebuild_index'), qr/^  last reported .* in digest #$second$/m, 'also with other digests in between';
};

subtest 'a cause is known only from accepted digests' => sub {
    $stub->modes('close-after-read', '202');
    fail_job(job_type => 'doubted');
    is((JobAlerting::run_digest($node))[0]{outcome}, 'in_doubt', 'a digest that may not have arrived');
    JobAlerting::run_digest($node);
    fail_job(job_type => 'doubted');
    my (undef, $text) = mail();
    like cause($text, 'apple/doubted'), qr/AGAIN/, 'known once it is accepted';
};

subtest 'cleared failures are counted among earlier ones and among its own' => sub {
    my ($deleted, $retried) = map { fail_job() } 1 .. 2;
    my (undef, $text) = mail();
    my ($standing) = $text =~ /^(\d+) failures reported earlier still stand\.$/m;
    ok $standing, 'the earlier failures that still stand are counted';

    sql("DELETE FROM research_jobs WHERE id = $deleted");
    sql("UPDATE research_jobs SET status = 'queued', attempts = 0, finished_at = NULL WHERE id = $retried");
    fail_job();
    (undef, $text, my $html) = mail();
    like $text, qr/^$standing failures reported earlier still stand\. 2 failures have\s+been\s+cleared\s+since/m, 'the two cleared failures are counted';
    like $html, qr/still stand\. 2 failures have been cleared since the previous digest/, 'in the HTML too';

    fail_job();
    (undef, $text) = mail();
    unlike $text, qr/have been cleared/, 'the next mail does not count them again';

    my $port = $stub->port;
    my @jobs = map { fail_job(job_type => 'waiting') } 1 .. 2;
    $stub->stop;
    is((JobAlerting::run_digest($node))[0]{outcome}, 'pending', 'a digest that waits');
    sql("DELETE FROM research_jobs WHERE id = $jobs[0]");
    $stub = JobAlerting::Stub->start(port => $port);
    (undef, $text, $html) = mail();
    my $cause = cause($text, 'apple/waiting');
    like $cause, qr/\A\S+ 2 jobs failed, 1 of them cleared since, NEW$/m, 'one of its own two failures has cleared';
    like $text, qr/job $jobs[0] in .*?\n      dead, attempts \S+ $TIME, cleared since$/m, 'the cleared failure is marked';
    unlike $text, qr/job $jobs[1] in [^|]*cleared since/, 'the other failure is not marked';
    like $html, qr/1 of them cleared since/, 'in the HTML too';

    fail_job();
    (undef, $text) = mail();
    unlike $text, qr/been cleared/, 'failures that cleared before the last mail are not counted again';
};

subtest 'a chain shows where it broke, and the steps that never ran' => sub {
    run_chain("night $_", 24 * $_) for 1 .. 3;
    job('tonight', $_, status => 'done') for qw(album song);
    my $broken = job('tonight', 'artist');
    my ($first, $text, $html) = mail();
    like $text, qr{^Chain tonight: 1 of its jobs failed\n-+\nBroke at apple/refresh_catalog artist \(job $broken\) at $TIME\nNever ran: apple/rebuild_index index$}m,
      'the step that broke, and the step that never ran';
    like cause($text, 'apple/refresh_catalog'), qr/1 job failed without an error \(worker lost\)/, 'the cause';
    like $html, qr{Broke at apple/refresh_catalog artist .*Never ran: apple/rebuild_index index<}s, 'in the HTML too';
    like $html, qr{mso-hide:all">apple/refresh_catalog artist: worker lost<}, 'the preheader';

    job('tonight', 'index');
    (undef, $text) = mail();
    like $text, qr{^Broke at apple/refresh_catalog artist \(job $broken\) at $TIME,\s+reported in digest #$first$}m,
      'a later failure of the chain is not another break';
    sql("DELETE FROM research_jobs WHERE id = $broken");
    job('tonight', 'index');
    (undef, $text) = mail();
    like $text, qr{^Broke at apple/rebuild_index index \(job \d+\) at $TIME,\s+reported in}m, 'when the first failure is gone, the chain broke at the next';

    job('alone', 'album', job_type => 'export_catalog');
    (undef, $text) = mail();
    like $text, qr/^Chain alone: /m, 'an unknown chain';
    unlike $text, qr/Never ran/, 'no step that never ran is known';

    job('first', 'album');
    (undef, $text) = mail();
    like $text, qr{^Never ran: apple/refresh_catalog song, apple/refresh_catalog artist,\n\s+apple/rebuild_index index$}m,
      'a chain that broke at its first step: all other steps, in their order';
};

subtest 'never_ran is a list, whatever its elements contain' => sub {
    sql(q(CREATE TABLE odd (id text, steps text[])));
    sql(q(SELECT job_alerting.watch_query('odd', 'SELECT id AS job_id, now() AS failed_at, id AS occurrence,
        ''odd'' || id AS chain, steps AS never_ran FROM public.odd')));
    sql(q(INSERT INTO odd VALUES ('1', ARRAY['a, b', E'c\nd', NULL, '{"e"}', '']), ('2', '{}'), ('3', NULL)));
    my (undef, $text) = mail();
    like $text, qr/^Never ran: a, b, c d, \{"e"\}$/m, 'each step on one line';
    is sql(q(SELECT string_agg(coalesce(array_to_json(never_ran)::text, '-'), ';' ORDER BY job_id)
        FROM job_alerting.failure WHERE queue = 'odd')), '["a, b","c\nd","{\"e\"}",""];-;-', 'the ledger has them unchanged';
    sql(q(INSERT INTO odd SELECT '4', array_agg(repeat('x', 1000)) FROM generate_series(1, 1000)));
    mail();
    is sql(q(SELECT cardinality(never_ran) || ' ' || length(never_ran[50]) FROM job_alerting.failure
        WHERE queue = 'odd' AND job_id = '4')), '50 300', 'the ledger clips the number and the length of steps';
    sql(q(SELECT job_alerting.unwatch('odd')));

    sql(q(CREATE TABLE same (id text, failed_at timestamptz, steps text[])));
    sql(q(SELECT job_alerting.watch_query('same', 'SELECT id AS job_id, failed_at, ''same''::text AS chain,
        steps AS never_ran FROM public.same')));
    sql(q(INSERT INTO same VALUES ('1', '2026-01-01', '{early}'), ('2', '2026-01-02', '{late}'), ('3', NULL, '{unknown}')));
    mail();
    is sql(q(SELECT DISTINCT never_ran FROM job_alerting.failure WHERE queue = 'same')), '{late}', 'the last failure of a chain counts';
    sql(q(SELECT job_alerting.unwatch('same')));
};

# Replaces the query that watch() stored for the steps that never ran. Returns the one before.
sub set_never_ran_query {
    my ($query) = @_;
    my $where = q(WHERE name = 'research_jobs');
    my $before = sql("SELECT never_ran_query FROM job_alerting.queue $where");
    sql("UPDATE job_alerting.queue SET never_ran_query = \$query\$$query\$query\$ $where");
    return $before;
}

# The queue is not broken, and the ledger has these steps for the job.
sub is_recorded {
    my ($job, $never_ran, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is sql("SELECT coalesce(never_ran::text, 'none') FROM job_alerting.failure WHERE job_id = '$job' AND queue = 'research_jobs'"),
      $never_ran, "$name: the failure is recorded";
    is sql(q(SELECT last_error IS NULL FROM job_alerting.queue WHERE name = 'research_jobs')), 't', "$name: the queue is not broken";
    return;
}

subtest 'a round asks only for the chains of new failures' => sub {
    my $original = set_never_ran_query('SELECT c.chain, $1 AS never_ran FROM unnest($1) c(chain)');
    my ($one, $two) = map { job($_, 'album') } qw(one two);
    my $alone = fail_job();
    mail();
    is_recorded($one, '{one,two}', 'both new chains are asked for, and no older one');
    is_recorded($two, '{one,two}', 'in one query');
    is_recorded($alone, 'none', 'without a chain');

    set_never_ran_query('SELECT c.chain, ARRAY[(1 / 0)::text] AS never_ran FROM unnest($1) c(chain)');
    my $logged = log_from_now();
    JobAlerting::run_digest($node);
    fail_job();
    mail();
    job('three', 'song');
    sql('SELECT * FROM job_alerting.preview()');
    unlike $logged->(), qr/never_ran/, 'a silent round and a failure without a chain do not run the query; preview() ignores its error';
    my $job = job('three', 'album');
    mail();
    is_recorded($job, 'none', 'an error in the query');
    like $logged->(), qr/LOG:  job_alerting recorded new failures of queue "research_jobs" without never_ran: division by zero$/m, 'the log names the error';
    set_never_ran_query($original);
};

subtest 'a failure is reported without never_ran when that takes too long' => sub {
    JobAlerting::configure($node, scan_timeout => '1s');
    my $original = set_never_ran_query('SELECT pg_sleep(60)::text AS chain, NULL::text[] AS never_ran');
    my $logged = log_from_now();
    my $job = job('late', 'album');
    mail();
    is_recorded($job, 'none', 'a slow query');
    like $logged->(), qr/without never_ran: the failure query took longer than job_alerting\.scan_timeout/, 'the log says why';
    set_never_ran_query($original);
    sql('CREATE TABLE slow (id text, failed_at timestamptz)');
    # Stable, so that it is not called where its result is not used.
    sql(q(CREATE FUNCTION steps() RETURNS text[] LANGUAGE sql STABLE AS 'SELECT ARRAY[pg_sleep(60)::text]'));
    sql(q(SELECT job_alerting.watch_query('slow', 'SELECT id AS job_id, failed_at, ''tonight''::text AS chain,
        public.steps() AS never_ran FROM public.slow')));
    sql(q(INSERT INTO slow VALUES ('1', now())));
    my (undef, $text) = mail();
    like $text, qr/job 1 in slow/, 'the failure is reported';
    unlike $text, qr/Never ran/, 'without never_ran';
    is sql(q(SELECT last_error IS NULL FROM job_alerting.queue WHERE name = 'slow')), 't', 'the queue is not broken';
    sql(q(SELECT job_alerting.unwatch('slow')));
    JobAlerting::configure($node, scan_timeout => '5min');
};

subtest 'a long error keeps its beginning and its end' => sub {
    my $long = 'Traceback' . ' a frame' x 1000 . "\nKeyError: 'the end'";
    my $job = fail_job(last_error => $long);
    JobAlerting::run_digest($node);
    my $kept = sql("SELECT error FROM job_alerting.failure WHERE job_id = '$job'");
    is length $kept, 4000, 'clipped';
    my ($head, $tail) = split /\n\.\.\.\n/, $kept;
    ok length $head > 1000 && index($long, $head) == 0, 'its beginning';
    ok length $tail > 2000 && substr($long, -length $tail) eq $tail, 'its end';
    my $whole = substr $long, -4000;
    $job = fail_job(last_error => $whole);
    JobAlerting::run_digest($node);
    is sql("SELECT error FROM job_alerting.failure WHERE job_id = '$job'"), $whole, 'an error that fits is not clipped';
};

subtest 'copies of a digest share a thread, and another digest has its own' => sub {
    $stub->modes('close-after-read', '202');
    fail_job();
    my $before = $stub->count;
    JobAlerting::run_digest($node) for 1 .. 2;
    fail_job();
    JobAlerting::run_digest($node);
    my ($copy, $other_copy, $later) =
      map { $_->{json}{headers} } ($stub->requests)[ $before .. $stub->count - 1 ];
    is_deeply $other_copy, $copy, 'the copies have the same headers';
    is $copy->{References}, $copy->{'Message-ID'} =~ s/\@/.thread\@/r, 'they refer to a root of their own';
    isnt $later->{References}, $copy->{References}, 'the next digest refers to another root';
    is $later->{'Auto-Submitted'}, 'auto-generated', 'Auto-Submitted marks it as automatic';
};

done_testing;
