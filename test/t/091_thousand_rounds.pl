# Nothing grows over a thousand rounds by hand in one session, during which the launcher makes rounds in many
# databases: neither memory nor files nor disk space. Most rounds are silent, as in production.
#
# JOB_ALERTING_ROUNDS=20000 makes more rounds.

use strict;
use warnings;

use FindBin;
use List::Util ();
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting;

my $ROUNDS = $ENV{JOB_ALERTING_ROUNDS} // 1000; # by hand
my $DATABASES = 32;                             # in which the launcher makes rounds
my $MEMORY = 64;                                # kB by which a process may grow: 85 bytes a round
my $WARM_UP = 40;                               # rounds until the caches are filled

my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub, conf => <<'CONF');
# Slots for the launcher, its worker, a round by hand, and one more: a leaked slot is missed two rounds later.
max_worker_processes = 4
max_logical_replication_workers = 0
# Segments are files in pg_dynshmem.
dynamic_shared_memory_type = mmap
# A silent round must leave no dead rows. After the other rounds the test runs VACUUM.
autovacuum = off
# Logs the start of each worker.
log_min_messages = debug1
CONF
JobAlerting::create_jobs($node);
JobAlerting::fail_job($node);
# Each copy reports its failure in a mail of its own.
$node->safe_psql('postgres', "CREATE DATABASE watched_$_ TEMPLATE postgres") for 1 .. $DATABASES;
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE sample (round int, process text, kilobytes int, files int, segments int);
    CREATE TABLE size (quarter int, name text, kilobytes int);

    -- Private memory. The touched part of the shared memory does not matter.
    CREATE FUNCTION memory(pid int) RETURNS int LANGUAGE sql RETURN
        (regexp_match(pg_read_file('/proc/' || pid || '/status'), 'RssAnon:\s+(\d+)'))[1]::int;
    CREATE FUNCTION files(pid int) RETURNS int LANGUAGE sql RETURN
        (SELECT count(*) FROM pg_ls_dir('/proc/' || pid || '/fd'));

    CREATE FUNCTION take_sample(round int) RETURNS void LANGUAGE sql BEGIN ATOMIC
        INSERT INTO sample
        SELECT take_sample.round, process, memory(pid), files(pid), (SELECT count(*) FROM pg_ls_dir('pg_dynshmem'))
        FROM (SELECT 'caller' AS process, pg_backend_pid() AS pid
              UNION ALL SELECT 'postmaster', split_part(pg_read_file('postmaster.pid'), E'\n', 1)::int
              UNION ALL SELECT 'launcher', pid FROM pg_stat_activity WHERE backend_type = 'job_alerting launcher') processes;
    END;

    CREATE FUNCTION take_size(quarter int) RETURNS void LANGUAGE sql BEGIN ATOMIC
        INSERT INTO size
        SELECT take_size.quarter, oid::regclass, pg_total_relation_size(oid) / 1024
        FROM pg_class WHERE relnamespace = 'job_alerting'::regnamespace AND relkind = 'r';
    END;

    CREATE PROCEDURE make_rounds(first int, last int) LANGUAGE plpgsql AS $$
    BEGIN
        FOR round IN first .. last LOOP
            IF round > 0 AND round % 50 = 0 THEN
                INSERT INTO research_jobs (source, job_type, status, attempts, max_attempts, finished_at, last_error)
                VALUES ('apple', 'refresh_catalog', 'dead', 3, 3, now(), 'boom');
                COMMIT;
            END IF;
            PERFORM FROM job_alerting.run_digest();
            COMMIT;
            IF round % 5 = 0 THEN
                PERFORM take_sample(round);
                COMMIT;
            END IF;
        END LOOP;
    END $$;
SQL

# The number of the launcher's rounds in the copies.
sub launched {
    my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
    my @started = $log =~ /starting background worker process "job_alerting worker for watched_/g;
    return scalar @started;
}

# The median of a column in one quarter of the rounds.
sub median {
    my ($column, $process, $quarter) = @_;
    my ($from, $to) = map { $ROUNDS * $_ / 4 } $quarter - 1, $quarter;
    my ($row) = JobAlerting::rows($node, undef, <<"SQL");
        SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY $column) AS median
        FROM sample WHERE process = '$process' AND round > $from AND round <= $to
SQL
    return $row->{median} // die "no sample of the $process in quarter $quarter\n";
}

sub growth {
    my ($column, $process) = @_;
    my ($first, $last) = map { median($column, $process, $_) } 1, 4;
    note "$process: $column $first at first, $last at last";
    return $last - $first;
}

# The growth of a table since the first quarter.
sub table_growth {
    my ($name) = @_;
    my @sizes = map { $_->{kilobytes} }
      JobAlerting::rows($node, undef, "SELECT kilobytes FROM size WHERE name = '$name' ORDER BY quarter");
    note "$name: @sizes kB";
    return $sizes[-1] - $sizes[0];
}

subtest "$ROUNDS rounds by hand, with rounds of the launcher meanwhile" => sub {
    JobAlerting::configure($node, interval => '1s');
    my @bounds = map { 1 + int($ROUNDS * $_ / 4) } 0 .. 4;
    my $vacuum = 'VACUUM job_alerting.failure, job_alerting.digest';
    my @statements = ("CALL make_rounds(-$WARM_UP, 0)", $vacuum, 'SELECT take_size(0)', 'DELETE FROM sample', 'DELETE FROM size');
    push @statements, "CALL make_rounds($bounds[$_ - 1], $bounds[$_] - 1)", $vacuum, "SELECT take_size($_)" for 1 .. 4;
    my $before = launched();
    my (undef, undef, $error) = $node->psql('postgres', join(";\n", @statements), timeout => 120 + $ROUNDS / 2);
    is $error, '', 'each round got its worker';
    my $launched = launched() - $before;
    note "$launched of the launcher";
    cmp_ok $launched, '>', $ROUNDS / 10, 'the launcher has made enough rounds';
    my $mails = 1 + int($ROUNDS / 50) + $DATABASES;
    $stub->wait_for($mails, 60);
    is $stub->count, $mails, 'as many mails as failures';
};

subtest 'no process has grown' => sub {
    for my $process (qw(caller postmaster launcher)) {
        # The caller is an ordinary session, whose caches grow with the activity of others.
        my $most = $process eq 'caller' ? 2 * $MEMORY : $MEMORY;
        cmp_ok growth(kilobytes => $process), '<=', $most, "$process: memory";
        # The server keeps files of relations open, and opens a few more.
        cmp_ok growth(files => $process), '<=', 10, "$process: open files";
    }
    cmp_ok growth(segments => 'launcher'), '<=', 0, 'segments of shared memory';
};

subtest 'tables grow only by recorded rows' => sub {
    # This table is updated in each round, and never vacuumed.
    is table_growth('job_alerting.queue'), 0, 'queue';
    # Half a kB for a failure and its digest, and two pages.
    my $recorded = 16 + $ROUNDS / 50 / 2;
    cmp_ok table_growth("job_alerting.$_"), '<=', $recorded, $_ for qw(failure digest);
};

$node->stop;
done_testing();
