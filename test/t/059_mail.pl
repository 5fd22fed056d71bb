# What a mail says of its failures beyond their names: whether a cause is new, which of them have
# cleared, where a chain broke and what of it never ran, and how it stands beside other mails.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting qw(fail_job sql);

my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub);
JobAlerting::create_jobs($node);

my $TIME = qr/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d/;

# One round that sends: the number of its digest, the text and the HTML of its mail.
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

# A chain that went through, its steps in the order in which they ended, so many hours ago.
sub run_chain {
    my ($chain, $hours) = @_;
    my $minutes = 60 * $hours;
    job($chain, $_, status => 'done', finished_at => \"now() - make_interval(mins => @{[ $minutes-- ]})")
      for qw(album song artist index);
    return;
}

subtest 'a cause is new, and then known from the digest that had it last' => sub {
    fail_job(last_error => 'HTTP 503 after 30 s');
    my ($first, $text, $html) = mail();
    like cause($text, 'apple/refresh_catalog'), qr/\A\S+ 1 job failed, NEW$/m, 'new in the text';
    like $html, qr/<b>NEW</, 'and in the HTML';
    like $text, qr/^None was accepted before it\.$/m, 'no digest before it';

    fail_job(last_error => 'HTTP 503 after 7 s');
    fail_job(job_type => 'rebuild_index', last_error => 'HTTP 503 after 7 s');
    (my $second, $text, $html) = mail();
    my $known = cause($text, 'apple/refresh_catalog');
    like $known, qr/\A\S+ 1 job failed, AGAIN$/m, 'known by what its error has in common with the earlier one';
    my $accepted = sql(qq(SELECT to_char(updated_at, 'YYYY-MM-DD"T"HH24:MI:SSTZH:TZM') FROM job_alerting.digest WHERE id = $first));
    like $known, qr/^  last reported \Q$accepted\E in digest #$first$/m, 'when it was told, and in which digest';
    like $html, qr/<b>AGAIN<.*last reported \Q$accepted\E in digest #$first/s, 'the same in the HTML';
    like cause($text, 'apple/rebuild_index'), qr/\A\S+ 1 job failed, NEW$/m, 'the same error of another kind of job is new';
    like $text, qr/^The last one before it, #$first, was accepted \Q$accepted\E\.$/m, 'when a digest was last accepted';

    fail_job(last_error => 'HTTP 503 after 1 s');
    ($first, $text) = mail();
    like cause($text, 'apple/refresh_catalog'), qr/in digest #$second$/m, 'a third time: the second digest is named';

    fail_job(last_error => 'HTTP 503 after 9 s');
    mail();
    fail_job(job_type => 'rebuild_index', last_error => 'HTTP 503 after 9 s');
    (undef, $text) = mail();
    like cause($text, 'apple/rebuild_index'), qr/^  last reported .* in digest #$second$/m, 'however long ago that was';
};

subtest 'what no digest has told is not known' => sub {
    $stub->modes('close-after-read', '202');
    fail_job(job_type => 'doubted');
    is((JobAlerting::run_digest($node))[0]{outcome}, 'in_doubt', 'a digest that may not have arrived');
    JobAlerting::run_digest($node);
    fail_job(job_type => 'doubted');
    my (undef, $text) = mail();
    like cause($text, 'apple/doubted'), qr/AGAIN/, 'known once it is accepted';
};

subtest 'what cleared since is said of the earlier ones and of its own' => sub {
    my ($deleted, $retried) = map { fail_job() } 1 .. 2;
    my (undef, $text) = mail();
    my ($standing) = $text =~ /^(\d+) failures reported earlier still stand\.$/m;
    ok $standing, 'what stands of the earlier ones is counted';

    sql("DELETE FROM research_jobs WHERE id = $deleted");
    sql("UPDATE research_jobs SET status = 'queued', attempts = 0, finished_at = NULL WHERE id = $retried");
    fail_job();
    (undef, $text, my $html) = mail();
    like $text, qr/^$standing failures reported earlier still stand; 2 have been cleared\n?.*since/m, 'the two that cleared';
    like $html, qr/still stand; 2 have been cleared since the last digest/, 'in the HTML too';

    fail_job();
    (undef, $text) = mail();
    unlike $text, qr/have been cleared/, 'said once';

    my $port = $stub->port;
    my @jobs = map { fail_job(job_type => 'waiting') } 1 .. 2;
    $stub->stop;
    is((JobAlerting::run_digest($node))[0]{outcome}, 'pending', 'a digest that waits');
    sql("DELETE FROM research_jobs WHERE id = $jobs[0]");
    $stub = JobAlerting::Stub->start(port => $port);
    (undef, $text, $html) = mail();
    my $cause = cause($text, 'apple/waiting');
    like $cause, qr/\A\S+ 2 jobs failed, 1 of them cleared since, NEW$/m, 'one of its own two was removed before it went';
    like $text, qr/job $jobs[0] in .*?\n      dead, attempts \S+ $TIME, cleared since$/m, 'it is marked';
    unlike $text, qr/job $jobs[1] in [^|]*cleared since/, 'the other is not';
    like $html, qr/1 of them cleared since/, 'in the HTML too';

    fail_job();
    (undef, $text) = mail();
    unlike $text, qr/been cleared/, 'what cleared before that mail was composed is not told again';
};

subtest 'a chain: where it broke, and what never ran' => sub {
    run_chain("night $_", 24 * $_) for 1 .. 3;
    job('tonight', $_, status => 'done') for qw(album song);
    my $broken = job('tonight', 'artist');
    my ($first, $text, $html) = mail();
    like $text, qr{^Chain tonight: 1 of its jobs failed\n-+\nBroke at apple/refresh_catalog artist \(job $broken\) at $TIME\nNever ran: apple/rebuild_index index$}m,
      'the step that broke, and that which never ran';
    like cause($text, 'apple/refresh_catalog'), qr/1 job died without an error: worker lost/, 'how it died';
    like $html, qr{Broke at apple/refresh_catalog artist .*Never ran: apple/rebuild_index index<}s, 'in the HTML too';
    like $html, qr{mso-hide:all">apple/refresh_catalog artist: worker lost<}, 'the essence in the preheader';

    job('tonight', 'index');
    (undef, $text) = mail();
    like $text, qr{^Broke at apple/refresh_catalog artist \(job $broken\) at $TIME,\s+reported in digest #$first$}m,
      'what fails after that is no other break';
    sql("DELETE FROM research_jobs WHERE id = $broken");
    job('tonight', 'index');
    (undef, $text) = mail();
    like $text, qr{^Broke at apple/rebuild_index index \(job \d+\) at $TIME,\s+reported in}m, 'when that is mended, the next that stands is';

    job('alone', 'album', job_type => 'export_catalog');
    (undef, $text) = mail();
    like $text, qr/^Chain alone: /m, 'a chain like none before it';
    unlike $text, qr/Never ran/, 'of which nothing more is known';

    job('first', 'album');
    (undef, $text) = mail();
    like $text, qr{^Never ran: apple/refresh_catalog song, apple/refresh_catalog artist,\n\s+apple/rebuild_index index$}m,
      'broken at its first step: all others, in their order';
};

subtest 'what never ran is a list, whatever stands in its steps' => sub {
    sql(q(CREATE TABLE odd (id text, steps text[])));
    sql(q(SELECT job_alerting.watch_query('odd', 'SELECT id AS job_id, now() AS failed_at, id AS occurrence,
        ''odd'' || id AS chain, steps AS never_ran FROM public.odd')));
    sql(q(INSERT INTO odd VALUES ('1', ARRAY['a, b', E'c\nd', NULL, '{"e"}', '']), ('2', '{}'), ('3', NULL)));
    my (undef, $text) = mail();
    like $text, qr/^Never ran: a, b, c d, \{"e"\}$/m, 'each step on one line';
    is sql(q(SELECT string_agg(coalesce(array_to_json(never_ran)::text, '-'), ';' ORDER BY job_id)
        FROM job_alerting.failure WHERE queue = 'odd')), '["a, b","c\nd","{\"e\"}",""];-;-', 'kept as they are';
    sql(q(INSERT INTO odd SELECT '4', array_agg(repeat('x', 1000)) FROM generate_series(1, 1000)));
    mail();
    is sql(q(SELECT cardinality(never_ran) || ' ' || length(never_ran[50]) FROM job_alerting.failure
        WHERE queue = 'odd' AND job_id = '4')), '50 300', 'as many, and as long, as can be told';
    sql(q(SELECT job_alerting.unwatch('odd')));
};

subtest 'a silent round does not ask what never ran' => sub {
    my $query = sql('SELECT failure_query FROM job_alerting.queue');
    like $query, qr/never_ran/, 'the failure query could tell';
    my $plan = sub { sql("EXPLAIN SELECT $_[0] FROM ($query) q") };
    like $plan->('never_ran'), qr/WindowAgg/, 'which takes some work';
    unlike $plan->('job_id, failed_at'), qr/WindowAgg|Join/, 'and none where only the keys are asked for';
};

subtest 'a failure is told though nobody can say in time what never ran' => sub {
    JobAlerting::configure($node, scan_timeout => '1s');
    sql('CREATE TABLE slow (id text, failed_at timestamptz)');
    # Stable, so that it is not called where its result is not asked for.
    sql(q(CREATE FUNCTION steps() RETURNS text[] LANGUAGE sql STABLE AS 'SELECT ARRAY[pg_sleep(60)::text]'));
    sql(q(SELECT job_alerting.watch_query('slow', 'SELECT id AS job_id, failed_at, ''tonight''::text AS chain,
        public.steps() AS never_ran FROM public.slow')));
    sql(q(INSERT INTO slow VALUES ('1', now())));
    my (undef, $text) = mail();
    like $text, qr/job 1 in slow/, 'told';
    unlike $text, qr/Never ran/, 'without that';
    is sql(q(SELECT last_error IS NULL FROM job_alerting.queue WHERE name = 'slow')), 't', 'and the queue is not broken';
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
    is sql("SELECT error FROM job_alerting.failure WHERE job_id = '$job'"), $whole, 'one that fits is whole';
};

subtest 'a second copy stands beside the first, and another digest elsewhere' => sub {
    $stub->modes('close-after-read', '202');
    fail_job();
    my $before = $stub->count;
    JobAlerting::run_digest($node) for 1 .. 2;
    fail_job();
    JobAlerting::run_digest($node);
    my ($copy, $other_copy, $later) =
      map { $_->{json}{headers} } ($stub->requests)[ $before .. $stub->count - 1 ];
    is_deeply $other_copy, $copy, 'the copies have the same headers';
    is $copy->{References}, $copy->{'Message-ID'} =~ s/\@/.thread\@/r, 'which refer to a root of their own';
    isnt $later->{References}, $copy->{References}, 'the next digest refers to another';
    is $later->{'Auto-Submitted'}, 'auto-generated', 'and is marked as sent by no person';
};

done_testing;
