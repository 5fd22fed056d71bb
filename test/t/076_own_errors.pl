# An error in the round's own statements, such as a commit that fails, is told as what it is; and once
# it is mended, everything is told.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting;

my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub, conf => 'job_alerting.lock_timeout = 1s');
JobAlerting::create_jobs($node);
my $started = sql('SELECT pg_postmaster_start_time()');

sub sql {
    my ($statement) = @_;
    return $node->safe_psql('postgres', $statement);
}

# A round by hand, and its error; empty when it came to its end.
sub error_of_round {
    my ($status, $out, $error) = $node->psql('postgres', 'SELECT * FROM job_alerting.run_digest()');
    return $error;
}

sub is_mailed {
    my ($job) = @_;
    return scalar grep { $_ eq $job } map { JobAlerting::named_jobs($_) } $stub->requests;
}

# Every write to a table fails when its transaction commits. The deep recursion and the long error use
# much of the memory that the transaction has freed by then.
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

for my $table (qw(digest failure queue home)) {
    subtest "a commit that fails, of the table $table" => sub {
        # Some tables are written only when there is something to write.
        sql('DELETE FROM job_alerting.home');
        my $job = JobAlerting::fail_job($node);
        fail_commits_of($table);
        my @rows = eval { JobAlerting::run_digest($node) };
        my $told = $@ || $rows[0]{detail};
        like $told, qr/refused at commit: xxx/, 'the round says so';
        like sql('SELECT reason FROM job_alerting.status'), qr/refused at commit: xxx/, 'and the status';
        sql("DROP TRIGGER refuse ON job_alerting.$table");
        JobAlerting::run_digest($node);
        ok is_mailed($job), 'and once it is mended, the failure is told';
        is sql('SELECT count(*) FROM job_alerting.queue WHERE broken_since IS NOT NULL'), 0, 'no queue was broken';
        is sql(q(SELECT count(*) FROM job_alerting.failure WHERE status = 'unreadable')), 0, 'nor said to be';
    };
}

is sql('SELECT pg_postmaster_start_time()'), $started, 'the server never restarted';
unlike PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/terminated by signal|PANIC|TRAP:/,
  'and no process of it was killed';

$node->stop;
done_testing();
