# A crash of the worker or the server, or an administrator, ends a round while the receiver holds its
# request. The mail may have arrived, so it is sent again byte for byte. Nothing is lost, and no lock is
# held meanwhile.

use strict;
use warnings;

use FindBin;
use Test::More;
use Time::HiRes ();

use lib "$FindBin::Bin/../support";
use JobAlerting qw(log_from_now sql stall wait_for_lock_wait);

my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub, conf => <<'CONF');
job_alerting.http_timeout = '60s'
max_prepared_transactions = 1
CONF
JobAlerting::create_jobs($node);

sub is_sent_again {
    my ($stalled) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @requests = ($stub->wait_for($stalled->{before} + 2))[ $stalled->{before}, $stalled->{before} + 1 ];
    is $requests[1]{body}, $requests[0]{body}, 'the same bytes come again';
    like $requests[0]{json}{headers}{'Message-ID'}, qr/\A<.+>\z/, 'they have a Message-ID';
    is_deeply [ JobAlerting::named_jobs($requests[1]) ], [ $stalled->{job} ], 'the mail lists the failure';
    my $accepted = sub { sql("SELECT count(*) FROM job_alerting.digest WHERE state <> 'accepted'") eq '0' };
    ok JobAlerting::poll($accepted, 30, 'the digest to be accepted'), 'accepted';
    my ($row) = JobAlerting::run_digest($node);
    is $row->{outcome}, 'silent', 'the next round is silent';
    is $stub->count, $stalled->{before} + 2, 'two requests in all';
    return;
}

subtest 'during a request the worker holds no lock, snapshot or transaction' => sub {
    my $stalled = stall($stub);
    my ($activity) = JobAlerting::rows($node, undef, <<"SQL");
        SELECT backend_xid, backend_xmin, xact_start, query, datname
        FROM pg_stat_activity WHERE pid = $stalled->{worker}
SQL
    is $activity->{datname}, 'postgres', 'the worker is connected';
    is $activity->{$_}, undef, "no $_" for qw(backend_xid backend_xmin xact_start);
    my @locks = JobAlerting::rows($node, undef, <<"SQL");
        SELECT locktype, relation::regclass::text, mode FROM pg_locks WHERE pid = $stalled->{worker}
SQL
    is_deeply [ map { $_->{locktype} } @locks ], ['advisory'], "only the round's lock is held" or diag explain \@locks;

    sql('VACUUM research_jobs');
    sql('BEGIN; LOCK TABLE research_jobs, job_alerting.queue, job_alerting.failure, job_alerting.digest'
          . ' IN ACCESS EXCLUSIVE MODE NOWAIT; COMMIT');
    sql('ALTER TABLE research_jobs ADD COLUMN note text');
    is sql("SELECT state FROM job_alerting.digest WHERE id = (SELECT max(id) FROM job_alerting.digest)"), 'sending',
      'the committed state';
    ok $stalled->{call}->running, 'the round is still in progress';

    $stub->release;
    my ($row) = $stalled->{call}->rows;
    is $row->{outcome}, 'accepted', 'the digest is accepted in the end';
    is $stub->count, $stalled->{before} + 1, 'one request';
};

subtest 'SIGTERM ends the worker at once, and loses nothing' => sub {
    my $stalled = stall($stub);
    my $start = Time::HiRes::time();
    sql("SELECT pg_terminate_backend($stalled->{worker})");
    like $stalled->{call}->error, qr/ERROR:  57000: the round was terminated before it finished/, 'the caller gets an error';
    cmp_ok Time::HiRes::time() - $start, '<', 6, 'within 6 s';
    is JobAlerting::worker($node), undef, 'the worker is gone';
    JobAlerting::run_digest($node);
    is_sent_again($stalled);
};

subtest 'cancelling the worker ends the round, and loses nothing' => sub {
    my $stalled = stall($stub);
    my $start = Time::HiRes::time();
    sql("SELECT pg_cancel_backend($stalled->{worker})");
    like $stalled->{call}->error, qr/ERROR:  57014: /, 'the caller gets an error';
    cmp_ok Time::HiRes::time() - $start, '<', 6, 'within 6 s';
    JobAlerting::run_digest($node);
    is_sent_again($stalled);
};

subtest 'a fast shutdown does not wait for the receiver' => sub {
    my $stalled = stall($stub);
    my $start = Time::HiRes::time();
    $node->stop('fast');
    cmp_ok Time::HiRes::time() - $start, '<', 20, 'the server stops long before http_timeout';
    $stalled->{call}->finish;
    $node->start;
    is_sent_again($stalled);
};

# The lock of a prepared transaction survives every session.
subtest 'a prepared transaction that locks the digests blocks neither a shutdown nor settle()' => sub {
    my $stalled = stall($stub);
    sql(q(BEGIN; LOCK TABLE job_alerting.digest IN EXCLUSIVE MODE; PREPARE TRANSACTION 'digests'));
    my $logged = log_from_now();
    $stub->release;
    wait_for_lock_wait();
    my $operator = JobAlerting::Call->start($node, undef, q(SET statement_timeout = '1s'), 'SELECT job_alerting.settle(1, true)');
    like $operator->error, qr/57014.*statement timeout/, "settle() obeys the operator's statement_timeout";

    sql("SELECT pg_terminate_backend($stalled->{worker})");
    JobAlerting::wait_for_end($stalled->{worker});
    like $logged->(),
      qr/WARNING: .*terminated before it could store the answer to digest \d+\n.*DETAIL: +The digest is in doubt/, 'the worker ends with a warning that the digest is in doubt';
    sql(q(ROLLBACK PREPARED 'digests'));
    $stalled->{call}->finish;
    JobAlerting::run_digest($node);
    is_sent_again($stalled);

    $stalled = stall($stub);
    sql(q(BEGIN; LOCK TABLE job_alerting.digest IN EXCLUSIVE MODE; PREPARE TRANSACTION 'digests'));
    $stub->release;
    wait_for_lock_wait();
    my $start = Time::HiRes::time();
    $node->stop('fast');
    cmp_ok Time::HiRes::time() - $start, '<', 20, 'a fast shutdown';
    $stalled->{call}->finish;
    $node->start;
    sql(q(ROLLBACK PREPARED 'digests'));
    JobAlerting::run_digest($node);
    is_sent_again($stalled);
};

subtest 'kill -9 of the worker: the server recovers and the failure is delivered' => sub {
    my $stalled = stall($stub);
    kill KILL => $stalled->{worker};
    $stalled->{call}->finish;
    JobAlerting::wait_for_server($node);
    is_sent_again($stalled);
};

subtest 'an immediate stop of the server: the failure is delivered after the start' => sub {
    my $stalled = stall($stub);
    $node->stop('immediate');
    $stalled->{call}->finish;
    $node->start;
    is_sent_again($stalled);
};

subtest 'failures after a crash come in a digest of their own' => sub {
    my $stalled = stall($stub);
    my $later = JobAlerting::fail_job($node);
    kill KILL => $stalled->{worker};
    $stalled->{call}->finish;
    JobAlerting::wait_for_server($node);
    my @requests = ($stub->wait_for($stalled->{before} + 3))[ map { $stalled->{before} + $_ } 0 .. 2 ];
    is $requests[1]{body}, $requests[0]{body}, 'the old digest first, byte for byte';
    is_deeply [ JobAlerting::named_jobs($requests[2]) ], [$later], 'then one with the new failure';
};

subtest 'on_in_doubt = hold: after a crash nothing is sent again' => sub {
    JobAlerting::configure($node, on_in_doubt => 'hold');
    my $stalled = stall($stub);
    kill KILL => $stalled->{worker};
    $stalled->{call}->finish;
    JobAlerting::wait_for_server($node);
    my ($row) = JobAlerting::run_digest($node);
    is $row->{outcome}, 'in_doubt', 'the round returns in_doubt';
    is $stub->count, $stalled->{before} + 1, 'it sends nothing';
    JobAlerting::configure($node, on_in_doubt => 'resend');
    JobAlerting::run_digest($node);
    is_sent_again($stalled);
};

$node->stop;
done_testing();
