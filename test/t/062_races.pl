# What happens while a round is under way, and what comes at an unlucky moment: a queue unwatched or
# taken during a scan, a process ended while it settles an answer, a digest that moves house while
# it waits. Nothing is told twice, nothing is lost, and nobody's queue becomes another's.

use strict;
use warnings;

use FindBin;
use Test::More;
use Time::HiRes ();

use lib "$FindBin::Bin/../support";
use JobAlerting qw(always log_from_now sql stall);

my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub, conf => <<'CONF');
job_alerting.lock_timeout = '30s'
job_alerting.http_timeout = '60s'
CONF
JobAlerting::create_jobs($node);

# Until somebody waits for the table; the process that does.
sub wait_for_waiter {
    my ($table, $db) = @_;
    my $waiter = "SELECT pid FROM pg_locks WHERE relation = '$table'::regclass AND NOT granted";
    return JobAlerting::poll(sub { sql($waiter, $db) }, 10, "somebody to wait for $table");
}

# The rows of a ledger, as one text that changes whenever one of them is written.
sub versions {
    my ($queue, $db) = @_;
    return sql(<<"SQL", $db);
SELECT string_agg(concat_ws(' ', id, xmin, ctid), ', ' ORDER BY id) FROM job_alerting.failure WHERE queue = '$queue'
SQL
}

sub ledger {
    my ($queue, $condition) = @_;
    my $and = $condition ? "AND $condition" : '';
    return sql("SELECT string_agg(job_id, ' ' ORDER BY id) FROM job_alerting.failure WHERE queue = '$queue' $and");
}

# What one round tells of a queue.
sub told {
    my ($queue, $db) = @_;
    return [ JobAlerting::reported($node, $stub, queue => $queue, db => $db) ];
}

# ---------------------------------------------------------------- a round that fails each time

# It takes its time, so it is begun here and looked at in the end. The launcher gives a round when it
# finds that the next lies too far ahead, and tries again 10 s later and 20 s after that.
my $failing = JobAlerting::node('failing', interval => '2h', conf => <<'CONF');
job_alerting.channels = 'log'
job_alerting.lock_timeout = '100ms'
autovacuum = off
# Tells of each worker that is started.
log_min_messages = debug1
CONF
JobAlerting::create_jobs($failing);
JobAlerting::run_digest($failing);
my $locked = JobAlerting::hold($failing, 'LOCK TABLE job_alerting.digest');
my $failing_log = log_from_now($failing);
my $began = Time::HiRes::time();
JobAlerting::configure($failing, interval => '1h');

# When workers were started since, in seconds.
sub starts {
    my @times = $failing_log->() =~ /^\S+ (\d+:\d+:[\d.]+) .*starting background worker process "job_alerting worker/gm;
    return map { my ($h, $m, $s) = split /:/; 3600 * $h + 60 * $m + $s } @times;
}

# ---------------------------------------------------------------- watching during a scan

# Two queues, `held` whose scan can be made to wait, and `next` which comes after it. One failure of
# each is known.
sql(<<'SQL');
CREATE TABLE held_jobs (id text PRIMARY KEY, failed_at timestamptz DEFAULT now());
CREATE TABLE next_jobs (id text PRIMARY KEY, failed_at timestamptz DEFAULT now());
CREATE TABLE other_jobs (id text PRIMARY KEY, failed_at timestamptz DEFAULT now());
SQL

sub watch {
    my ($queue, $table) = @_;
    return "SELECT job_alerting.watch_query('$queue', 'SELECT id AS job_id, failed_at FROM public.$table')";
}

sub watch_both {
    sql('TRUNCATE held_jobs, next_jobs, other_jobs');
    sql(q(INSERT INTO held_jobs VALUES ('h1'); INSERT INTO next_jobs VALUES ('n1')));
    sql(q(SELECT job_alerting.unwatch('held', true), job_alerting.unwatch('next', true)));
    sql(join ';', watch('held', 'held_jobs'), watch('next', 'next_jobs'));
    my ($row) = JobAlerting::run_digest($node);
    is "$row->{outcome} $row->{failures}", 'accepted 2', 'one failure of each queue is told';
    return;
}

# Runs a round; commits the statements while it scans `held`. The row it returned and the mails.
sub during_scan {
    my (@statements) = @_;
    my $before = $stub->count;
    my $held = JobAlerting::hold($node, 'LOCK TABLE held_jobs');
    my $call = JobAlerting::begin_digest($node);
    wait_for_waiter('held_jobs');
    sql($_) for @statements;
    ok $call->running, 'the round is still scanning';
    JobAlerting::let_go($held);
    my ($row) = $call->rows;
    return ($row, ($stub->requests)[ $before .. $stub->count - 1 ]);
}

for my $queue ([ held => 'scanned' ], [ next => 'to be scanned' ]) {
    my ($name, $how) = @$queue;
    my $table = "${name}_jobs";

    subtest "unwatch(..., forget) of the queue that is $how forgets it" => sub {
        watch_both();
        sql("INSERT INTO $table VALUES ('new')");
        my ($row, @mails) = during_scan("SELECT job_alerting.unwatch('$name', true)");
        is $row->{outcome}, 'silent', 'the round is silent';
        is scalar @mails, 0, 'no mail';
        is ledger($name), '', 'nothing is left in the ledger';
        is_deeply told($name), [], 'nor does the next round tell anything';
        is ledger($name), '', 'or record it';
    };

    subtest "unwatch() of the queue that is $how leaves nothing standing" => sub {
        watch_both();
        my ($row, @mails) = during_scan("SELECT job_alerting.unwatch('$name')");
        is $row->{outcome}, 'silent', 'the round is silent';
        my $known = $name eq 'held' ? 'h1' : 'n1';
        is ledger($name), $known, 'what was known is kept';
        is ledger($name, 'cleared_at IS NULL'), '', 'and does not stand';
        is_deeply told($name), [], 'the next round is silent';
        is ledger($name, 'cleared_at IS NULL'), '', 'and leaves it so';
        sql(watch($name, $table));
        is_deeply told($name), [], 'watched again: it is known';
        is ledger($name, 'cleared_at IS NULL'), $known, 'and stands';
    };

    subtest "another query for the queue that is $how: only what that returns is told" => sub {
        watch_both();
        sql("INSERT INTO $table VALUES ('old')");
        sql(q(INSERT INTO other_jobs VALUES ('other')));
        my ($row, @mails) = during_scan(watch($name, 'other_jobs'));
        is $row->{outcome}, 'silent', 'not by the round that was under way';
        is ledger($name, q(job_id IN ('old', 'other'))), '', 'which has recorded nothing';
        is_deeply told($name), ['other'], 'by the next';
        is ledger($name, 'cleared_at IS NULL'), 'other', 'nothing else stands';
        is_deeply told($name), [], 'then silence';
    };

    subtest "unwatch(..., forget) and a new queue of the same name while it is $how" => sub {
        watch_both();
        sql("INSERT INTO $table VALUES ('old')");
        sql(q(INSERT INTO other_jobs VALUES ('other')));
        my ($row, @mails) = during_scan("SELECT job_alerting.unwatch('$name', true)", watch($name, 'other_jobs'));
        is $row->{outcome}, 'silent', 'the round is silent';
        is ledger($name), '', 'and has recorded nothing';
        is_deeply told($name), ['other'], 'the next one tells of the new queue';
        is ledger($name), 'other', 'which is all that the ledger has';
    };
}

subtest 'what fails elsewhere is told by a round during which a queue is unwatched' => sub {
    watch_both();
    sql(q(INSERT INTO held_jobs VALUES ('lost'); INSERT INTO next_jobs VALUES ('n2')));
    my ($row, @mails) = during_scan(q(SELECT job_alerting.unwatch('held', true)));
    is_deeply [ map { JobAlerting::named_jobs($_, 'next') } @mails ], ['n2'], 'the other queue';
    is_deeply [ map { JobAlerting::named_jobs($_, 'held') } @mails ], [], 'and only that';
    sql(q(SELECT job_alerting.unwatch('next', true)));
};

# ---------------------------------------------------------------- whose queue it is

subtest 'a name that is taken while another role tries its query is refused to it' => sub {
    sql(<<'SQL');
CREATE ROLE alice;
CREATE ROLE bob;
GRANT USAGE ON SCHEMA job_alerting TO alice, bob;
GRANT EXECUTE ON FUNCTION job_alerting.watch_query TO alice, bob;
CREATE TABLE alices AS SELECT 'a'::text AS job_id, now() AS failed_at;
CREATE TABLE bobs AS SELECT 'b'::text AS job_id, now() AS failed_at;
ALTER TABLE alices OWNER TO alice;
ALTER TABLE bobs OWNER TO bob;
SQL
    my $watch = sub { "SELECT job_alerting.watch_query('raced', 'TABLE public.$_[0]')" };
    my $queue = sub { sql(q(SELECT owner || ': ' || failure_query FROM job_alerting.queue WHERE name = 'raced')) };
    my $held = JobAlerting::hold($node, 'LOCK TABLE bobs');
    my $bob = JobAlerting::Call->start($node, undef, 'SET ROLE bob', $watch->('bobs'));
    wait_for_waiter('bobs');
    sql('SET ROLE alice; ' . $watch->('alices'));
    JobAlerting::let_go($held);
    like $bob->error, qr/ERROR:  42501: permission denied for queue "raced"/, 'refused';
    is $queue->(), 'alice: TABLE public.alices', 'the first keeps its queue';
    sql(q(SELECT job_alerting.unwatch('raced', true)));

    sql('SET ROLE bob; ' . $watch->('bobs'));
    $held = JobAlerting::hold($node, 'LOCK TABLE bobs');
    $bob = JobAlerting::Call->start($node, undef, 'SET ROLE bob', $watch->('bobs'));
    wait_for_waiter('bobs');
    my $alice = JobAlerting::Call->start($node, undef, 'SET ROLE alice', $watch->('alices'));
    my $waits = q(SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%.alices%');
    JobAlerting::poll(sub { sql($waits) eq '1' }, 10, 'the other role to wait');
    JobAlerting::let_go($held);
    is $bob->error, '', 'the query of his own queue is replaced';
    like $alice->error, qr/ERROR:  42501: permission denied for queue "raced"/, 'and the other refused';
    is $queue->(), 'bob: TABLE public.bobs', 'it is still his';
    sql(q(SELECT job_alerting.unwatch('raced', true)));
};

# ---------------------------------------------------------------- a digest that moves house

subtest 'a digest pending when it was dumped is held where it is restored, until an operator has it sent' => sub {
    sql('CREATE DATABASE old');
    JobAlerting::create_jobs($node, 'old');
    my @jobs = JobAlerting::fail_job($node, db => 'old');
    $stub->mode('429 retry-after=600');
    my ($row) = JobAlerting::run_digest($node, 'old');
    is $row->{outcome}, 'pending', 'refused, with a wait';
    push @jobs, JobAlerting::fail_job($node, db => 'old');
    ($row) = JobAlerting::run_digest($node, 'old');
    is "$row->{outcome} $row->{failures}", 'pending 2', 'it grows, but is not tried';
    my $file = $node->basedir . '/old.dump';
    PostgreSQL::Test::Utils::system_or_bail('pg_dump', '-Fc', '-f', $file, '-d', $node->connstr('old'));
    sql('CREATE DATABASE new');
    PostgreSQL::Test::Utils::system_or_bail('pg_restore', '--exit-on-error', '-d', $node->connstr('new'), $file);

    my $before = $stub->count;
    $stub->mode('202');
    ($row) = JobAlerting::run_digest($node, 'new');
    is "$row->{outcome} $row->{failures}", 'in_doubt 2', 'in doubt there';
    is $stub->count, $before, 'and not sent';
    sql("SELECT job_alerting.settle($row->{digest_id}, false)", 'new');
    $stub->mode('close-after-read');
    is +(JobAlerting::run_digest($node, 'new'))[0]{outcome}, 'in_doubt', 'sent by his verdict, the answer lost';
    $stub->mode('202');
    is +(JobAlerting::run_digest($node, 'new'))[0]{outcome}, 'accepted', 'sent again';
    my @requests = ($stub->requests)[ $before .. $stub->count - 1 ];
    is scalar @requests, 2, 'twice in all';
    is $requests[1]{body}, $requests[0]{body}, 'byte for byte';
    is_deeply [ JobAlerting::named_jobs($requests[1]) ], \@jobs, 'naming all that it has grown to';
    is_deeply told(undef, 'new'), [], 'then silence';
    sql('UPDATE job_alerting.digest SET http_status = NULL, next_attempt_at = now()', 'old');
    is_deeply told(undef, 'old'), \@jobs, 'and the original tells it too';
    sql('DROP DATABASE new');
    sql('DROP DATABASE old');
};

# ---------------------------------------------------------------- channels that come later

subtest 'what was recorded and cleared before any channel was there is told when it stands again' => sub {
    sql('CREATE DATABASE later');
    sql(q(ALTER DATABASE later SET job_alerting.channels = ''));
    JobAlerting::create_jobs($node, 'later');
    my @old = map { JobAlerting::fail_job($node, db => 'later') } 1 .. 2;
    is_deeply [ JobAlerting::run_digest($node, 'later') ], [], 'a round without channels';
    is sql('SELECT count(*) FROM job_alerting.failure', 'later'), 2, 'records the failures';
    sql(q(SELECT job_alerting.unwatch('research_jobs')), 'later');
    sql('ALTER DATABASE later RESET job_alerting.channels');
    sql('CREATE TABLE others AS SELECT 1::text AS job_id, now() AS failed_at', 'later');
    sql(q(SELECT job_alerting.watch_query('others', 'TABLE public.others')), 'later');
    is_deeply told('others', 'later'), ['1'], 'the first digest begins with another queue';
    is sql('SELECT min(first_failure) FROM job_alerting.digest', 'later'), 3, 'after them';
    sql(q(SELECT job_alerting.watch('research_jobs')), 'later');
    my $new = JobAlerting::fail_job($node, db => 'later');
    my $before = $stub->count;
    my @outcomes = map { "$_->{outcome} $_->{failures}" } JobAlerting::run_digest($node, 'later');
    is_deeply \@outcomes, [ 'accepted 2', 'accepted 1' ], 'watched again: a digest on either side of what is told';
    is_deeply [ map { [ JobAlerting::named_jobs($_) ] } ($stub->requests)[ $before .. $stub->count - 1 ] ],
      [ \@old, [$new] ], 'of the old ones, and of what is new';
    is_deeply told(undef, 'later'), [], 'once';
    sql(q(SELECT job_alerting.unwatch('research_jobs')), 'later');
    is_deeply told(undef, 'later'), [], 'unwatched';
    sql(q(SELECT job_alerting.watch('research_jobs')), 'later');
    is_deeply told(undef, 'later'), [], 'and watched once more: not again';
};

# ---------------------------------------------------------------- an answer on its way into the ledger

for my $signal ([ pg_terminate_backend => 'terminated' ], [ pg_cancel_backend => 'cancelled' ]) {
    my ($function, $what) = @$signal;
    subtest "an answer that arrived is kept although its worker is $what while it waits for a lock" => sub {
        my $stalled = stall($stub);
        my $worker = $stalled->{worker};
        my $held = JobAlerting::hold($node, 'LOCK TABLE job_alerting.digest');
        $stub->release;
        is wait_for_waiter('job_alerting.digest'), $worker, 'the answer is there, and the worker waits';
        is sql("SELECT $function($worker)"), 't', "$what";
        ok always(sub { JobAlerting::worker($node) eq $worker }, 1), 'it lives on';
        # What is cancelled tries again.
        is wait_for_waiter('job_alerting.digest'), $worker, 'and waits';
        JobAlerting::let_go($held);
        $stalled->{call}->finish;
        my ($digest) = JobAlerting::rows($node, undef, 'SELECT * FROM job_alerting.digest ORDER BY id DESC LIMIT 1');
        is "$digest->{state} $digest->{http_status} $digest->{attempts}", 'accepted 202 1', 'the digest is accepted';
        is_deeply [ JobAlerting::named_jobs(($stub->requests)[-1]) ], [ $stalled->{job} ], 'which is that of the failure';
        is_deeply told(), [], 'the next round is silent';
        is $stub->count, $stalled->{before} + 1, 'one request in all';
    };
}

# ---------------------------------------------------------------- keys

subtest 'occurrences of their own that look like an unknown time are told once, and silence writes nothing' => sub {
    sql(<<'SQL');
CREATE TABLE runs (job text, run text, failed_at timestamptz);
SELECT job_alerting.watch_query('runs', 'SELECT job AS job_id, failed_at, run AS occurrence FROM public.runs');
INSERT INTO runs VALUES
    ('j', 'unknown', NULL), ('j', 'unknown x', NULL), ('j', NULL, NULL),
    ('j', 'unknown y', now()), ('j', '', NULL), ('j', NULL, '2026-01-01'),
    ('k', 'unknown 2026-01-01 00:00:00.000000', now()), ('k', NULL, NULL),
    ('l', 'unknown 2026-01-01 00:00:00.000000', NULL);
SQL
    is_deeply told('runs'), [ ('j') x 6, ('k') x 2, 'l' ], 'each is told';
    my $versions = versions('runs');
    for (1 .. 3) {
        is_deeply told('runs'), [], 'once';
        is versions('runs'), $versions, 'and the round has written nothing';
    }
    sql(q(DELETE FROM runs WHERE job = 'j' AND run = 'unknown x'));
    is_deeply told('runs'), [], 'one is cleared';
    is sql(q(SELECT string_agg(occurrence, ', ') FROM job_alerting.failure
             WHERE queue = 'runs' AND cleared_at IS NOT NULL)), 'unknown x', 'just that';
    sql(q(DELETE FROM runs WHERE job = 'j' AND run IS NULL AND failed_at IS NULL));
    is_deeply told('runs'), [], 'so is the one of unknown time';
    is sql(q(SELECT count(*) FROM job_alerting.failure WHERE queue = 'runs' AND cleared_at IS NOT NULL)), 2,
      'two are cleared';
    sql(q(INSERT INTO runs VALUES ('j', 'unknown x', NULL), ('j', NULL, NULL)));
    is_deeply told('runs'), ['j'], 'the one of unknown time is another failure when it comes back';
    sql(q(INSERT INTO runs VALUES ('l', NULL, NULL)));
    is_deeply told('runs'), ['l'], 'and is not taken for one that looks like it';
    $versions = versions('runs');
    is_deeply told('runs'), [], 'then silence';
    is versions('runs'), $versions, 'which writes nothing';
    sql(q(SELECT job_alerting.unwatch('runs', true)));
};

# ---------------------------------------------------------------- the end of what began above

subtest 'a round that fails each time is tried again after 10 s, and then not so soon' => sub {
    JobAlerting::poll(sub { starts() >= 2 }, 30, 'the second try');
    my @starts = starts();
    my $pause = $starts[1] - $starts[0];
    cmp_ok $pause, '>', 9, 'not at once';
    cmp_ok $pause, '<', 19, 'but before the pause after it would be over';
    my $seen = $began + $pause + 14;
    JobAlerting::poll(sub { Time::HiRes::time() > $seen }, 30, 'the time that it would have come at');
    is scalar(grep { $_ < $starts[1] + 13 } starts()), 2, 'not again 10 s after that';
    my @warnings = $failing_log->() =~ /WARNING:  job_alerting round in database "postgres" failed: .*lock timeout/g;
    is scalar @warnings, 1, 'the log says once why they fail';
    # The view itself would wait for the lock.
    like $failing->safe_psql('postgres', 'SELECT trouble FROM job_alerting.server_state()'), qr/lock timeout/,
      "so does the server's state";
    JobAlerting::let_go($locked);
    my ($row) = JobAlerting::run_digest($failing);
    is $row->{outcome}, 'silent', 'a round that comes to its end';
    is $failing->safe_psql('postgres', 'SELECT healthy FROM job_alerting.status'), 't', 'heals it';
};

$failing->stop;
$node->stop;
done_testing();
