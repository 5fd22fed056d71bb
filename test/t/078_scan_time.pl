# Many slow queues of one role delay nobody: neither others in the database, nor other databases. Each
# of them has its turn, and the status and the doctor name them.

use strict;
use warnings;

use FindBin;
use Test::More;
use Time::HiRes ();

use lib "$FindBin::Bin/../support";
use JobAlerting qw(sql stall);

my $slow_queues = 20;
my $limit = 1; # seconds: job_alerting.scan_timeout
my $slack = 6; # seconds that a slow machine may need beside

my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub, interval => '1h', conf => "job_alerting.scan_timeout = ${limit}s");
JobAlerting::create_jobs($node);
sql('CREATE DATABASE other');
JobAlerting::create_jobs($node, 'other');
sql(<<'SQL');
CREATE ROLE slow LOGIN;
CREATE SCHEMA s AUTHORIZATION slow;
GRANT USAGE ON SCHEMA job_alerting TO slow;
GRANT EXECUTE ON FUNCTION job_alerting.watch_query TO slow;
SET ROLE slow;
CREATE VIEW s.pace AS SELECT 0.0 AS seconds;
SQL

sub queues {
    my ($condition) = @_;
    return sql("SELECT count(*) FROM job_alerting.queue WHERE name LIKE 'aa slow%' AND $condition");
}

# The slow queues come first, by their names and by when they were watched.
sql(q(SELECT job_alerting.unwatch('research_jobs', true)));
sql(<<"SQL");
SET ROLE slow;
SELECT job_alerting.watch_query('aa slow ' || n,
    'SELECT ''j'' AS job_id, ''2026-01-01''::timestamptz AS failed_at FROM s.pace WHERE pg_sleep(seconds) IS NOT NULL')
FROM generate_series(1, $slow_queues) n
SQL
sql(q(SELECT job_alerting.watch_query('zz prompt', 'SELECT id::text AS job_id, finished_at AS failed_at
    FROM public.research_jobs WHERE status = ''dead''')));
JobAlerting::run_until_silent($node);
is queues('last_scan_at IS NULL'), 0, 'while they are quick, a round reads all of them';
is sql('SELECT healthy FROM job_alerting.status'), 't', 'and all is well';

my $pace = $limit * 0.95;
sql("CREATE OR REPLACE VIEW s.pace AS SELECT $pace AS seconds");

subtest 'a round by hand takes no longer than one failure query may' => sub {
    my $since = sql('SELECT clock_timestamp()');
    my $start = Time::HiRes::time();
    my $stalled = stall($stub);
    is queues("last_scan_at > '$since'"), 0, 'the mail to another role comes before the slow queues are read';
    $stub->release;
    my ($row) = $stalled->{call}->rows;
    cmp_ok Time::HiRes::time() - $start, '<', 1.2 * $limit + $slack, 'and the round ends';
    like $row->{detail}, qr/1\d queues were not reached, since others took all the time for scans: aa slow \d+ and others/,
      'saying what it did not reach';
    is_deeply [ map { JobAlerting::named_jobs($_, 'zz prompt') } ($stub->requests)[1] ], [ $stalled->{job} ], 'the failure was told';
    like sql('SELECT reason FROM job_alerting.status'),
      qr/^1\d queues were not reached by the last round, .*: the longest waits aa slow \d+, since /, 'the status says so';
    is queues('last_error IS NOT NULL'), 0, 'a queue for which no time was left is not broken';
};

subtest 'who was not reached comes first in the next round' => sub {
    my ($last, $reached) = ('', 0);
    for (1 .. 3) {
        JobAlerting::run_digest($node);
        my $newest = sql(q(SELECT name FROM job_alerting.queue WHERE name LIKE 'aa slow%' ORDER BY last_turn_at DESC NULLS LAST LIMIT 1));
        isnt $newest, $last, 'another one has its turn';
        $last = $newest;
    }
};

# The second was quick at its last scan that ended. So each round tries it where there is little time, and cuts
# it short.
subtest 'each has its turn, also one that each round has cut short before' => sub {
    sql("SELECT job_alerting.unwatch('aa slow ' || n, true) FROM generate_series(4, $slow_queues) n");
    my $since = sql('SELECT clock_timestamp()');
    JobAlerting::run_digest($node) for 1 .. 4;
    is queues("last_scan_at > '$since'"), 3, 'four rounds read three queues';
};

subtest 'the doctor names the slow ones' => sub {
    my ($slow) = sql(q(SELECT name FROM job_alerting.queue WHERE last_scan_ms > 900 LIMIT 1));
    sql('CREATE OR REPLACE VIEW s.pace AS SELECT 0.0 AS seconds');
    my %found = map { $_->{item} => $_ }
      JobAlerting::rows($node, undef, q(SELECT * FROM job_alerting.check() WHERE item LIKE 'time of queue %'));
    is $found{"time of queue $slow"}{state}, 'warning', 'as a warning';
    like $found{"time of queue $slow"}{detail},
      qr/its last scan took [\d.]+ s of the 1 s that all slow queues have together in a round/, 'with its time';
    is $found{'time of queue zz prompt'}{state}, 'ok', 'and only them';
    sql("CREATE OR REPLACE VIEW s.pace AS SELECT $pace AS seconds");
};

# What it finds is compared with the ledger, which takes time too, before it is asked for the details.
subtest 'a queue whose many new failures take more than its share is read all the same' => sub {
    sql('CREATE OR REPLACE VIEW s.pace AS SELECT 0.0 AS seconds');
    JobAlerting::configure($node, scan_timeout => '4s');
    sql(<<'SQL');
CREATE TABLE many AS SELECT n::text AS job_id, now() AS failed_at FROM generate_series(1, 100000) n;
CREATE FUNCTION words() RETURNS text STABLE LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(0.6); RETURN 'words'; END $$;
SELECT job_alerting.watch_query('many',
    'SELECT job_id, failed_at, (SELECT public.words()) AS error FROM public.many');
SQL
    my ($row) = JobAlerting::run_digest($node);
    is "$row->{outcome} $row->{failures}", 'accepted 100000', 'all are told';
    is $row->{detail}, undef, 'and the queue can be read';
    is sql(q(SELECT last_error FROM job_alerting.queue WHERE name = 'many')), '', 'as its row says';
    sql(q(SELECT job_alerting.unwatch('many', true); DROP TABLE many; DROP FUNCTION words));
    JobAlerting::configure($node, scan_timeout => "${limit}s");
    sql("CREATE OR REPLACE VIEW s.pace AS SELECT $pace AS seconds");
};

subtest 'under the launcher, others are told within two intervals and the limit' => sub {
    JobAlerting::configure($node, interval => '1s');
    my $since = sql('SELECT clock_timestamp()');
    JobAlerting::poll(sub { sql("SELECT last_round_at > '$since' FROM job_alerting.status") eq 't' }, 30, 'its first round');
    for my $db (qw(postgres other postgres other)) {
        my $before = $stub->count;
        my $job = JobAlerting::fail_job($node, db => $db);
        my $start = Time::HiRes::time();
        my $queue = $db eq 'postgres' ? 'zz prompt' : 'research_jobs';
        JobAlerting::poll(
            sub { grep { $_ eq $job } map { JobAlerting::named_jobs($_, $queue) } ($stub->requests)[ $before .. $stub->count - 1 ] },
            30, "the failure in $db");
        cmp_ok Time::HiRes::time() - $start, '<', 2 + 1.2 * $limit + $slack, "in $db";
    }
    is queues('last_error IS NOT NULL'), 0, 'no slow queue was broken';
    JobAlerting::configure($node, interval => '1h');
};

subtest 'a queue that is quick again is read promptly, and all is well' => sub {
    sql('CREATE OR REPLACE VIEW s.pace AS SELECT 0.0 AS seconds');
    JobAlerting::run_digest($node);
    is queues('postponed_since IS NOT NULL'), 0, 'each is reached';
    is sql('SELECT reason FROM job_alerting.status'), '', 'and the status says nothing more';
};

$node->stop;
done_testing();
