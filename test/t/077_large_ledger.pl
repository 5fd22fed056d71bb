# A ledger that is large, and a digest that is: each statement of a round holds, whatever the
# statistics say. What only adorns a mail never keeps it back.

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

# So many jobs that finally failed, each of another kind where that is a column of `i`.
sub fail_jobs {
    my ($count, $kind) = @_;
    sql(<<"SQL");
INSERT INTO research_jobs (source, job_type, status, attempts, max_attempts, finished_at, last_error)
SELECT 'apple', $kind, 'dead', 3, 3, now(), 'boom' FROM generate_series(1, $count) i
SQL
    return;
}

# One round: its outcome, its seconds, and the mail's text.
sub round {
    my $start = Time::HiRes::time();
    my ($row) = JobAlerting::run_digest($node);
    return ($row->{outcome}, Time::HiRes::time() - $start, JobAlerting::text_part(($stub->requests)[-1]) =~ s/\s+/ /gr);
}

my $note = qr/looking for earlier failures took too long/;

subtest 'a large digest over a large ledger, which was analysed meanwhile, comes' => sub {
    fail_jobs(40_000, q('step'));
    is +(round())[0], 'accepted', 'many of one kind are told';
    $stub->mode('401');
    fail_jobs(250_000, q('other ' || i % 7));
    is +(round())[0], 'pending', 'many of other kinds wait';
    sql('ANALYZE job_alerting.failure, job_alerting.digest');
    $stub->mode('202');
    my ($outcome, $seconds, $text) = round();
    is $outcome, 'accepted', 'the catch-up mail comes';
    cmp_ok $seconds, '<', 40, 'soon';
    unlike $text, $note, 'with all that adorns it';
    like $text, qr/250000 jobs failed/, 'and with all its failures';
};

subtest 'a small digest over a large ledger says what is known' => sub {
    fail_jobs(1, q('step'));
    my ($outcome, $seconds, $text) = round();
    is $outcome, 'accepted', 'the mail comes';
    like $text, qr/apple\/step: 1 job failed, AGAIN/, 'and says that this was told before';
    fail_jobs(1, q('step'));
    $stub->mode('401');
    is +(round())[0], 'pending', 'one waits';
    $stub->mode('202');
};

subtest 'what only adorns a mail has a limit, past which the mail goes without' => sub {
    JobAlerting::configure($node, scan_timeout => '1ms');
    my ($outcome, $seconds, $text) = round();
    is $outcome, 'accepted', 'the mail comes';
    like $text, $note, 'and says what it lacks';
    unlike $text, qr/failed, (?:NEW|AGAIN)/, 'which is not guessed';
};

$node->stop;
done_testing();
