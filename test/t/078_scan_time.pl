# Many slow queues of one role delay neither other roles of the database nor other databases. Each slow queue
# has its turn, and status and check() name them.

use strict;
use warnings;

use FindBin;
use Test::More;
use Time::HiRes ();

use lib "$FindBin::Bin/../support";
use JobAlerting qw(sql stall);

my $slow_queues = 20;
my $limit = 2; # seconds: job_alerting.scan_timeout
my $pace = 0.6 * $limit; # seconds that a slow query takes: more than the share of a quick one
my $slack = 6; # seconds of slack for a slow machine

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

# The slow queues are the first by name and by the time of watching.
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
is queues('last_scan_at IS NULL'), 0, 'a round reads all queues while they are quick';
is sql('SELECT healthy FROM job_alerting.status'), 't', 'status is healthy';

sql("CREATE OR REPLACE VIEW s.pace AS SELECT $pace AS seconds");

subtest 'a round by hand takes no longer than scan_timeout' => sub {
    my $since = sql('SELECT clock_timestamp()');
    my $start = Time::HiRes::time();
    my $stalled = stall($stub);
    is queues("last_scan_at > '$since'"), 0, 'the mail to another role comes before the slow queues are read';
    $stub->release;
    my ($row) = $stalled->{call}->rows;
    cmp_ok Time::HiRes::time() - $start, '<', 1.2 * $limit + $slack, 'the round ends in time';
    like $row->{detail}, qr/1\d queues were not scanned, because others used up the scan time: aa slow \d+ and others/,
      'the detail names the queues that were not reached';
    is_deeply [ map { JobAlerting::named_jobs($_, 'zz prompt') } ($stub->requests)[1] ], [ $stalled->{job} ], 'the failure was reported';
    like sql('SELECT reason FROM job_alerting.status'),
      qr/^1\d queues were not scanned by the last round, .*: aa slow \d+ has waited longest, since /, 'the status says so';
    is queues('last_error IS NOT NULL'), 0, 'a queue that was not reached is not broken';
};

subtest 'a queue that was not reached comes first in the next round' => sub {
    my ($last, $reached) = ('', 0);
    for (1 .. 3) {
        JobAlerting::run_digest($node);
        my $newest = sql(q(SELECT name FROM job_alerting.queue WHERE name LIKE 'aa slow%' ORDER BY last_turn_at DESC NULLS LAST LIMIT 1));
        isnt $newest, $last, 'another queue has its turn';
        $last = $newest;
    }
};

# The last complete scan of the second queue was quick, so each round tries it among the quick queues and cuts
# it short.
subtest 'each queue has its turn, also one that each round has cut short before' => sub {
    sql("SELECT job_alerting.unwatch('aa slow ' || n, true) FROM generate_series(4, $slow_queues) n");
    my $since = sql('SELECT clock_timestamp()');
    JobAlerting::run_digest($node) for 1 .. 4;
    is queues("last_scan_at > '$since'"), 3, 'four rounds read three queues';
};

subtest 'check() names the slow queues' => sub {
    my ($slow) = sql(q(SELECT name FROM job_alerting.queue WHERE last_scan_ms > 500 LIMIT 1));
    sql('CREATE OR REPLACE VIEW s.pace AS SELECT 0.0 AS seconds');
    my %found = map { $_->{item} => $_ }
      JobAlerting::rows($node, undef, q(SELECT * FROM job_alerting.check() WHERE item LIKE 'time of queue %'));
    is $found{"time of queue $slow"}{state}, 'warning', 'as a warning';
    like $found{"time of queue $slow"}{detail},
      qr/its last scan took [\d.]+ s of the $limit s that all slow queues share in a round/, 'with its time';
    is $found{'time of queue zz prompt'}{state}, 'ok', 'a quick queue has no warning';
    sql("CREATE OR REPLACE VIEW s.pace AS SELECT $pace AS seconds");
};

# The comparison with the ledger takes time, too, before the query runs again for the details.
subtest 'a queue whose many new failures take more than its share is read completely' => sub {
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
    is "$row->{outcome} $row->{failures}", 'accepted 100000', 'all are reported';
    is $row->{detail}, undef, 'the round has no problem';
    is sql(q(SELECT last_error FROM job_alerting.queue WHERE name = 'many')), '', 'the queue has no error';
    sql(q(SELECT job_alerting.unwatch('many', true); DROP TABLE many; DROP FUNCTION words));
    JobAlerting::configure($node, scan_timeout => "${limit}s");
    sql("CREATE OR REPLACE VIEW s.pace AS SELECT $pace AS seconds");
};

subtest 'under the launcher, failures of others are reported within two intervals and the limit' => sub {
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

subtest 'queues that are quick again are all read, and status is healthy' => sub {
    sql('CREATE OR REPLACE VIEW s.pace AS SELECT 0.0 AS seconds');
    JobAlerting::run_digest($node);
    is queues('postponed_since IS NOT NULL'), 0, 'each queue is reached';
    is sql('SELECT reason FROM job_alerting.status'), '', 'status has no reason';
};

$node->stop;
done_testing();
