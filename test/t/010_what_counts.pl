# The definition of a failure for a table shaped like research_jobs, seen by the receiver of the mails:
# rows that are reported once, rows that are reported again, and rows that are never reported.

use strict;
use warnings;

use FindBin;
use IPC::Run ();
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting qw(fail_job sql);

my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub, conf => <<'CONF');
max_prepared_transactions = 5
job_alerting.max_listed = 1000
CONF
JobAlerting::create_jobs($node);

# Other people's tables have more statuses, and counters that may be NULL.
sql('ALTER TABLE research_jobs DROP CONSTRAINT research_jobs_status_check,'
      . ' ALTER status DROP NOT NULL, ALTER attempts DROP NOT NULL');

# All mails together have to name these, each failure once.
my @due;

sub update {
    my ($job, $change) = @_;
    return sql("UPDATE research_jobs SET $change WHERE id = $job");
}

# A worker does this when a job finally fails.
sub kill_job {
    my ($job) = @_;
    return update($job, q(status = 'dead', attempts = 3, finished_at = clock_timestamp(), last_error = 'again'));
}

# An operator does this.
sub retry_job {
    my ($job) = @_;
    return update($job, q(status = 'queued', attempts = 0, finished_at = NULL, last_error = NULL));
}

sub reports_now {
    my ($jobs, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    push @due, @$jobs;
    return is_deeply [ JobAlerting::reported($node, $stub) ], [ sort @$jobs ], $name;
}

sub is_silent {
    my ($name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return reports_now([], $name);
}

sub standing {
    my ($job) = @_;
    return sql("SELECT count(*) FROM job_alerting.failure WHERE job_id = '$job' AND cleared_at IS NULL");
}

subtest 'a job whose status is no final failure is never reported' => sub {
    fail_job(status => $_)
      for qw(queued pending running done succeeded canceled cancelled deadly fail), '', 'de ad', undef;
    fail_job(status => $_, attempts => undef) for qw(queued running done cancelled);
    is_silent('whatever the status');
};

subtest 'case and surrounding blanks of a status do not matter' => sub {
    my @jobs = map { fail_job(status => $_) } qw(DEAD Failed fAILED), ' dead', 'dead ', "\tFAILED \r\n";
    fail_job(status => $_, attempts => 1) for 'FAILED', ' failed ';
    fail_job(status => ' Dead ', last_error => 'cancelled by admin');
    reports_now(\@jobs, 'in any case, with blanks around it');
    is_silent('once');
};

subtest 'a failed job with attempts left is never reported' => sub {
    fail_job(status => 'failed', attempts => 0);
    fail_job(status => 'failed', attempts => 2);
    is_silent('a retry is coming');
};

subtest 'each kind of final failure is reported once' => sub {
    my @kinds = (
        'dead'                                => { status => 'dead' },
        'dead with attempts left'             => { status => 'dead', attempts => 1 },
        'dead without attempts'               => { status => 'dead', attempts => undef },
        'failed with its attempts used up'    => { status => 'failed', attempts => 3 },
        'failed with more attempts than that' => { status => 'failed', attempts => 4 },
        'failed with no attempts allowed'     => { status => 'failed', attempts => 0, max_attempts => 0 },
        'failed, attempts unknown'            => { status => 'failed', attempts => undef },
        'failed, limit unknown'               => { status => 'failed', attempts => 1, max_attempts => undef },
        'failed, both unknown'                => { status => 'failed', attempts => undef, max_attempts => undef },
        'without an error'                    => { last_error => undef },
    );
    while (my ($name, $columns) = splice @kinds, 0, 2) {
        reports_now([ fail_job(%$columns) ], $name);
    }
    is_silent('no second time');
};

subtest 'a job that was cancelled on purpose is not reported' => sub {
    fail_job(last_error => 'cancelled by admin');
    fail_job(last_error => 'cancelled by admin', attempts => 0);
    is_silent('dead, and exactly that text');
    reports_now([ fail_job(last_error => $_) ], "dead, and '$_'")
      for 'cancelled by admin ', 'Cancelled by admin', 'timeout; cancelled by admin', 'canceled by admin', '';
    reports_now([ fail_job(status => 'failed', last_error => 'cancelled by admin') ], 'failed, and that text');
};

subtest 'a reported job is not reported again after an update of other columns' => sub {
    my ($dead, $failed) = (fail_job(), fail_job(status => 'failed'));
    reports_now([ $dead, $failed ], 'reported');
    for my $job ($dead, $failed) {
        update($job, $_) for 'priority = 1', q(last_error = 'boom, annotated'), q(payload = '{"a": 1}'),
          q(result = '{}'), 'attempts = attempts + 1', 'claimed_by = NULL', q(updated_at = '2001-01-01'),
          q(job_type = 'renamed', target_id = NULL);
    }
    is_silent('other columns updated');
    update($failed, q(status = 'dead'));
    is_silent('failed becomes dead with the same finished_at');
    update($dead, 'max_attempts = 10');
    is_silent('more attempts allowed to what is dead');
    is standing($dead), 1, 'it still stands';
};

subtest 'a reported job that is deleted is not reported again, and no longer stands' => sub {
    my $job = fail_job();
    reports_now([$job], 'reported');
    sql("DELETE FROM research_jobs WHERE id = $job");
    is_silent('deleted');
    is standing($job), 0, 'cleared in the ledger';
    is_silent('and stays silent');
};

subtest 'a failed job that gets more attempts is reported only after it has used them up' => sub {
    my $job = fail_job(status => 'failed', attempts => 3);
    reports_now([$job], 'reported');
    update($job, 'max_attempts = 5');
    is_silent('a retry is coming');
    is standing($job), 0, 'it no longer stands';
    update($job, q(attempts = 5, finished_at = clock_timestamp()));
    reports_now([$job], 'reported when they are used up as well');
};

subtest 'a job that the operator retries, and that fails again, is reported again' => sub {
    my $job = fail_job();
    reports_now([$job], 'failed');
    retry_job($job);
    is_silent('retried');
    kill_job($job);
    reports_now([$job], 'failed again');
    is_silent('once');

    retry_job($job);
    kill_job($job);
    reports_now([$job], 'failed again between two rounds');
    is_silent('once');
    is standing($job), 1, 'one of its three failures stands';
};

subtest 'a failure that returns unchanged is the same failure' => sub {
    my $job = fail_job(finished_at => '2026-01-02 03:04:05.678901+00');
    reports_now([$job], 'reported');
    update($job, q(status = 'queued'));
    is_silent('away');
    is standing($job), 0, 'cleared';
    update($job, q(status = 'dead'));
    is_silent('back, with the finished_at that was reported');
    is standing($job), 1, 'and it stands';
    update($job, q(finished_at = finished_at + interval '1 microsecond'));
    reports_now([$job], 'a finished_at later by the least there is makes it another');
};

subtest 'a failure without finished_at is reported once, and again after it was seen not failed' => sub {
    my $job = fail_job(finished_at => undef);
    reports_now([$job], 'reported');
    is_silent('known') for 1 .. 2;
    retry_job($job);
    update($job, q(status = 'dead'));
    is_silent('retried and failed unseen: nothing tells the two apart');
    retry_job($job);
    is_silent('seen not failed');
    update($job, q(status = 'dead'));
    reports_now([$job], 'failed again');
    is_silent('once');
    is sql("SELECT count(*) FROM job_alerting.failure WHERE job_id = '$job' AND occurrence LIKE 'unknown 20%'"),
      2, 'the ledger has two, named by the time of recording';
};

subtest 'a truncated table whose ids begin anew has new failures' => sub {
    my $job = fail_job();
    reports_now([$job], 'reported');
    sql('TRUNCATE research_jobs RESTART IDENTITY');
    is_silent('truncated');
    is sql('SELECT count(*) FROM job_alerting.failure WHERE cleared_at IS NULL'), 0, 'nothing stands';
    my @again = map { fail_job(id => $_) } 1, 3, $job;
    reports_now(\@again, 'new failures of jobs with the old numbers');
    sql('ALTER SEQUENCE research_jobs_id_seq RESTART WITH 10000');
};

subtest 'finished_at is never compared with a clock' => sub {
    my @times = ('1970-01-01', '4713-01-01 BC', '2999-12-31', '294276-12-31 23:59:59', 'infinity', '-infinity');
    my %told;
    for my $time (@times) {
        reports_now([ fail_job(finished_at => $time) ], $time);
        $told{$time} = JobAlerting::text_part(($stub->requests)[-1]);
    }
    like $told{'4713-01-01 BC'}, qr/^Failed at 4713-01-01T00:00:00\S+ BC\.$/m, 'a year before year 1 is reported as such';
    is_silent('each once');
    sql(q(ALTER DATABASE postgres SET timezone = 'Asia/Kathmandu'; ALTER DATABASE postgres SET datestyle = 'SQL, DMY'));
    is_silent('nor written as the database would write it');
    sql('ALTER DATABASE postgres RESET ALL');
};

subtest 'a failure of a transaction older than several rounds is reported after its commit' => sub {
    my $late = $node->background_psql('postgres', on_error_stop => 1);
    $late->query_safe('BEGIN');
    my $job = $late->query_safe(insert());
    is_silent('not committed');
    reports_now([ fail_job() ], "round $_, with a later failure") for 1 .. 3;
    $late->query_safe('COMMIT');
    $late->quit;
    reports_now([$job], 'committed');
    is_silent('once');
};

subtest 'a failure of an old snapshot is reported after its commit' => sub {
    my $job = fail_job(status => 'running');
    my $late = $node->background_psql('postgres', on_error_stop => 1);
    $late->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM research_jobs');
    reports_now([ fail_job() ], 'a round before its first write');
    $late->query_safe("UPDATE research_jobs SET status = 'dead', finished_at = now() WHERE id = $job");
    reports_now([ fail_job() ], 'a round after it');
    $late->query_safe('COMMIT');
    $late->quit;
    reports_now([$job], 'committed');
};

subtest 'a failure of a prepared transaction is reported after COMMIT PREPARED' => sub {
    my $job = sql('BEGIN; ' . insert() . q(; PREPARE TRANSACTION 'kept'));
    sql('BEGIN; ' . insert() . q(; PREPARE TRANSACTION 'given up'));
    reports_now([ fail_job() ], "round $_, with a later failure") for 1 .. 2;
    JobAlerting::restart($node);
    reports_now([ fail_job() ], 'a round after a restart');
    sql(q(ROLLBACK PREPARED 'given up'));
    is_silent('rolled back');
    sql(q(COMMIT PREPARED 'kept'));
    reports_now([$job], 'committed');
    is_silent('once');
};

subtest 'a failure that was written inside a savepoint is reported after the commit' => sub {
    my $session = $node->background_psql('postgres', on_error_stop => 1);
    $session->query_safe('BEGIN');
    my $outer = $session->query_safe(insert());
    $session->query_safe('SAVEPOINT a');
    my $inner = $session->query_safe(insert());
    $session->query_safe('SAVEPOINT b');
    $session->query_safe(insert());
    $session->query_safe('ROLLBACK TO SAVEPOINT b');
    my $last = $session->query_safe(insert());
    $session->query_safe('RELEASE SAVEPOINT a');
    reports_now([ fail_job() ], 'a round while it is open');
    $session->query_safe('COMMIT');
    $session->quit;
    reports_now([ $outer, $inner, $last ], 'all that was committed, and not what was rolled back');
    is_silent('once');
};

subtest 'failures that many sessions write while rounds go on are each in exactly one digest' => sub {
    my $script = $node->basedir . '/writer.sql';
    PostgreSQL::Test::Utils::append_to_file($script, <<'SQL');
\set pause random(0, 30)
BEGIN;
SAVEPOINT a;
INSERT INTO research_jobs (source, job_type, status, finished_at) VALUES ('s', 't', 'running', NULL) RETURNING id \gset
RELEASE SAVEPOINT a;
\sleep :pause ms
UPDATE research_jobs SET status = 'dead', finished_at = now() WHERE id = :id;
COMMIT;
SQL
    my $newest = sql('SELECT max(id) FROM research_jobs');
    my $output = '';
    my $writers = IPC::Run::start(
        [ 'pgbench', '-n', '-c', 6, '-t', 40, '-f', $script, '-d', $node->connstr('postgres') ],
        '>', \$output, '2>&1');
    my ($before, $rounds) = ($stub->count, 0);
    while ($writers->pumpable) {
        JobAlerting::reported($node, $stub);
        $writers->pump_nb;
        $rounds++;
    }
    ok $writers->finish, 'the writers succeeded' or diag $output;
    JobAlerting::reported($node, $stub);
    my @written = split /\n/, sql("SELECT id FROM research_jobs WHERE id > $newest");
    is scalar @written, 240, 'all their failures are in the table';
    my @named = map { JobAlerting::named_jobs($_) } ($stub->requests)[ $before .. $stub->count - 1 ];
    is_deeply [ sort @named ], [ sort @written ], 'each failure is named once';
    cmp_ok $stub->count - $before, '>', 1, "in several digests of $rounds rounds";
    push @due, @written;
};

subtest 'all mails together name every failure exactly once' => sub {
    is_silent('nothing is left');
    is_deeply [ sort map { JobAlerting::named_jobs($_) } $stub->requests ], [ sort @due ], 'in the mails';
    is sql('SELECT count(*) FROM job_alerting.failure'), scalar @due, 'the ledger has as many failures';
    is sql(<<'SQL'), scalar @due, 'each failure belongs to exactly one digest';
SELECT count(*) FROM job_alerting.failure f
WHERE 1 = (SELECT count(*) FROM job_alerting.digest_failure d WHERE d.id = f.id AND d.digest_state = 'accepted')
SQL
};

subtest 'failures from before `since` are not reported' => sub {
    sql('TRUNCATE research_jobs');
    is_silent('an empty table');
    sql(q(SELECT job_alerting.watch('research_jobs', since => '2026-01-01 00:00:00+00')));
    my $before = fail_job(finished_at => '2025-12-31 23:59:59.999999+00');
    fail_job(finished_at => '-infinity');
    is_silent('from before');
    my @after = map { fail_job(finished_at => $_) } '2026-01-01 00:00:00+00', 'infinity', undef;
    reports_now(\@after, 'at that time, after it, and of unknown time');
    retry_job($before);
    kill_job($before);
    reports_now([$before], 'one from before that fails again');
    my $older = fail_job(finished_at => '2025-06-01');
    is_silent('an older one');
    sql(q(SELECT job_alerting.watch('research_jobs', since => '2025-01-01')));
    reports_now([$older], 'when the time is set back, it is');
    is_silent('and nothing else');
};

$node->stop;
done_testing();

# The INSERT of fail_job(), for a session of its own.
sub insert {
    return q(INSERT INTO research_jobs (source, job_type, status, attempts, finished_at, last_error)
        VALUES ('apple', 'refresh_catalog', 'dead', 3, now(), 'boom') RETURNING id) =~ s/\s+/ /gr;
}
