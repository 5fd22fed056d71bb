# An error in the round's own statements (a failed commit, a damaged or locked ledger) is reported as such. It
# is not taken for an error of the queue or for an endless scan. Once it is fixed, every failure is reported.

use strict;
use warnings;

use Cwd ();
use FindBin;
use Test::More;
use Time::HiRes ();

use lib "$FindBin::Bin/../support";
use JobAlerting qw(sql);

my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub, conf => 'job_alerting.lock_timeout = 1s');
JobAlerting::create_jobs($node);
my $started = sql('SELECT pg_postmaster_start_time()');

# A round by hand. Returns its error, empty after success.
sub error_of_round {
    my ($status, $out, $error) = $node->psql('postgres', 'SELECT * FROM job_alerting.run_digest()');
    return $error;
}

sub is_mailed {
    my ($job) = @_;
    return scalar grep { $_ eq $job } map { JobAlerting::named_jobs($_) } $stub->requests;
}

# Lets every write to a table fail when its transaction commits. The deep recursion and the long error reuse
# memory that the transaction has freed by then.
sub fail_commits_of {
    my ($table) = @_;
    sql(<<"SQL");
CREATE OR REPLACE FUNCTION public.recurse(depth int) RETURNS int LANGUAGE plpgsql AS
    \$\$ BEGIN RETURN CASE WHEN depth > 0 THEN public.recurse(depth - 1) END; END \$\$;
CREATE OR REPLACE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS \$\$
    BEGIN
        PERFORM public.recurse(200);
        RAISE 'refused at commit: %', repeat('x', 20000) USING DETAIL = repeat('d', 20000), HINT = 'Mend it.';
    END \$\$;
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE ON job_alerting.$table DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION public.refuse();
SQL
    return;
}

# Two rounds meet the error, and one comes after the statement that fixes it.
sub is_reported_as {
    my ($error, $fix) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $job = JobAlerting::fail_job($node);
    for my $round ('', ', in the next round too') {
        my @rows = eval { JobAlerting::run_digest($node) };
        like $@ || join(' ', map { $_->{detail} // '' } @rows), $error, "the round says so$round";
        my $reason = sql('SELECT reason FROM job_alerting.status');
        like $reason, $error, "the status says so$round";
        my @said = $reason =~ /$error/g;
        is scalar @said, 1, "the status says it once$round";
        unlike $reason, qr/never ended|cannot be read/, "the status does not blame a queue$round";
        is sql('SELECT count(*) FROM job_alerting.queue WHERE broken_since IS NOT NULL'), 0, "no queue is broken$round";
    }
    sql($fix);
    JobAlerting::run_digest($node);
    ok is_mailed($job), 'once it is fixed, the failure is reported';
    is sql(q(SELECT count(*) FROM job_alerting.failure WHERE status = 'unreadable')), 0, 'no queue was reported as broken';
    return;
}

for my $table (qw(digest failure queue installation)) {
    subtest "a commit that fails because of table $table" => sub {
        sql('DELETE FROM job_alerting.installation'); # the round writes this row only when something changed
        fail_commits_of($table);
        is_reported_as(qr/refused at commit: x/, "DROP TRIGGER refuse ON job_alerting.$table");
    };
}

subtest 'a ledger without its unique constraint' => sub {
    my ($name, $definition) = split /\|/, sql(<<'SQL');
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = 'job_alerting.failure'::regclass AND contype = 'u'
SQL
    sql("ALTER EXTENSION job_alerting DROP TABLE job_alerting.failure; ALTER TABLE job_alerting.failure DROP CONSTRAINT $name");
    is_reported_as(qr/no unique or exclusion constraint matching the ON CONFLICT/,
        "ALTER TABLE job_alerting.failure ADD CONSTRAINT $name $definition");
};

subtest 'a ledger that may not be written to' => sub {
    sql('CREATE FUNCTION public.full() RETURNS trigger LANGUAGE plpgsql AS '
          . q($$ BEGIN RAISE 'could not extend file' USING ERRCODE = 'disk_full', HINT = 'Check free disk space.'; END $$));
    sql('CREATE TRIGGER full_disk BEFORE INSERT ON job_alerting.failure FOR EACH ROW EXECUTE FUNCTION public.full()');
    is_reported_as(qr/could not extend file/, 'DROP TRIGGER full_disk ON job_alerting.failure');
};

subtest 'a ledger that may not be written to, and a detail that cannot be read' => sub {
    sql(<<'SQL');
CREATE TABLE public.odd AS SELECT 'a' AS id, now() AS failed_at, 0 AS n;
SELECT job_alerting.watch_query('odd', 'SELECT id AS job_id, failed_at, 1 / n AS max_attempts FROM public.odd');
SQL
    sql('CREATE TRIGGER full_disk BEFORE INSERT ON job_alerting.failure FOR EACH ROW EXECUTE FUNCTION public.full()');
    is_reported_as(qr/could not extend file/, 'DROP TRIGGER full_disk ON job_alerting.failure');
    is sql(q(SELECT count(*) FROM job_alerting.failure WHERE queue = 'odd')), 1, 'the failure of the odd queue is recorded';
    sql(q(SELECT job_alerting.unwatch('odd')));
};

subtest 'a ledger that is locked after a queue could not be read' => sub {
    sql(<<'SQL');
CREATE TABLE public.switch AS SELECT 1 AS n;
SELECT job_alerting.watch_query('broken', $$SELECT (1 / s.n)::text AS job_id, NULL::timestamptz AS failed_at
    FROM (SELECT n FROM public.switch, pg_sleep(1)) s$$);
SELECT job_alerting.watch('public.research_jobs'); -- is read after it
SQL
    sql('UPDATE public.switch SET n = 0');
    my $job = JobAlerting::fail_job($node);
    my $call = JobAlerting::begin_digest($node);
    my $in_scan = q(SELECT count(*) FROM job_alerting.queue WHERE name = 'broken' AND scan_started_at IS NOT NULL);
    JobAlerting::poll(sub { sql($in_scan) eq '1' }, 20, 'its scan');
    my $held = JobAlerting::hold($node, 'LOCK TABLE job_alerting.failure IN SHARE MODE');
    $call->finish;
    is sql(q(SELECT coalesce(last_error, 'none') FROM job_alerting.queue WHERE name = 'research_jobs')), 'none',
      'the other queue is not blamed';
    like sql('SELECT reason FROM job_alerting.status'), qr/failures cannot be recorded: .*lock timeout/, 'the status has the reason';
    JobAlerting::let_go($held);
    sql(q(SELECT job_alerting.unwatch('broken', true)));
    JobAlerting::run_until_silent($node);
    ok is_mailed($job), 'the failure is reported in the end';
};

subtest 'a locked ledger' => sub {
    sql(q(SELECT job_alerting.watch('public.research_jobs', 'other ' || n)) . ' FROM generate_series(1, 19) n');
    my $held = JobAlerting::hold($node, 'LOCK TABLE job_alerting.failure IN SHARE MODE');
    my $start = Time::HiRes::time();
    my ($row) = JobAlerting::run_digest($node);
    cmp_ok Time::HiRes::time() - $start, '<', 12, 'the round waits for it, but not once for each of 20 queues';
    like $row->{detail}, qr/lock timeout/, 'the round says so';
    JobAlerting::let_go($held);
    sql(q(SELECT job_alerting.unwatch('other ' || n, true) FROM generate_series(1, 19) n));
    JobAlerting::run_until_silent($node);
    is sql(q(SELECT count(*) FROM job_alerting.failure WHERE status = 'unreadable')), 0, 'no queue was reported as broken';
};

subtest 'a problem of several channels is reported once' => sub {
    my $webhook = Cwd::abs_path(PostgreSQL::Test::Utils::tempdir('webhook')) . '/secret';
    JobAlerting::put_secret($webhook, $stub->url . '/services/T0/B0/canary');
    JobAlerting::configure($node, channels => 'sendgrid,slack', slack_webhook_url_file => $webhook);
    JobAlerting::run_until_silent($node);
    JobAlerting::configure($node, ca_file => '/nonexistent/ca.pem');
    JobAlerting::run_digest($node);
    my $reason = sql('SELECT reason FROM job_alerting.status');
    my @said = $reason =~ /job_alerting\.ca_file/g;
    is scalar @said, 1, 'once' or diag $reason;
    like $reason, qr/^channel sendgrid, channel slack: /, 'with the names of the channels';
};

is sql('SELECT pg_postmaster_start_time()'), $started, 'the server never restarted';
unlike PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/terminated by signal|PANIC|TRAP:/,
  'no process of the server crashed';

$node->stop;
done_testing();
