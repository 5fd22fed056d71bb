# The ledger's contents and retention, dumps restored into other databases, and the objects that CREATE
# EXTENSION finds and refuses.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting;

my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub);

sub create_database {
    my ($db) = @_;
    $node->safe_psql('postgres', "CREATE DATABASE $db");
    return $db;
}

sub reports {
    my ($db, $jobs, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is_deeply [ JobAlerting::reported($node, $stub, db => $db) ], [ sort @$jobs ], $name;
}

sub fail_job {
    my ($db, %columns) = @_;
    return JobAlerting::fail_job($node, db => $db, %columns);
}

# The jobs of research_jobs in the ledger.
sub ledger {
    my ($db) = @_;
    return $node->safe_psql($db, <<'SQL');
SELECT string_agg(job_id, ' ' ORDER BY id) FROM job_alerting.failure WHERE queue = 'research_jobs'
SQL
}

subtest 'the ledger has one row for each failure, written by a round' => sub {
    my $db = create_database('ledger');
    JobAlerting::create_jobs_table($node, $db);
    my @jobs = map { fail_job($db) } 1 .. 3;
    $node->safe_psql($db, 'CREATE EXTENSION job_alerting');
    $node->safe_psql($db, q(SELECT job_alerting.watch('research_jobs')));
    is ledger($db), '', 'watch() writes no row';
    $node->safe_psql($db, 'BEGIN; SELECT job_alerting.run_digest(); ROLLBACK');
    is ledger($db), "@jobs", 'a round writes them, and its caller cannot roll them back';
    reports($db, [], 'reported');
    is ledger($db), "@jobs", 'reporting does not change the rows';
    $node->safe_psql($db, q(SELECT job_alerting.watch('research_jobs')));
    is ledger($db), "@jobs", 'a queue that is watched anew keeps its rows';
    my @later = (fail_job($db, finished_at => \q(now() + interval '1 minute')), fail_job($db));
    reports($db, \@later, 'two more');
    is ledger($db), "@jobs $later[1] $later[0]", 'in the order of failed_at';
    is $node->safe_psql($db, 'SELECT max(id) - min(id) + 1 = count(*) FROM job_alerting.failure'), 't', 'without a gap';
};

subtest 'failures that are reported, cleared and old enough are pruned' => sub {
    my $db = create_database('pruning');
    JobAlerting::create_jobs($node, $db);
    my ($deleted, $standing, $retried) = map { fail_job($db) } 1 .. 3;
    reports($db, [ $deleted, $standing, $retried ], 'reported');
    $node->safe_psql($db, "DELETE FROM research_jobs WHERE id = $deleted");
    $node->safe_psql($db, "UPDATE research_jobs SET status = 'queued', finished_at = NULL WHERE id = $retried");
    reports($db, [], 'no longer failed');
    is ledger($db), "$deleted $standing $retried", 'kept for 90 days';

    my $age = sub {
        my ($job, $days) = @_;
        $node->safe_psql($db, "UPDATE job_alerting.failure SET cleared_at = cleared_at - interval '$days days'"
              . " WHERE job_id = '$job'");
    };
    $age->($deleted, 89.9);
    reports($db, [], 'a round');
    is ledger($db), "$deleted $standing $retried", 'a younger one is kept';
    $age->($deleted, 0.2);
    $node->safe_psql($db, q(UPDATE job_alerting.failure SET recorded_at = '2001-01-01', failed_at = '2001-01-01'));
    reports($db, [], 'a round');
    is ledger($db), "$standing $retried", 'only a failure that was cleared so long ago is pruned';

    $node->safe_psql($db, "ALTER DATABASE $db SET job_alerting.retention = 0");
    reports($db, [], 'a round that keeps nothing longer than it must');
    is ledger($db), $standing, 'a standing failure is kept';
    reports($db, [], 'and not reported again') for 1 .. 2;

    $stub->mode('401');
    my $waiting = fail_job($db);
    JobAlerting::run_digest($node, $db);
    $node->safe_psql($db, "DELETE FROM research_jobs WHERE id = $waiting");
    JobAlerting::run_digest($node, $db);
    is ledger($db), "$standing $waiting", 'an unreported failure is kept, cleared or not';
    $stub->mode('202');
    reports($db, [$waiting], 'reported');
    is ledger($db), $standing, 'and pruned at once';

    $stub->mode('close-after-read');
    my $doubtful = fail_job($db);
    JobAlerting::run_digest($node, $db);
    my $behind = fail_job($db);
    JobAlerting::run_digest($node, $db);
    $node->safe_psql($db, "DELETE FROM research_jobs WHERE id IN ($doubtful, $behind)");
    JobAlerting::run_digest($node, $db);
    is ledger($db), "$standing $doubtful $behind", 'failures in doubt and those behind them are kept';
    $stub->mode('202');
    my $count = $stub->count;
    JobAlerting::run_digest($node, $db);
    is_deeply [ map { JobAlerting::named_jobs($_) } ($stub->requests)[ $count .. $stub->count - 1 ] ],
      [ $doubtful, $behind ], 'both are reported in the end';
    is ledger($db), $standing, 'both are pruned';

    is $node->safe_psql($db, 'SELECT count(*) FROM job_alerting.digest'), 2, 'two digests are left: the newest,';
    is $node->safe_psql($db, 'SELECT count(DISTINCT digest_id) FROM job_alerting.digest_failure'), 1, 'and the one of the standing failure';
    $node->safe_psql($db, "UPDATE research_jobs SET finished_at = now() WHERE id = $standing");
    reports($db, [$standing], 'failed again');
    is $node->safe_psql($db, 'SELECT count(*) FROM job_alerting.digest'), 1, 'one is left';
    reports($db, [], 'which says how far the channel has come');
    is ledger($db), $standing, 'one failure stands';
};

subtest 'a failure is kept until every channel has reported it' => sub {
    my $db = create_database('channels');
    JobAlerting::create_jobs($node, $db);
    $node->safe_psql($db, "ALTER DATABASE $db SET job_alerting.retention = 0");
    $node->safe_psql($db, "ALTER DATABASE $db SET job_alerting.channels = 'log, sendgrid'");
    my $outcomes = sub { join ' ', map { "$_->{channel}:$_->{outcome}" } JobAlerting::run_digest($node, $db) };
    my $job = fail_job($db);
    $stub->mode('401');
    is $outcomes->(), 'log:accepted sendgrid:pending', 'one channel has';
    $node->safe_psql($db, 'TRUNCATE research_jobs');
    is $outcomes->(), 'log:silent sendgrid:pending', 'still only one channel';
    is ledger($db), $job, 'kept';
    $stub->mode('202');
    is $outcomes->(), 'log:silent sendgrid:accepted', 'both channels have';
    is_deeply [ JobAlerting::named_jobs(($stub->requests)[-1]) ], [$job], 'the receiver has it';
    is ledger($db), '', 'forgotten';
};

# The tables and the state of the sequences.
sub contents {
    my ($cluster, $db) = @_;
    my @queries = (
        (map { "SELECT * FROM job_alerting.$_ ORDER BY 1" } qw(queue failure digest installation)),
        (map { "SELECT last_value, is_called FROM job_alerting.${_}_id_seq" } qw(failure digest)),
    );
    return [ map { [ JobAlerting::rows($cluster, $db, $_) ] } @queries ];
}

sub dump_database {
    my ($db, @options) = @_;
    my $file = $node->basedir . "/$db.dump";
    PostgreSQL::Test::Utils::system_or_bail('pg_dump', '-f', $file, @options, '-d', $node->connstr($db));
    return $file;
}

# Creates a database with standing and cleared failures, one reported, one in doubt, one recorded after it.
# The jobs table belongs to a role of its own.
sub create_eventful_database {
    my ($db) = @_;
    create_database($db);
    $node->safe_psql($db, 'CREATE ROLE app') if $node->safe_psql($db, q(SELECT count(*) FROM pg_roles WHERE rolname = 'app')) == 0;
    JobAlerting::create_jobs_table($node, $db);
    $node->safe_psql($db, 'ALTER TABLE research_jobs OWNER TO app; CREATE EXTENSION job_alerting');
    my @jobs = map { fail_job($db) } 1 .. 3;
    push @jobs, fail_job($db, finished_at => undef);
    reports($db, \@jobs, "$db: before the dump");
    $node->safe_psql($db, "UPDATE research_jobs SET status = 'queued' WHERE id = $jobs[0]");
    $stub->mode('close-after-read');
    my $doubtful = fail_job($db);
    my $row = (JobAlerting::run_digest($node, $db))[-1];
    $stub->mode('202');
    is $row->{outcome}, 'in_doubt', "$db: one digest in doubt";
    is $node->safe_psql($db, 'SELECT owner FROM job_alerting.queue'), 'app', "$db: the queue runs as the role";
    return ($doubtful, $jobs[0]);
}

# The outcome of a round, and the jobs that its mails list.
sub round {
    my ($cluster, $db) = @_;
    my $before = $stub->count;
    my $row = (JobAlerting::run_digest($cluster, $db))[-1];
    return ($row, map { JobAlerting::named_jobs($_) } ($stub->requests)[ $before .. $stub->count - 1 ]);
}

for my $format ([ custom => '-Fc' ], [ plain => '-Fp' ], [ inserts => '-Fp', '--inserts' ]) {
    my ($name, @options) = @$format;
    subtest "a database restored from a dump ($name) is silent about the past" => sub {
        my ($doubtful, $retried) = create_eventful_database("old_$name");
        my $file = dump_database("old_$name", @options);
        my $db = create_database("new_$name");
        PostgreSQL::Test::Utils::system_or_bail($name eq 'custom'
            ? ('pg_restore', '--exit-on-error', '-d', $node->connstr($db), $file)
            : ('psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-d', $node->connstr($db), '-f', $file));
        is_deeply contents($node, $db), contents($node, "old_$name"), 'tables and sequences are as dumped';
        my ($row, @told) = round($node, $db);
        is_deeply [ $row->{outcome}, @told ], ['in_doubt'], 'nothing is sent, since the digest in doubt belongs to the original';
        my $newest = $node->safe_psql($db, 'SELECT max(id) FROM job_alerting.failure');
        my $new = fail_job($db);
        $node->safe_psql($db, "UPDATE research_jobs SET status = 'dead', finished_at = clock_timestamp() WHERE id = $retried");
        ($row, @told) = round($node, $db);
        is_deeply [ $row->{outcome}, sort @told ], [ 'accepted', sort $new, $retried ],
          'only new failures are reported';
        is $node->safe_psql($db, <<"SQL"), '1 2', 'the new ids follow the restored ones';
SELECT string_agg((id - $newest)::text, ' ' ORDER BY id) FROM job_alerting.failure WHERE id > $newest
SQL
        ($row, @told) = round($node, "old_$name");
        is_deeply [ $row->{outcome}, @told ], [ 'accepted', $doubtful ],
          'the original resends its digest in doubt';
    };
}

subtest 'a dump restored without the role reports the missing role, and no earlier failures' => sub {
    create_eventful_database('moved');
    my $file = dump_database('moved', '-Fc');
    my $other = JobAlerting::node('other', stub => $stub);
    $other->safe_psql('postgres', 'CREATE DATABASE moved');
    my $failed = !IPC::Run::run([ 'pg_restore', '-d', $other->connstr('moved'), $file ], '2>', \my $errors);
    ok $failed, 'the restore fails';
    is_deeply [ $errors =~ /^pg_restore: error:.*ERROR:  (.*)$/gm ], [ ('role "app" does not exist') x 2 ],
      'only the owners of the table and its sequence are missing';
    is_deeply contents($other, 'moved'), contents($node, 'moved'), 'tables and sequences are as dumped';
    my ($row, @told) = round($other, 'moved');
    is_deeply [ $row->{outcome}, $row->{failures}, @told ], [ 'accepted', 1 ], 'one failure without a job is reported';
    like JobAlerting::text_part(($stub->requests)[-1]),
      qr/^\* queue research_jobs could not be read.*role "app" does not exist/ms, 'the queue itself';
    ($row, @told) = round($other, 'moved');
    is_deeply [ $row->{outcome}, @told ], ['in_doubt'], 'once';
    $other->safe_psql('moved', 'CREATE ROLE app; GRANT SELECT ON research_jobs TO app');
    ($row, @told) = round($other, 'moved');
    is_deeply [ $row->{outcome}, @told ], ['in_doubt'], 'with the role created, no earlier failure is reported again';
    my $new = JobAlerting::fail_job($other, db => 'moved');
    ($row, @told) = round($other, 'moved');
    is_deeply [ $row->{outcome}, @told ], [ 'accepted', $new ], 'a new failure is reported';
    $other->stop;
};

subtest 'the extension can be dropped and created again in one session' => sub {
    my $db = create_database('again');
    JobAlerting::create_jobs_table($node, $db);
    my $job = fail_job($db);
    my $count = $stub->count;
    my $outcome = 'SELECT outcome, failures FROM job_alerting.run_digest();';
    my @results = ('accepted|1', 'research_jobs', 'accepted|1', 'silent|0', 'accepted|1');
    is $node->safe_psql($db, <<"SQL"), join("\n", @results), 'and works each time';
CREATE EXTENSION job_alerting;
$outcome
DROP EXTENSION job_alerting;
CREATE EXTENSION job_alerting;
SELECT job_alerting.watch('research_jobs');
$outcome
$outcome
BEGIN; DROP EXTENSION job_alerting; CREATE EXTENSION job_alerting; COMMIT;
$outcome
SQL
    is_deeply [ map { JobAlerting::named_jobs($_) } ($stub->requests)[ $count .. $count + 2 ] ], [ ($job) x 3 ],
      'each of the three ledgers began empty';
    $node->safe_psql($db, 'DROP EXTENSION job_alerting');
    is $node->safe_psql($db, q(SELECT count(*) FROM pg_namespace WHERE nspname = 'job_alerting')), 0, 'no object of the extension is left';
    is $node->safe_psql($db, 'SELECT count(*) FROM research_jobs'), 1, 'the jobs are unchanged';
};

subtest 'CREATE EXTENSION does not adopt an existing schema' => sub {
    my $db = create_database('planted');
    $node->safe_psql($db, 'CREATE ROLE planter; GRANT CREATE ON DATABASE planted TO planter');
    $node->safe_psql($db, 'SET ROLE planter; CREATE SCHEMA job_alerting; CREATE TABLE job_alerting.queue (name text)');
    for my $statement ('CREATE EXTENSION job_alerting', 'CREATE EXTENSION job_alerting SCHEMA job_alerting') {
        isnt $node->psql($db, $statement, stderr => \my $error), 0, "$statement fails";
        like $error, qr/ERROR:  schema "job_alerting" already exists/, 'and says why';
    }
    is $node->safe_psql($db, q(SELECT count(*) FROM pg_extension WHERE extname = 'job_alerting')), 0, 'no extension';
    is $node->safe_psql($db, q(SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'job_alerting')), 'planter',
      'the schema is unchanged';
    $node->safe_psql($db, 'GRANT planter TO CURRENT_USER; DROP SCHEMA job_alerting CASCADE');
    isnt $node->psql($db, 'SET ROLE planter; CREATE EXTENSION job_alerting', stderr => \my $error), 0,
      'an ordinary role that may create schemas cannot create the extension';
    like $error, qr/permission denied to create extension/, 'the error says so';
};

# The messages of CREATE EXTENSION, without psql's location.
sub messages_of_creation {
    my ($db) = @_;
    my $status = $node->psql($db, 'CREATE EXTENSION job_alerting', stderr => \my $messages);
    return ($status, $messages =~ s/^psql:<stdin>:\d+: //gmr);
}

my %databases = (
    no_table => [ 'SELECT 1', qr/\A\z/, '' ],
    one_table => [
        'CREATE SCHEMA s; CREATE TABLE s.research_jobs (LIKE public.model INCLUDING ALL)',
        qr/\AINFO:  job_alerting watches table s\.research_jobs\z/, 'research_jobs',
    ],
    beside_others => [
        'CREATE TABLE research_jobs (LIKE public.model INCLUDING ALL); CREATE TEMP TABLE research_jobs (id int);'
          . 'CREATE SCHEMA s; CREATE VIEW s.research_jobs AS SELECT 1 AS id; CREATE TABLE research_jobs_old (id int)',
        qr/\AINFO:  job_alerting watches table public\.research_jobs\z/, 'research_jobs',
    ],
    two_tables => [
        'CREATE TABLE research_jobs (LIKE public.model INCLUDING ALL);'
          . 'CREATE SCHEMA s; CREATE TABLE s.research_jobs (LIKE public.model)',
        qr/\AINFO:  job_alerting watches nothing yet: there are 2 tables named research_jobs\nHINT:  Call/, '',
    ],
    unfit => [
        'CREATE TABLE research_jobs (id int PRIMARY KEY, status text)',
        qr/\AINFO:  job_alerting does not watch table public\.research_jobs: .* is not shaped like .*\nHINT:  Call/, '',
    ],
    without_key => [
        'CREATE TABLE research_jobs (LIKE public.model)',
        qr/\AINFO:  job_alerting does not watch table public\.research_jobs: .*no primary key/, '',
    ],
    unreadable => [
        'CREATE TABLE research_jobs (LIKE public.model INCLUDING ALL); ALTER TABLE research_jobs OWNER TO app;'
          . 'REVOKE SELECT ON research_jobs FROM app',
        qr/\AINFO:  job_alerting does not watch table public\.research_jobs: permission denied/, '',
    ],
);

subtest 'CREATE EXTENSION watches a unique research_jobs, and never fails because of it' => sub {
    for my $db (sort keys %databases) {
        my ($tables, $message, $watched) = @{ $databases{$db} };
        create_database($db);
        JobAlerting::create_jobs_table($node, $db);
        $node->safe_psql($db, "ALTER TABLE research_jobs RENAME TO model; $tables");
        my ($status, $messages) = messages_of_creation($db);
        is $status, 0, "$db: created";
        like $messages, $message, "$db: the messages";
        is $node->safe_psql($db, 'SELECT name FROM job_alerting.queue'), $watched, "$db: the watched tables";
    }
};

subtest 'rounds by hand work without shared_preload_libraries' => sub {
    my $bare = JobAlerting::node('bare', stub => $stub, preload => 0);
    JobAlerting::create_jobs($bare);
    my @jobs = map { JobAlerting::fail_job($bare) } 1 .. 2;
    is_deeply [ JobAlerting::reported($bare, $stub) ], \@jobs, 'a mail';
    is_deeply [ JobAlerting::reported($bare, $stub) ], [], 'the next round is silent';
    is $bare->safe_psql('postgres', <<'SQL'), 0, 'no launcher';
SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'job_alerting%'
SQL
    $bare->stop;
};

$node->stop;
done_testing();
