# The whole server runs under valgrind, with rounds by hand and by the launcher whose requests have every
# outcome. No process may leak memory or access invalid memory.
#
# valgrind sees each allocation of C++, libcurl and OpenSSL. It does not see single allocations in the server's
# memory contexts, since Debian's server is built without support for it; the test of a thousand rounds
# measures those.

use strict;
use warnings;

use FindBin;
use IPC::Run ();
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting;

plan skip_all => 'valgrind is not installed' if !JobAlerting::Server::has_program('valgrind');

my $LAUNCHED = 4; # rounds of the launcher

my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub, conf => <<'CONF');
job_alerting.http_timeout = '60s'
autovacuum = off
# Logs the start of each worker.
log_min_messages = debug1
CONF
JobAlerting::create_jobs($node);
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE notes (id text);
    SELECT job_alerting.watch_query('notes', 'SELECT id AS job_id, NULL::timestamptz AS failed_at FROM public.notes');
SQL
$node->stop;

my $logs = PostgreSQL::Test::Utils::tempdir('valgrind');
my $server = start_under_valgrind();

# Starts the server as pg_ctl would, under valgrind. Stacks are so deep that they reach our code.
sub start_under_valgrind {
    my @valgrind = ('valgrind', '--trace-children=yes', '--leak-check=full', '--num-callers=60',
        '--show-leak-kinds=definite', '--errors-for-leak-kinds=definite',
        "--suppressions=$FindBin::Bin/../support/valgrind.supp", "--log-file=$logs/%p");
    my @postgres = ('postgres', '-D', $node->data_dir, '--cluster-name=main');
    my $mark = -s $node->logfile;
    my $harness = IPC::Run::start([ @valgrind, @postgres ], '<', \undef, '>>', $node->logfile, '2>&1');
    JobAlerting::poll(sub { logged($mark) =~ /ready to accept connections/ }, 60, 'the server');
    return $harness;
}

sub stop_server {
    $server->signal('INT');
    my $ended = $server->finish;
    undef $server;
    return $ended;
}

END {
    local $?;
    $server->kill_kill if $server;
}

sub logged {
    my ($mark) = @_;
    return PostgreSQL::Test::Utils::slurp_file($node->logfile, $mark);
}

# This needs no query, since a session takes seconds here.
sub rounds {
    my @started = logged(0) =~ /starting background worker process "job_alerting worker/g;
    return scalar @started;
}

sub wait_for_rounds {
    my ($more) = @_;
    my $wanted = rounds() + $more;
    JobAlerting::poll(sub { rounds() >= $wanted }, 120, "$more rounds");
    return;
}

subtest 'rounds by hand, of every outcome' => sub {
    $stub->modes('401', 'close-after-read', '202');
    my $round = 'SELECT outcome FROM job_alerting.run_digest()';
    my $call = JobAlerting::Call->start($node, 'postgres', $round, <<'SQL', ($round) x 3, 'DROP TABLE notes', ($round) x 2);
        INSERT INTO research_jobs (source, job_type, status, attempts, max_attempts, finished_at, last_error)
        SELECT 'apple', 'refresh_catalog', 'dead', 3, 3, now(), repeat(E'<b>caf\u00e9</b>\n', 50) FROM generate_series(1, 100)
SQL
    is_deeply [ split /\n/, $call->out ], [qw(silent pending in_doubt accepted accepted silent)],
      'nothing, refused, no answer, sent again, a queue that cannot be read, nothing'
      or diag $call->error;
    is $stub->count, 4, 'four requests';
};

subtest 'rounds of the launcher' => sub {
    $stub->modes('close-after-read', '202');
    $node->append_conf('postgresql.conf', "job_alerting.interval = '1s'");
    $server->signal('HUP');
    wait_for_rounds(1);
    JobAlerting::fail_job($node);
    $stub->wait_for(6, 60);
    wait_for_rounds($LAUNCHED);
    is $stub->count, 6, 'the digest was sent, and sent again after no answer';
};

subtest 'no process has leaked memory or accessed invalid memory' => sub {
    ok stop_server(), 'the server ends';
    my @logs = glob "$logs/*";
    # Seven processes of the server with the launcher, and a worker for each round.
    cmp_ok scalar @logs, '>=', 7 + rounds(), 'each process has a log';
    for my $log (map { PostgreSQL::Test::Utils::slurp_file($_) } @logs) {
        like $log, qr/ERROR SUMMARY: 0 errors/, 'no error';
    }
};

done_testing();
