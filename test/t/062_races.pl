# Events during a round or at an unlucky moment: a queue is unwatched or taken during a scan, a worker is
# terminated while it settles an answer, a waiting digest is restored elsewhere. Nothing is reported twice,
# nothing is lost, and no role gets another role's queue.

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

# Waits until a process waits for a lock on the table. Returns its id.
sub wait_for_waiter {
    my ($table, $db) = @_;
    my $waiter = "SELECT pid FROM pg_locks WHERE relation = '$table'::regclass AND NOT granted";
    return JobAlerting::poll(sub { sql($waiter, $db) }, 10, "somebody to wait for $table");
}

# The row versions of a queue's failures, which change whenever a row is written.
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

# One round. Returns the jobs of a queue that it reports.
sub told {
    my ($queue, $db) = @_;
    return [ JobAlerting::reported($node, $stub, queue => $queue, db => $db) ];
}

# ---------------------------------------------------------------- a round that fails each time

# This takes long, so it begins here and is checked in the last subtest. The shorter interval makes the
# launcher begin a round at once; it tries again 10 s later, and 20 s after that.
my $failing = JobAlerting::node('failing', interval => '2h', conf => <<'CONF');
job_alerting.channels = 'log'
job_alerting.lock_timeout = '100ms'
autovacuum = off
# Logs the start of each worker.
log_min_messages = debug1
CONF
JobAlerting::create_jobs($failing);
JobAlerting::run_digest($failing);
my $locked = JobAlerting::hold($failing, 'LOCK TABLE job_alerting.digest');
my $failing_log = log_from_now($failing);
my $began = Time::HiRes::time();
JobAlerting::configure($failing, interval => '1h');

# The times of the starts of workers since, in seconds.
sub starts {
    my @times = $failing_log->() =~ /^\S+ (\d+:\d+:[\d.]+) .*starting background worker process "job_alerting worker/gm;
    return map { my ($h, $m, $s) = split /:/; 3600 * $h + 60 * $m + $s } @times;
}

# ---------------------------------------------------------------- watching during a scan

# Two queues, `held`, whose scan can be made to wait, and `next`, which is scanned after it. One failure of
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
    is "$row->{outcome} $row->{failures}", 'accepted 2', 'one failure of each queue is reported';
    return;
}

# Runs a round, and commits the statements while it scans `held`. Returns its row and its mails.
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

    subtest "unwatch(..., forget) of the queue that is $how removes its failures" => sub {
        watch_both();
        sql("INSERT INTO $table VALUES ('new')");
        my ($row, @mails) = during_scan("SELECT job_alerting.unwatch('$name', true)");
        is $row->{outcome}, 'silent', 'the round is silent';
        is scalar @mails, 0, 'no mail';
        is ledger($name), '', 'the ledger has no failure of the queue';
        is_deeply told($name), [], 'the next round reports nothing';
        is ledger($name), '', 'the next round records nothing';
    };

    subtest "unwatch() of the queue that is $how leaves nothing standing" => sub {
        watch_both();
        my ($row, @mails) = during_scan("SELECT job_alerting.unwatch('$name')");
        is $row->{outcome}, 'silent', 'the round is silent';
        my $known = $name eq 'held' ? 'h1' : 'n1';
        is ledger($name), $known, 'the known failure is kept';
        is ledger($name, 'cleared_at IS NULL'), '', 'it does not stand';
        is_deeply told($name), [], 'the next round is silent';
        is ledger($name, 'cleared_at IS NULL'), '', 'it still does not stand';
        sql(watch($name, $table));
        is_deeply told($name), [], 'watched again, the failure is known';
        is ledger($name, 'cleared_at IS NULL'), $known, 'it stands again';
    };

    subtest "another query for the queue that is $how: only its failures are reported" => sub {
        watch_both();
        sql("INSERT INTO $table VALUES ('old')");
        sql(q(INSERT INTO other_jobs VALUES ('other')));
        my ($row, @mails) = during_scan(watch($name, 'other_jobs'));
        is $row->{outcome}, 'silent', 'the round in progress is silent';
        is ledger($name, q(job_id IN ('old', 'other'))), '', 'it records nothing';
        is_deeply told($name), ['other'], 'the next round reports the failure of the new query';
        is ledger($name, 'cleared_at IS NULL'), 'other', 'no other failure stands';
        is_deeply told($name), [], 'the next round is silent';
    };

    subtest "unwatch(..., forget) and a new queue of the same name while it is $how" => sub {
        watch_both();
        sql("INSERT INTO $table VALUES ('old')");
        sql(q(INSERT INTO other_jobs VALUES ('other')));
        my ($row, @mails) = during_scan("SELECT job_alerting.unwatch('$name', true)", watch($name, 'other_jobs'));
        is $row->{outcome}, 'silent', 'the round is silent';
        is ledger($name), '', 'it records nothing';
        is_deeply told($name), ['other'], 'the next round reports the failure of the new queue';
        is ledger($name), 'other', 'the ledger has no other failure';
    };
}

subtest 'a round during which a queue is unwatched reports the failures of the others' => sub {
    watch_both();
    sql(q(INSERT INTO held_jobs VALUES ('lost'); INSERT INTO next_jobs VALUES ('n2')));
    my ($row, @mails) = during_scan(q(SELECT job_alerting.unwatch('held', true)));
    is_deeply [ map { JobAlerting::named_jobs($_, 'next') } @mails ], ['n2'], 'the failure of the other queue is reported';
    is_deeply [ map { JobAlerting::named_jobs($_, 'held') } @mails ], [], 'no failure of the unwatched queue is reported';
    sql(q(SELECT job_alerting.unwatch('next', true)));
};

# ---------------------------------------------------------------- the owner of a queue

subtest 'watch_query() refuses a name that another role takes during the trial' => sub {
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
    is $queue->(), 'alice: TABLE public.alices', 'the first role keeps its queue';
    sql(q(SELECT job_alerting.unwatch('raced', true)));

    sql('SET ROLE bob; ' . $watch->('bobs'));
    $held = JobAlerting::hold($node, 'LOCK TABLE bobs');
    $bob = JobAlerting::Call->start($node, undef, 'SET ROLE bob', $watch->('bobs'));
    wait_for_waiter('bobs');
    my $alice = JobAlerting::Call->start($node, undef, 'SET ROLE alice', $watch->('alices'));
    my $waits = q(SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%.alices%');
    JobAlerting::poll(sub { sql($waits) eq '1' }, 10, 'the other role to wait');
    JobAlerting::let_go($held);
    is $bob->error, '', 'a role can replace its own query';
    like $alice->error, qr/ERROR:  42501: permission denied for queue "raced"/, 'the other role is refused';
    is $queue->(), 'bob: TABLE public.bobs', 'the queue has the same owner';
    sql(q(SELECT job_alerting.unwatch('raced', true)));
};

# ---------------------------------------------------------------- a digest in a restored dump

subtest 'a digest that was pending when it was dumped is held in the new database, until an operator releases it' => sub {
    sql('CREATE DATABASE old');
    JobAlerting::create_jobs($node, 'old');
    my @jobs = JobAlerting::fail_job($node, db => 'old');
    $stub->mode('429 retry-after=600');
    my ($row) = JobAlerting::run_digest($node, 'old');
    is $row->{outcome}, 'pending', 'refused, with a wait';
    push @jobs, JobAlerting::fail_job($node, db => 'old');
    ($row) = JobAlerting::run_digest($node, 'old');
    is "$row->{outcome} $row->{failures}", 'pending 2', 'it gets the new failure, but is not tried';
    my $file = $node->basedir . '/old.dump';
    PostgreSQL::Test::Utils::system_or_bail('pg_dump', '-Fc', '-f', $file, '-d', $node->connstr('old'));
    sql('CREATE DATABASE new');
    PostgreSQL::Test::Utils::system_or_bail('pg_restore', '--exit-on-error', '-d', $node->connstr('new'), $file);

    my $before = $stub->count;
    $stub->mode('202');
    ($row) = JobAlerting::run_digest($node, 'new');
    is "$row->{outcome} $row->{failures}", 'in_doubt 2', 'in doubt in the new database';
    is $stub->count, $before, 'it is not sent';
    sql("SELECT job_alerting.settle($row->{digest_id}, false)", 'new');
    $stub->mode('close-after-read');
    is +(JobAlerting::run_digest($node, 'new'))[0]{outcome}, 'in_doubt', 'released and sent, with the answer lost';
    $stub->mode('202');
    is +(JobAlerting::run_digest($node, 'new'))[0]{outcome}, 'accepted', 'sent again';
    my @requests = ($stub->requests)[ $before .. $stub->count - 1 ];
    is scalar @requests, 2, 'two requests in all';
    is $requests[1]{body}, $requests[0]{body}, 'byte for byte';
    is_deeply [ JobAlerting::named_jobs($requests[1]) ], \@jobs, 'the mail lists both failures';
    is_deeply told(undef, 'new'), [], 'the next round is silent';
    sql('UPDATE job_alerting.digest SET http_status = NULL, next_attempt_at = now()', 'old');
    is_deeply told(undef, 'old'), \@jobs, 'the original reports them, too';
    sql('DROP DATABASE new');
    sql('DROP DATABASE old');
};

# ---------------------------------------------------------------- channels that come later

subtest 'failures that were recorded and cleared without any channel are reported when they stand again' => sub {
    sql('CREATE DATABASE later');
    sql(q(ALTER DATABASE later SET job_alerting.channels = ''));
    JobAlerting::create_jobs($node, 'later');
    my @old = map { JobAlerting::fail_job($node, db => 'later') } 1 .. 2;
    is_deeply [ JobAlerting::run_digest($node, 'later') ], [], 'a round without channels';
    is sql('SELECT count(*) FROM job_alerting.failure', 'later'), 2, 'it records the failures';
    sql(q(SELECT job_alerting.unwatch('research_jobs')), 'later');
    sql('ALTER DATABASE later RESET job_alerting.channels');
    sql('CREATE TABLE others AS SELECT 1::text AS job_id, now() AS failed_at', 'later');
    sql(q(SELECT job_alerting.watch_query('others', 'TABLE public.others')), 'later');
    is_deeply told('others', 'later'), ['1'], 'the first digest has a failure of another queue';
    is sql('SELECT min(first_failure) FROM job_alerting.digest', 'later'), 3, 'it begins after the earlier failures';
    sql(q(SELECT job_alerting.watch('research_jobs')), 'later');
    my $new = JobAlerting::fail_job($node, db => 'later');
    my $before = $stub->count;
    my @outcomes = map { "$_->{outcome} $_->{failures}" } JobAlerting::run_digest($node, 'later');
    is_deeply \@outcomes, [ 'accepted 2', 'accepted 1' ], 'watched again, there is a digest before and after the reported failure';
    is_deeply [ map { [ JobAlerting::named_jobs($_) ] } ($stub->requests)[ $before .. $stub->count - 1 ] ],
      [ \@old, [$new] ], 'one with the old failures, one with the new';
    is_deeply told(undef, 'later'), [], 'the next round is silent';
    sql(q(SELECT job_alerting.unwatch('research_jobs')), 'later');
    is_deeply told(undef, 'later'), [], 'after unwatch(), a round is silent';
    sql(q(SELECT job_alerting.watch('research_jobs')), 'later');
    is_deeply told(undef, 'later'), [], 'watched once more, nothing is reported again';
};

# ---------------------------------------------------------------- settling an answer

for my $signal ([ pg_terminate_backend => 'terminated' ], [ pg_cancel_backend => 'cancelled' ]) {
    my ($function, $what) = @$signal;
    subtest "an answer is settled although its worker is $what while it waits for a lock" => sub {
        my $stalled = stall($stub);
        my $worker = $stalled->{worker};
        my $held = JobAlerting::hold($node, 'LOCK TABLE job_alerting.digest');
        $stub->release;
        is wait_for_waiter('job_alerting.digest'), $worker, 'the worker has the answer and waits for the lock';
        is sql("SELECT $function($worker)"), 't', "$what";
        ok always(sub { JobAlerting::worker($node) eq $worker }, 1), 'the worker goes on';
        # A cancelled statement is tried again.
        is wait_for_waiter('job_alerting.digest'), $worker, 'it waits for the lock';
        JobAlerting::let_go($held);
        $stalled->{call}->finish;
        my ($digest) = JobAlerting::rows($node, undef, 'SELECT * FROM job_alerting.digest ORDER BY id DESC LIMIT 1');
        is "$digest->{state} $digest->{http_status} $digest->{attempts}", 'accepted 202 1', 'the digest is accepted';
        is_deeply [ JobAlerting::named_jobs(($stub->requests)[-1]) ], [ $stalled->{job} ], 'its mail lists the failure';
        is_deeply told(), [], 'the next round is silent';
        is $stub->count, $stalled->{before} + 1, 'one request in all';
    };
}

# ---------------------------------------------------------------- keys

subtest 'occurrences that look like an unknown time are reported once, and silent rounds write nothing' => sub {
    sql(<<'SQL');
CREATE TABLE runs (job text, run text, failed_at timestamptz);
SELECT job_alerting.watch_query('runs', 'SELECT job AS job_id, failed_at, run AS occurrence FROM public.runs');
INSERT INTO runs VALUES
    ('j', 'unknown', NULL), ('j', 'unknown x', NULL), ('j', NULL, NULL),
    ('j', 'unknown y', now()), ('j', '', NULL), ('j', NULL, '2026-01-01'),
    ('k', 'unknown 2026-01-01 00:00:00.000000', now()), ('k', NULL, NULL),
    ('l', 'unknown 2026-01-01 00:00:00.000000', NULL);
SQL
    is_deeply told('runs'), [ ('j') x 6, ('k') x 2, 'l' ], 'each failure is reported';
    my $versions = versions('runs');
    for (1 .. 3) {
        is_deeply told('runs'), [], 'the next round is silent';
        is versions('runs'), $versions, 'the round wrote no row';
    }
    sql(q(DELETE FROM runs WHERE job = 'j' AND run = 'unknown x'));
    is_deeply told('runs'), [], 'one is cleared';
    is sql(q(SELECT string_agg(occurrence, ', ') FROM job_alerting.failure
             WHERE queue = 'runs' AND cleared_at IS NOT NULL)), 'unknown x', 'only that one';
    sql(q(DELETE FROM runs WHERE job = 'j' AND run IS NULL AND failed_at IS NULL));
    is_deeply told('runs'), [], 'the failure without time is cleared';
    is sql(q(SELECT count(*) FROM job_alerting.failure WHERE queue = 'runs' AND cleared_at IS NOT NULL)), 2,
      'two are cleared';
    sql(q(INSERT INTO runs VALUES ('j', 'unknown x', NULL), ('j', NULL, NULL)));
    is_deeply told('runs'), ['j'], 'the failure without time is another failure when it comes back';
    sql(q(INSERT INTO runs VALUES ('l', NULL, NULL)));
    is_deeply told('runs'), ['l'], 'a failure without time is not confused with a similar occurrence';
    $versions = versions('runs');
    is_deeply told('runs'), [], 'the next round is silent';
    is versions('runs'), $versions, 'the round wrote no row';
    sql(q(SELECT job_alerting.unwatch('runs', true)));
};

# ---------------------------------------------------------------- the failing round, begun above

subtest 'a failing round is tried again after 10 s, and then after a longer pause' => sub {
    JobAlerting::poll(sub { starts() >= 2 }, 30, 'the second try');
    my @starts = starts();
    my $pause = $starts[1] - $starts[0];
    cmp_ok $pause, '>', 9, 'not at once';
    cmp_ok $pause, '<', 19, 'before the next, longer pause would be over';
    my $seen = $began + $pause + 14;
    JobAlerting::poll(sub { Time::HiRes::time() > $seen }, 30, 'the time that it would have come at');
    is scalar(grep { $_ < $starts[1] + 13 } starts()), 2, 'no third try 10 s after that';
    my @warnings = $failing_log->() =~ /WARNING:  job_alerting round in database "postgres" failed: .*lock timeout/g;
    is scalar @warnings, 1, 'the log has one warning with the reason';
    # The view `status` would wait for the lock.
    like $failing->safe_psql('postgres', 'SELECT problem FROM job_alerting.server_state()'), qr/lock timeout/,
      "the server's state has the reason";
    JobAlerting::let_go($locked);
    my ($row) = JobAlerting::run_digest($failing);
    is $row->{outcome}, 'silent', 'a round succeeds';
    is $failing->safe_psql('postgres', 'SELECT healthy FROM job_alerting.status'), 't', 'status is healthy again';
};

$failing->stop;
$node->stop;
done_testing();
