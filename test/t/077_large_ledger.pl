# A large ledger and a large digest: each statement of a round is fast enough, whatever the statistics are.
# Optional parts never delay a mail for long.

use strict;
use warnings;

use FindBin;
use Test::More;
use Time::HiRes ();

use lib "$FindBin::Bin/../support";
use JobAlerting qw(sql);

my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub, conf => "autovacuum = off\nfsync = off\nmax_wal_size = 4GB");
JobAlerting::create_jobs($node);

# So many jobs that finally failed. `kind` is an SQL expression, which may use the row number `i`.
sub fail_jobs {
    my ($count, $kind) = @_;
    sql(<<"SQL");
INSERT INTO research_jobs (source, job_type, status, attempts, max_attempts, finished_at, last_error)
SELECT 'apple', $kind, 'dead', 3, 3, now(), 'boom' FROM generate_series(1, $count) i
SQL
    return;
}

# One round. Returns its outcome, its time in seconds, and the mail's text.
sub round {
    my $start = Time::HiRes::time();
    my ($row) = JobAlerting::run_digest($node);
    return ($row->{outcome}, Time::HiRes::time() - $start, JobAlerting::text_part(($stub->requests)[-1]) =~ s/\s+/ /gr);
}

my $note = qr/the search for earlier failures ran out of time/;

subtest 'a large digest over a large, analysed ledger is sent' => sub {
    fail_jobs(40_000, q('step'));
    is +(round())[0], 'accepted', 'many failures of one kind are reported';
    $stub->mode('401');
    fail_jobs(250_000, q('other ' || i % 7));
    is +(round())[0], 'pending', 'many failures of other kinds wait';
    sql('ANALYZE job_alerting.failure, job_alerting.digest');
    $stub->mode('202');
    my ($outcome, $seconds, $text) = round();
    is $outcome, 'accepted', 'the catch-up mail is sent';
    cmp_ok $seconds, '<', 40, 'in less than 40 s';
    unlike $text, $note, 'with its optional parts';
    like $text, qr/250000 jobs failed/, 'with all failures';
};

subtest 'a small digest over a large ledger has its optional parts' => sub {
    fail_jobs(1, q('step'));
    my ($outcome, $seconds, $text) = round();
    is $outcome, 'accepted', 'the mail is sent';
    like $text, qr/apple\/step: 1 job failed, AGAIN/, 'it says that the cause was reported before';
    fail_jobs(1, q('step'));
    $stub->mode('401');
    is +(round())[0], 'pending', 'a digest waits';
    $stub->mode('202');
};

subtest 'a mail is sent without optional parts that take too long' => sub {
    JobAlerting::configure($node, scan_timeout => '1ms');
    my ($outcome, $seconds, $text) = round();
    is $outcome, 'accepted', 'the mail is sent';
    like $text, $note, 'it says which part is missing';
    unlike $text, qr/failed, (?:NEW|AGAIN)/, 'no cause is marked as NEW or AGAIN';
};

$node->stop;
done_testing();
