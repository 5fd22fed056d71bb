package JobAlerting;

# Shared by the TAP tests of job_alerting. In a test:
#
#   use FindBin;
#   use lib "$FindBin::Bin/../support";
#   use JobAlerting;
#
#   my $stub = JobAlerting::Stub->start;
#   my $node = JobAlerting::node('primary', stub => $stub);
#   JobAlerting::create_jobs($node);
#   my $job = JobAlerting::fail_job($node, last_error => 'timeout');
#   my ($row) = JobAlerting::run_digest($node);
#   is_deeply [ JobAlerting::named_jobs(($stub->requests)[-1]) ], [$job];
#
# The functions in @EXPORT_OK are exported on request. They take a cluster as their first argument too,
# and without one use the first that node() started:
#
#   use JobAlerting qw(fail_job sql);
#   is sql('SELECT count(*) FROM research_jobs'), 0;
#   is sql($standby, 'SELECT pg_is_in_recovery()'), 't';
#
# The default database is `postgres`.

use strict;
use warnings;

use Cwd ();
use Encode ();
use Exporter qw(import);
use File::Basename ();
use JSON::PP ();
use Scalar::Util ();
use Time::HiRes ();

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils ();

use JobAlerting::Call;
use JobAlerting::Clock;
use JobAlerting::Installation;
use JobAlerting::MailStub;
use JobAlerting::Server;
use JobAlerting::Stub;

our @EXPORT_OK = qw(always fail_job launcher log_from_now problems sql stall status unicode_sql
  wait_for_lock_wait wait_for_round wait_until_idle);

my $SUPPORT = Cwd::abs_path(File::Basename::dirname(__FILE__));

# The key that node() sets. Tests search for it in all places where it must not be.
our $KEY = 'SG.canary-key-AAAAAAAA.BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB';

# The cluster of the exported functions where none is named.
my $first;

# A started cluster with job_alerting preloaded, encoded in UTF-8. All options are optional:
#   stub => $stub     mails go there: channel sendgrid, endpoint, addresses, key file
#   mail => $stub     channel smtp, to that JobAlerting::MailStub; addresses as above
#   slack => $stub    channel slack, its webhook a path of that stub
#   webhook => $stub  channel webhook, likewise, without a signature
#   heartbeat => $stub   a path of that stub is the watchdog's
#   interval => '1h'  the default, so that no round comes by itself within a test
#   preload => 0      without shared_preload_libraries
#   install_path => $path   of another installation of the server
#   streaming => 1    a primary that standbys can follow
#   conf => "..."     more lines for postgresql.conf; they have the last word
sub node {
    my ($name, %options) = @_;
    my $node = PostgreSQL::Test::Cluster->new($name, install_path => $options{install_path});
    $node->init(allows_streaming => $options{streaming}, extra => [qw(--encoding=UTF8 --no-locale)]);
    $node->append_conf('postgresql.conf', join "\n", _server_settings(%options),
        _channel_settings(%options), $options{conf} // ());
    $node->start;
    $first //= $node;
    return $node;
}

# Restarts a cluster and waits for the launcher's first round in a watched database. Later failures are
# left to the test's own rounds.
sub restart {
    my ($node, $db) = @_;
    $node->restart;
    poll(sub {
        return $node->safe_psql($db // 'postgres',
            'SELECT bool_and(last_scan_at > pg_postmaster_start_time()) FROM job_alerting.queue') eq 't';
    }, 30, 'the round at the start');
    return;
}

# The table research_jobs as it is in use, and the extension, which finds the table by itself.
sub create_jobs {
    my ($node, $db) = @_;
    create_jobs_table($node, $db);
    $node->safe_psql($db // 'postgres', 'CREATE EXTENSION job_alerting');
    return;
}

sub create_jobs_table {
    my ($node, $db) = @_;
    my $table = PostgreSQL::Test::Utils::slurp_file("$SUPPORT/research_jobs.sql");
    $node->safe_psql($db // 'postgres', $table);
    return;
}

# The output of a statement.
sub sql {
    my $node = _cluster(\@_);
    my ($statement, $db) = @_;
    return $node->safe_psql($db // 'postgres', $statement);
}

# The same where statement and output are characters, not bytes.
sub unicode_sql {
    my $node = _cluster(\@_);
    my ($statement, $db) = @_;
    local $ENV{PGCLIENTENCODING} = 'UTF8';
    return Encode::decode_utf8(sql($node, Encode::encode_utf8($statement), $db));
}

# Inserts a job that finally failed and returns its id. %columns replaces the defaults; a value is
# a string, undef for NULL, or a reference to an SQL expression: finished_at => \"'infinity'".
# `db` names the database.
sub fail_job {
    my $node = _cluster(\@_);
    my (%columns) = @_;
    my $db = delete $columns{db};
    my %job = (
        source       => 'apple',
        job_type     => 'refresh_catalog',
        target_type  => 'album',
        target_id    => \'gen_random_uuid()',
        status       => 'dead',
        attempts     => 3,
        max_attempts => 3,
        finished_at  => \'now()',
        last_error   => 'boom',
        %columns,
    );
    my @names = sort keys %job;
    my $insert = sprintf 'INSERT INTO public.research_jobs (%s) VALUES (%s) RETURNING id',
      join(', ', @names), join(', ', map { _sql($job{$_}) } @names);
    return sql($node, $insert, $db);
}

# Inserts jobs that make a mail of more than 200 kB, and returns their ids: more than a stub that was started
# with `narrow` takes before it reads.
sub fail_large_jobs {
    my ($node) = @_;
    return split /\n/, $node->safe_psql('postgres', <<'SQL');
        INSERT INTO public.research_jobs (source, job_type, status, last_error, finished_at)
        SELECT 'youtube', 'search_song', 'dead', repeat(chr(1072 + i), 3000), now() FROM generate_series(1, 24) i
        RETURNING id
SQL
}

# One round now: a hash for each channel (channel, digest_id, failures, outcome, detail).
sub run_digest {
    my ($node, $db) = @_;
    return rows($node, $db, 'SELECT * FROM job_alerting.run_digest()');
}

# One round now: the jobs that its mail lists, sorted; none when the round was silent. Dies when the
# round sent more than one mail, or returned another outcome than the mail shows. Options: `db`, `queue`.
sub reported {
    my ($node, $stub, %options) = @_;
    my $before = $stub->count;
    my ($row, @others) = run_digest($node, $options{db});
    my @mails = ($stub->requests)[ $before .. $stub->count - 1 ];
    my $expected = @mails ? 'accepted' : 'silent';
    die "not one row of one channel\n" if !$row || @others;
    die scalar(@mails) . " mails in one round\n" if @mails > 1;
    die "outcome $row->{outcome}, and not $expected\n" if $row->{outcome} ne $expected;
    return sort map { named_jobs($_, $options{queue}) } @mails;
}

# Rounds until one has read every queue, has nothing to report, and leaves no digest waiting.
sub run_until_silent {
    my ($node) = @_;
    my $is_silent = sub { !grep { $_->{outcome} ne 'silent' || defined $_->{detail} } run_digest($node) };
    return poll($is_silent, 30, 'silence');
}

# One round in the background, as a JobAlerting::Call. Options: `db`; `before` and `after`,
# statements of the same session.
sub begin_digest {
    my ($node, %options) = @_;
    return JobAlerting::Call->start($node, $options{db}, @{ $options{before} // [] },
        _as_json('SELECT * FROM job_alerting.run_digest()'), @{ $options{after} // [] });
}

# A failed job and a round by hand whose request the stub holds; the stub answers later requests. The
# options are those of begin_digest(). Returns `before`, the number of requests until then, `job`, `call`
# and `worker`.
sub stall {
    my $node = _cluster(\@_);
    my ($stub, %options) = @_;
    $stub->modes('stall', '202');
    my %stalled = (before => $stub->count, job => fail_job($node, db => $options{db}));
    $stalled{call} = begin_digest($node, %options);
    $stub->wait_for($stalled{before} + 1);
    $stalled{worker} = worker($node);
    return \%stalled;
}

# The rows of a query as hashes. By way of JSON, so that any text comes through.
sub rows {
    my ($node, $db, $query) = @_;
    local $ENV{PGCLIENTENCODING} = 'UTF8';
    my $json = $node->safe_psql($db // 'postgres', _as_json($query));
    return @{ JSON::PP->new->utf8->decode($json) };
}

# A digest, as its row has it.
sub digest {
    my ($node, $id) = @_;
    my ($digest) = rows($node, undef, "SELECT * FROM job_alerting.digest WHERE id = $id");
    return $digest;
}

# The row of the view `status`.
sub status {
    my $node = _cluster(\@_);
    my ($db) = @_;
    my ($status) = rows($node, $db, 'SELECT * FROM job_alerting.status');
    return $status;
}

# Settings of the server, in force when it returns.
sub configure {
    my ($node, %settings) = @_;
    # A new session inherits the settings from the postmaster, which reads its files at some later moment.
    my $loaded = sub { $node->safe_psql('postgres', 'SELECT pg_conf_load_time()') };
    my $before = $loaded->();
    $node->safe_psql('postgres', "ALTER SYSTEM SET job_alerting.$_ = " . _sql($settings{$_}))
      for sort keys %settings;
    $node->reload;
    poll(sub { $loaded->() ne $before }, 30, 'the new settings');
    return;
}

# Stores a setting with a database, even a value that ALTER DATABASE refuses: a dump or a session without
# the library can leave such a value. Default database: `postgres`.
sub store_setting {
    my ($node, $name, $value, $db) = @_;
    $db //= 'postgres';
    local $ENV{PGCLIENTENCODING} = 'UTF8';
    my $entry = "job_alerting.$name=";
    # Each statement has its own session: a session with a bad value could not store it again.
    $node->safe_psql('postgres', "ALTER DATABASE $db RESET job_alerting.$name");
    $node->safe_psql('postgres', "ALTER DATABASE $db SET job_alerting.$name FROM CURRENT");
    $node->safe_psql('postgres', 'UPDATE pg_db_role_setting SET setconfig = ARRAY('
          . "SELECT CASE WHEN starts_with(s, '$entry') THEN " . _sql("$entry$value") . ' ELSE s END FROM unnest(setconfig) s'
          . ") WHERE setrole = 0 AND setdatabase = (SELECT oid FROM pg_database WHERE datname = '$db')");
    return;
}

# Replaces the file of a key or of a webhook's address.
sub put_secret {
    my ($path, $content, $permissions) = @_;
    -d $path ? rmdir $path : unlink $path;
    open my $file, '>:raw', $path or die "cannot write $path: $!";
    print {$file} $content;
    close $file or die "cannot write $path: $!";
    chmod $permissions // 0600, $path or die "cannot protect $path: $!";
    return;
}

# The process id of the worker of the round in progress; undef when there is none.
sub worker {
    my ($node) = @_;
    my ($worker) = rows($node, undef, <<'SQL');
        SELECT pid FROM pg_stat_activity WHERE backend_type = 'job_alerting worker' ORDER BY backend_start
SQL
    return $worker && $worker->{pid};
}

# The process id of the launcher; empty when there is none.
sub launcher {
    my $node = _cluster(\@_);
    return sql($node, q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'job_alerting launcher'));
}

# Waits until no round is under way.
sub wait_until_idle {
    my $node = _cluster(\@_);
    return poll(sub { !worker($node) }, 20, 'the rounds to end');
}

# Waits until a round, begun by the launcher, has read a queue of the database.
sub wait_for_round {
    my $node = _cluster(\@_);
    my ($db) = @_;
    my $now = sql($node, 'SELECT clock_timestamp()');
    my $round = "SELECT max(last_scan_at) > '$now' FROM job_alerting.queue";
    return poll(sub { sql($node, $round, $db) eq 't' }, 30, 'a round in ' . ($db // 'postgres'));
}

# Waits until a worker, or the session whose statement begins like this, waits for a lock. Returns its
# process id.
sub wait_for_lock_wait {
    my $node = _cluster(\@_);
    my ($statement) = @_;
    my $whose = $statement ? "query LIKE '$statement%'" : q(backend_type = 'job_alerting worker');
    my $waits = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND $whose";
    return poll(sub { sql($node, $waits) }, 20, ($statement // 'a worker') . ' to wait for a lock');
}

# Returns a function that returns what the server has logged since.
sub log_from_now {
    my $node = _cluster(\@_);
    my $begin = -s $node->logfile;
    return sub { return PostgreSQL::Test::Utils::slurp_file($node->logfile, $begin) };
}

# The lines of a log that report a problem.
sub problems {
    my ($log) = @_;
    return grep { /\b(?:WARNING|ERROR|FATAL|PANIC): / } split /\n/, $log;
}

# The ids of the jobs that a received mail lists, in its order, each as often as it is listed. The
# text part begins each with `job 17 in research_jobs`, and breaks long lines between words.
sub named_jobs {
    my ($request, $queue) = @_;
    my $name = join '\s+', map { quotemeta } split / /, $queue // 'research_jobs';
    my @jobs = text_part($request) =~ /^    (job .+?)(?=\n\n|\n    \||\z)/gms;
    return map { /\Ajob (.+?)\s+in\s+$name(?=,|$)/ms ? $1 =~ s{\s+}{ }gr : () } @jobs;
}

sub text_part {
    my ($request) = @_;
    my ($text) = grep { $_->{type} eq 'text/plain' } @{ $request->{json}{content} };
    return $text->{value};
}

# A session that keeps the locks of these statements in an open transaction until let_go(). Options: `db`;
# `name` of the session, needed where there are several at a time.
sub hold {
    my ($node, $statements, %options) = @_;
    my $name = $options{name} // 'holder';
    my $call = JobAlerting::Call->start($node, $options{db}, "SET application_name = '$name'",
        'BEGIN', $statements, 'SELECT pg_sleep(600)');
    my $holds = "SELECT count(*) FROM pg_stat_activity
        WHERE application_name = '$name' AND query = 'SELECT pg_sleep(600)' AND state = 'active'";
    poll(sub { $node->safe_psql('postgres', $holds) eq '1' }, 10, 'the lock');
    return { call => $call, node => $node, name => $name };
}

# Ends such a session, which may already have ended with its server.
sub let_go {
    my ($held) = @_;
    $held->{node}->safe_psql('postgres',
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '$held->{name}'");
    $held->{call}->finish;
    return;
}

# Waits until the server accepts connections after a crash. psql() will not do: it writes its statement
# into a pipe, and dies when the refused psql has already closed it.
sub wait_for_server {
    my ($node) = @_;
    return poll(sub { JobAlerting::Call->start($node, 'postgres', 'SELECT 1')->out ne '' }, 60, 'the server');
}

# Waits for the end of processes that are not children of the test. A zombie has ended.
sub wait_for_end {
    my (@pids) = @_;
    my $lives = sub {
        open my $stat, '<', "/proc/$_[0]/stat" or return 0;
        return (readline($stat) // '') =~ /\) [^ZX] /;
    };
    return poll(sub { !grep { $lives->($_) } @pids }, 10, 'their end');
}

# Starts a cluster whose postmaster was killed. Its processes may still be ending, and its data directory
# counts as in use until the postmaster's process is gone.
sub start_again {
    my ($node) = @_;
    my ($pid) = PostgreSQL::Test::Utils::slurp_file($node->data_dir . '/postmaster.pid') =~ /\A(\d+)/;
    poll(sub { !kill 0, $pid }, 20, 'the end of the postmaster');
    return poll(sub { $node->start(fail_ok => 1) }, 20, 'the start');
}

# Waits until the condition holds, and returns its value. Dies after that time, naming the purpose.
sub poll {
    my ($condition, $seconds, $what) = @_;
    my $deadline = Time::HiRes::time() + $seconds;
    while (1) {
        my $result = $condition->();
        return $result if $result;
        die "waited $seconds s in vain for $what\n" if Time::HiRes::time() > $deadline;
        Time::HiRes::usleep(50_000);
    }
}

# True when the condition holds all the time.
sub always {
    my ($condition, $seconds) = @_;
    return !eval { poll(sub { !$condition->() }, $seconds, 'the condition to fail') };
}

# ---------------------------------------------------------------- inside

# Takes the cluster from the arguments.
sub _cluster {
    my ($arguments) = @_;
    my $given = Scalar::Util::blessed($arguments->[0]) && $arguments->[0]->isa('PostgreSQL::Test::Cluster');
    return $given ? shift @$arguments : $first;
}

sub _server_settings {
    my (%options) = @_;
    return (
        # Cluster->init switches this off, and a crash test would wait for a server that stays down.
        'restart_after_crash = on',
        q(log_line_prefix = '%m [%p] [%b] %q[%d] %a '),
        $options{preload} // 1 ? "shared_preload_libraries = 'job_alerting'" : (),
        _setting(interval => $options{interval} // '1h'),
    );
}

sub _channel_settings {
    my (%options) = @_;
    my @settings = (
        $options{stub}  ? _sendgrid_settings($options{stub}) : (),
        $options{mail}  ? _smtp_settings($options{mail})     : (),
        $options{slack} ? _slack_settings($options{slack})   : (),
        $options{webhook} ? _webhook_settings($options{webhook}) : (),
        $options{heartbeat} ? _heartbeat_settings($options{heartbeat}) : (),
    );
    my %channel = (stub => 'sendgrid', mail => 'smtp', slack => 'slack', webhook => 'webhook');
    my @channels = map { $options{$_} ? $channel{$_} : () } qw(stub mail slack webhook);
    return (@channels ? _setting(channels => join ',', @channels) : (), @settings);
}

sub _sendgrid_settings {
    my ($stub) = @_;
    return (
        _setting(sendgrid_url => $stub->url),
        _address_settings(),
        _setting(sendgrid_api_key_file => _secret_file($KEY)),
    );
}

sub _smtp_settings {
    my ($stub) = @_;
    return (_setting(smtp_url => $stub->url), _address_settings());
}

sub _address_settings {
    return (
        _setting(mail_from => 'Job alerts <alerts@example.com>'),
        _setting(mail_to   => 'ops@example.com'),
    );
}

sub _slack_settings {
    my ($stub) = @_;
    return _setting(slack_webhook_url_file => _secret_file($stub->url . '/services/T0/B0/canary'));
}

sub _webhook_settings {
    my ($stub) = @_;
    return _setting(webhook_url_file => _secret_file($stub->url . '/hooks/jobs/canary'));
}

sub _heartbeat_settings {
    my ($stub) = @_;
    return _setting(heartbeat_url_file => _secret_file($stub->url . '/ping/canary-of-the-watchdog?status=up'));
}

sub _setting {
    my ($name, $value) = @_;
    my $quoted = $value =~ s/(['\\])/$1$1/gr;
    return "job_alerting.$name = '$quoted'";
}

# The file is outside the data directory, so that neither a backup nor a standby has a copy.
sub _secret_file {
    my ($secret) = @_;
    my $path = PostgreSQL::Test::Utils::tempdir('secret') . '/secret';
    put_secret($path, "$secret\n");
    return Cwd::abs_path($path);
}

sub _as_json {
    my ($query) = @_;
    return "SELECT coalesce(json_agg(r), '[]') FROM ($query) r";
}

sub _sql {
    my ($value) = @_;
    return 'NULL' if !defined $value;
    return $$value if ref $value;
    my $quoted = $value =~ s/'/''/gr;
    return "'$quoted'";
}

1;
