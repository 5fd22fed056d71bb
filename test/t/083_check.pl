# check() finds problems that would keep failures from being reported, gives the remedy, and reports nothing
# else.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting qw(sql);

my $stub = JobAlerting::Stub->start;
my $node = do {
    local $ENV{SLACK_WEBHOOK_URL} = $stub->url . '/services/T0/B0/canary';
    JobAlerting::node('main', stub => $stub, conf => "job_alerting.channels = 'sendgrid,slack'");
};
JobAlerting::create_jobs($node);
my $key_file = sql('SHOW job_alerting.sendgrid_api_key_file');
sql('CREATE ROLE owner');

# The findings by their items.
sub findings {
    my ($cluster) = @_;
    my @rows = JobAlerting::rows($cluster // $node, undef, 'SELECT * FROM job_alerting.check()');
    my %findings = map { $_->{item} => $_ } @rows;
    die "an item comes twice\n" if keys %findings != @rows;
    return \%findings;
}

sub bad {
    my ($findings) = @_;
    return [ sort map { "$_->{item}: $_->{state}" } grep { $_->{state} ne 'ok' } values %$findings ];
}

# Only this problem is found, with this detail and this hint.
sub finds {
    my ($item, $state, $detail, $hint, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $findings = findings();
    is_deeply bad($findings), ["$item: $state"], "$name: found, and nothing else";
    like $findings->{$item}{detail}, $detail, "$name: the detail";
    like $findings->{$item}{hint}, $hint, "$name: the hint";
    return $findings->{$item};
}

sub is_well {
    my ($name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is_deeply bad(findings()), [], $name;
}

subtest 'a healthy server has no finding' => sub {
    my $findings = findings();
    is_deeply bad($findings), [], 'nothing is found' or diag explain $findings;
    my $queue = 'queue research_jobs';
    is_deeply [ sort keys %$findings ],
      [ sort 'preload', 'launcher', 'worker slot', 'version', 'channels', 'channel sendgrid', 'channel slack', 'key of sendgrid',
        'key of slack', 'settings', 'job_url', 'heartbeat', 'queues', $queue, map { "$_ of $queue" } 'columns', 'statuses', 'sources', 'identity', 'deletion', 'plan',
        'row-level security', 'owner', 'time', 'time zone' ], 'all items are checked';
    is_deeply [ grep { defined $_->{hint} } values %$findings ], [], 'no item has a hint';
    is $stub->count, 0, 'nothing is sent';
    is sql('SELECT count(*) FROM job_alerting.failure'), 0, 'nothing is recorded';
};

subtest 'channels that cannot deliver' => sub {
    JobAlerting::store_setting($node, mail_from => 'nobody');
    finds('channel sendgrid', 'error', qr/mail_from is malformed/, qr/send_test/, 'a sender');
    sql('ALTER DATABASE postgres RESET job_alerting.mail_from');
    sql(q(ALTER DATABASE postgres SET job_alerting.mail_to = ''));
    finds('channel sendgrid', 'error', qr/mail_to is not set/, qr/send_test/, 'no recipient');
    sql('ALTER DATABASE postgres RESET job_alerting.mail_to');
    chmod 0644, $key_file;
    finds('channel sendgrid', 'error', qr/is open to others.*0600/, qr/send_test/, 'an open key');
    rename $key_file, "$key_file.away";
    finds('channel sendgrid', 'error', qr/cannot be opened: No such file/, qr/send_test/, 'a missing key');
    rename "$key_file.away", $key_file;
    chmod 0600, $key_file;
    sql(q(ALTER DATABASE postgres SET job_alerting.channels = 'log,sendgrid,slack'));
    sql('ALTER DATABASE postgres SET log_min_messages = fatal');
    my $finding = finds('channel log', 'error', qr/log_min_messages/, qr/SET log_min_messages = 'warning'/, 'a log that is kept quiet');
    sql($finding->{hint});
    is_well("the hint's statement fixes it, also where a database has its own setting");
    sql('ALTER DATABASE postgres RESET log_min_messages');
    sql('ALTER DATABASE postgres RESET job_alerting.channels');
    is_well('fixed');
};

# Only a try can find these problems, and the next try updates them.
subtest 'answers of a provider' => sub {
    sql(q(ALTER DATABASE postgres SET job_alerting.channels = 'sendgrid'));
    my @others = ('key of slack: warning');
    my $told = sub {
        my ($mode, $state, $detail, $hint) = @_;
        local $Test::Builder::Level = $Test::Builder::Level + 1;
        $stub->mode($mode);
        JobAlerting::run_digest($node);
        my $findings = findings();
        is_deeply bad($findings), [ "channel sendgrid: $state", @others ], "$mode: found, and nothing else";
        like $findings->{'channel sendgrid'}{detail}, $detail, "$mode: the detail";
        like $findings->{'channel sendgrid'}{hint}, $hint, "$mode: the hint";
    };
    JobAlerting::fail_job($node);
    $told->('401', 'error', qr/digest \d+ could not be delivered: HTTP 401: .*check the API key/, qr/run_digest/);
    $told->('403', 'error', qr/HTTP 403: .*mail_from/, qr/run_digest/);
    $told->('200', 'error', qr/HTTP 200: .*sendgrid_url/, qr/run_digest/);
    $told->('302', 'error', qr/HTTP 302: .*sendgrid_url/, qr/run_digest/);
    $told->('503', 'warning', qr/digest \d+ is in doubt: HTTP 503/, qr/settle\(\d+, true\).*sent again automatically/);
    sql(q(ALTER DATABASE postgres SET job_alerting.on_in_doubt = 'hold'));
    JobAlerting::run_digest($node);
    like findings()->{'channel sendgrid'}{hint}, qr/settle\(\d+, false\)/, 'the hint asks for settle() when the digest is held';
    sql('ALTER DATABASE postgres RESET job_alerting.on_in_doubt');
    $stub->mode('202');
    JobAlerting::run_digest($node);
    is_deeply bad(findings()), \@others, 'accepted: nothing is found';

    JobAlerting::fail_job($node);
    $told->('429 retry-after=2', 'warning', qr/HTTP 429/, qr/retried automatically/);
    $stub->mode('202');
    sql("UPDATE job_alerting.digest SET next_attempt_at = now() WHERE state <> 'accepted'");
    JobAlerting::run_until_silent($node);
    sql("UPDATE research_jobs SET status = 'queued', finished_at = NULL");
    sql('ALTER DATABASE postgres RESET job_alerting.channels');
    JobAlerting::run_until_silent($node);
    is_well('no finding after acceptance');
};

subtest 'keys without their channel, and no channel at all' => sub {
    sql(q(ALTER DATABASE postgres SET job_alerting.channels = 'sendgrid'));
    my $finding = finds('key of slack', 'warning', qr/environment has SLACK_WEBHOOK_URL/, qr/channels = 'slack,sendgrid'/, 'a key in the environment');
    sql($finding->{hint});
    is_well("the hint's statement fixes it");
    sql(q(ALTER DATABASE postgres SET job_alerting.channels = 'slack'));
    finds('key of sendgrid', 'warning', qr/a file is named/, qr/channels = 'sendgrid,slack'/, 'a key in a file');
    sql(q(ALTER DATABASE postgres SET job_alerting.channels = ''));
    is_deeply bad(findings()), [ 'channels: error', 'key of sendgrid: warning', 'key of slack: warning' ], 'no channel at all';
    sql('ALTER DATABASE postgres RESET job_alerting.channels');
    is_deeply bad(findings()), [], 'fixed';
};

# Watches a query over a new table. The role `owner` owns both, unless another owner of the query is given.
sub watch {
    my ($columns, $query, $owner) = @_;
    sql("CREATE TABLE other (id text, $columns)");
    sql('ALTER TABLE other OWNER TO owner');
    sql("SELECT job_alerting.watch_query('other', \$q\$ $query \$q\$, owner => " . ($owner // q('owner')) . ')');
    return;
}

sub unwatch {
    sql(q(SELECT job_alerting.unwatch('other')));
    sql('DROP TABLE other');
    is_well('no finding without the queue');
    return;
}

subtest 'a queue that cannot be read' => sub {
    watch('failed_at timestamptz', 'SELECT id AS job_id, failed_at FROM public.other');
    is_well('a queue that can be read');
    sql('ALTER TABLE other RENAME failed_at TO died_at');
    finds('queue other', 'error', qr/column "failed_at" does not exist/, qr/unwatch\('other'\)/, 'renamed');
    unwatch();
};

# check() takes the table from what watch() stored, never from the query.
subtest 'a query that resembles those of watch()' => sub {
    watch('failed_at timestamptz', "SELECT j.id::text AS job_id, j.failed_at\n  FROM public.other j\n WHERE j.failed_at > '-infinity'");
    my $findings = findings();
    is_deeply bad($findings), [], 'no finding';
    like $findings->{"$_ of queue other"}{detail}, qr/watch\(\)|the failure query decides/, "$_: check() does not know the table" for qw(deletion statuses);
    unwatch();
};

subtest 'a queue whose query cannot be stopped hides no other finding' => sub {
    sql(<<'SQL');
CREATE FUNCTION hang() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    LOOP
        BEGIN
            PERFORM pg_sleep(100);
        EXCEPTION WHEN query_canceled THEN NULL;
        END;
    END LOOP;
END $$
SQL
    watch('failed_at timestamptz', 'SELECT public.hang() AS job_id, failed_at FROM public.other', 'current_user');
    sql(q(INSERT INTO other VALUES ('1', now())));
    sql('ALTER TABLE other OWNER TO current_user; ALTER TABLE research_jobs RENAME finished_at TO ended_at');
    JobAlerting::configure($node, scan_timeout => '1s');
    my $findings = findings();
    is_deeply bad($findings), [ 'queue research_jobs: error', 'the rest: error' ], 'the findings until then are reported';
    like $findings->{'the rest'}{hint}, qr/scan_timeout/, 'the hint says why there are no more';
    JobAlerting::configure($node, scan_timeout => '5min');
    sql('ALTER TABLE research_jobs RENAME ended_at TO finished_at');
    unwatch();
    sql('DROP FUNCTION hang()');
};

subtest 'failures whose identity changes with each run' => sub {
    watch('failed_at timestamptz', 'SELECT id AS job_id, now() AS failed_at FROM public.other');
    is_well('an empty table has no finding');
    sql(q(INSERT INTO other VALUES ('1'), ('2')));
    finds('identity of queue other', 'error', qr/2 of its failures another identity/, qr/not on now\(\)/, 'now()');
    unwatch();
    watch('failed_at timestamptz', 'SELECT id AS job_id, failed_at, failed_at::date::text AS occurrence FROM public.other');
    sql(q(INSERT INTO other VALUES ('1', now()), ('2', NULL)));
    is_well('an occurrence per day, and a NULL one, are stable');
    unwatch();
    watch('failed_at timestamptz', 'SELECT id AS job_id, failed_at FROM public.other UNION ALL SELECT now()::text, now()');
    sql(q(INSERT INTO other VALUES ('1', now())));
    is_well('jobs that fail between the runs are new, and have a stable identity');
    unwatch();
    watch('failed_at timestamptz', 'SELECT gen_random_uuid()::text AS job_id, failed_at FROM public.other');
    sql(q(INSERT INTO other VALUES ('1', now()), ('2', now())));
    finds('identity of queue other', 'error', qr/2 of its failures another identity/, qr/not on now\(\)/, 'a random job_id');
    unwatch();
};

subtest 'rows that row-level security hides from the owner' => sub {
    watch('failed_at timestamptz', 'SELECT o.id AS job_id, o.failed_at FROM public.other o JOIN public.other p ON o.id = p.id');
    sql('ALTER TABLE other ENABLE ROW LEVEL SECURITY');
    is_well('row-level security does not apply to the owner');
    sql('ALTER TABLE other FORCE ROW LEVEL SECURITY');
    finds('row-level security of queue other', 'warning', qr/from role owner in public\.other, and/, qr/NO FORCE ROW LEVEL SECURITY/, 'forced');
    unwatch();
};

subtest "a superuser's query over tables and functions of others" => sub {
    watch('failed_at timestamptz', 'SELECT id AS job_id, failed_at FROM public.other UNION SELECT id, failed_at FROM public.other', 'current_user');
    sql(q(UPDATE job_alerting.queue SET since = '2026-01-01' WHERE name = 'other'));
    my $finding = finds('owner of queue other', 'warning', qr/superuser .* uses objects of other roles: public\.other\z/, qr/watch_query\('other'.*owner =>/, 'a table');
    my ($statement) = $finding->{hint} =~ /(SELECT .*;)/;
    sql($statement =~ s/'ROLE'/'owner'/r);
    is sql(q(SELECT owner, since >= '2026-01-01' FROM job_alerting.queue WHERE name = 'other')), 'owner|t', "the hint's statement does not report earlier failures";
    is_well('fixed');
    unwatch();
    sql('CREATE FUNCTION name_of(text) RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT $1; END');
    sql('ALTER FUNCTION name_of(text) OWNER TO owner');
    sql('CREATE VIEW named AS SELECT name_of(relname::text) AS id FROM pg_class WHERE false');
    watch('failed_at timestamptz', 'SELECT id AS job_id, now() AS failed_at FROM public.named', 'current_user');
    finds('owner of queue other', 'warning', qr/other roles: public\.name_of\(text\)\z/, qr/watch_query\('other'/, 'a function, in a view');
    unwatch();
    sql('DROP VIEW named; DROP FUNCTION name_of(text)');
};

subtest 'times without a time zone' => sub {
    watch('ended_at timestamp', 'SELECT id AS job_id, ended_at::timestamptz AS failed_at FROM public.other');
    finds('time zone of queue other', 'warning', qr/without time zone/, qr/AT TIME ZONE/, 'a bare cast');
    unwatch();
    watch('ended_at timestamp', q(SELECT id AS job_id, ended_at AT TIME ZONE 'UTC' AS failed_at FROM public.other));
    is_well('a named time zone');
    unwatch();
};

# The table has more than 10,000 pages, with few rows.
subtest 'rows that are deleted before a second round' => sub {
    # Only the test makes rounds, all within the interval of one hour.
    my $round = sub { JobAlerting::run_digest($node) };
    my @retried = map { JobAlerting::fail_job($node) } 1 .. 3;
    $round->();
    sql("UPDATE research_jobs SET status = 'queued', finished_at = NULL WHERE id IN (@{[ join ',', @retried ]})");
    $round->();
    is_well('jobs that are retried at once still exist');

    # The failure of an unreadable queue must not count as a row that was kept for days.
    sql('ALTER TABLE research_jobs RENAME finished_at TO ended_at');
    $round->();
    sql('ALTER TABLE research_jobs RENAME ended_at TO finished_at');
    sql(q(UPDATE job_alerting.failure SET recorded_at = recorded_at - interval '2 days' WHERE status = 'unreadable'));
    my @deleted = map { JobAlerting::fail_job($node) } 1 .. 3;
    $round->();
    sql("DELETE FROM research_jobs WHERE id IN (@{[ join ',', @deleted ]})");
    $round->();
    finds('deletion of queue research_jobs', 'warning', qr/each of the last 3 failures whose rows were deleted was gone/,
        qr/ALTER SYSTEM SET job_alerting\.interval/, 'three deleted before a second round saw them');

    my $kept = JobAlerting::fail_job($node);
    $round->();
    sql("UPDATE job_alerting.failure SET recorded_at = recorded_at - interval '2 days' WHERE job_id = '$kept'");
    sql("DELETE FROM research_jobs WHERE id = $kept");
    $round->();
    is_well('a failure that stood for days shows that rows are kept');
};

subtest 'a sequential scan of a large table, and the advised index' => sub {
    sql('ALTER TABLE research_jobs ALTER payload SET STORAGE PLAIN');
    sql(<<'SQL');
INSERT INTO research_jobs (source, job_type, status, payload)
SELECT 'apple', 'refresh_catalog', 'done', to_jsonb(repeat('x', 7000)) FROM generate_series(1, 10100)
SQL
    JobAlerting::fail_job($node);
    my $finding = finds('plan of queue research_jobs', 'warning', qr/reads all of public\.research_jobs, 79 MB/, qr/CREATE INDEX CONCURRENTLY/, 'no index');
    sql($finding->{hint});
    sql('VACUUM ANALYZE research_jobs');
    is_well('the advised index is used');
    JobAlerting::run_digest($node);
    my $scans = sub { sql(q(SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'research_jobs')) };
    my $before = $scans->();
    is_well('no finding without new failures');
    is $scans->(), $before, 'no sequential scan';
    my $condition = sql(q(SELECT failure_query FROM job_alerting.queue)) =~ s/\A.*^ WHERE //msr;
    my $plan = sql("SET enable_bitmapscan = off; EXPLAIN SELECT id, finished_at FROM research_jobs j WHERE $condition");
    like $plan, qr/Index Only Scan/, 'an index-only scan';
    sql(<<'SQL');
CREATE TYPE outcome AS ENUM ('queued', 'running', 'done', 'failed', 'dead');
ALTER TABLE research_jobs ALTER status DROP DEFAULT, DROP CONSTRAINT research_jobs_status_check;
DROP INDEX research_jobs_finished_at_id_status_attempts_max_attempts_idx;
ALTER TABLE research_jobs ALTER status TYPE outcome USING status::outcome;
SELECT job_alerting.watch('research_jobs');
SQL
    sql(finds('plan of queue research_jobs', 'warning', qr/reads all of/, qr/CREATE INDEX CONCURRENTLY/, 'an enumeration')->{hint});
    sql('VACUUM ANALYZE research_jobs');
    is_well('no finding with its advised index');
};

subtest "an address that cannot be converted to the database's encoding" => sub {
    sql(q(CREATE DATABASE ancient TEMPLATE template0 ENCODING EUC_JP LC_COLLATE 'C' LC_CTYPE 'C'));
    $node->safe_psql('ancient', 'CREATE EXTENSION job_alerting; ' . "SELECT job_alerting.watch_query('none', 'SELECT NULL::text AS job_id, NULL::timestamptz AS failed_at WHERE false')");
    JobAlerting::store_setting($node, 'mail_to', "M\xc3\xbcller", 'ancient');
    my $said = qr/mail_to is malformed: address 1 is invalid: it is not ASCII/;
    my ($found) = grep { $_->{item} eq 'channel sendgrid' } JobAlerting::rows($node, 'ancient', 'SELECT * FROM job_alerting.check()');
    like $found->{detail}, $said, 'check() reports it';
    like((JobAlerting::run_digest($node, 'ancient'))[0]{detail}, $said, 'a round reports it');
    like $node->safe_psql('ancient', 'SELECT reason FROM job_alerting.status'), $said, 'the status reports it';
    sql('DROP DATABASE ancient WITH (FORCE)');
};

# Setting a bad value is refused. A bad value at server start is kept.
subtest 'a job_url that gives no links' => sub {
    for my $value ('admin.example.com/{job_id}', 'javascript:alert(1)', 'https://x y/{job_id}', "https://x/\n{job_id}") {
        my (undef, undef, $error) = $node->psql('postgres', "ALTER DATABASE postgres SET job_alerting.job_url = '$value'");
        like $error, qr/invalid value for parameter "job_alerting\.job_url".*DETAIL:  The address cannot be used/s,
          "refused: $value";
    }
    sql(q(ALTER DATABASE postgres SET job_alerting.job_url = 'https://admin.example.com/{job_id}'));
    is_well('a valid value');
    sql('ALTER DATABASE postgres RESET job_alerting.job_url');
    local $ENV{SLACK_WEBHOOK_URL} = $stub->url . '/services/T0/B0/canary';
    $node->append_conf('postgresql.conf', "job_alerting.job_url = 'admin.example.com/{job_id}'");
    JobAlerting::restart($node);
    finds('job_url', 'warning', qr/no links: .*does not begin with https/, qr/ALTER SYSTEM SET job_alerting\.job_url/, 'at server start');
    $node->adjust_conf('postgresql.conf', 'job_alerting.job_url', undef);
    JobAlerting::restart($node);
    is_well('fixed');
};

subtest 'a heartbeat that cannot be sent' => sub {
    JobAlerting::configure($node, heartbeat_url_file => "$key_file.none");
    finds('heartbeat', 'error', qr/cannot be opened: No such file/, qr/heartbeat_url_file/, 'no file');
    JobAlerting::configure($node, heartbeat_url_file => $key_file);
    my $finding = finds('heartbeat', 'error', qr/cannot be used: .*not/, qr/heartbeat_url_file/, 'no address');
    unlike $finding->{detail}, qr/canary/, 'the detail does not show the content';
    JobAlerting::configure($node, heartbeat_url_file => '');
};

subtest 'a server without a launcher or without worker slots' => sub {
    my $bare = JobAlerting::node('bare', preload => 0, conf => "max_worker_processes = 0");
    sql($bare, 'CREATE EXTENSION job_alerting');
    my $findings = findings($bare);
    is_deeply bad($findings), [ 'launcher: error', 'preload: error', 'worker slot: error' ], 'all findings without a worker';
    like $findings->{preload}{hint}, qr/shared_preload_libraries/, 'preload';
    like $findings->{'worker slot'}{hint}, qr/max_worker_processes/, 'slots';
    $bare->adjust_conf('postgresql.conf', 'max_worker_processes', '8');
    $bare->restart;
    is_deeply bad(findings($bare)), [ 'launcher: error', 'preload: error', 'queues: error' ], 'with a worker slot, also the missing queue';
    $bare->stop;
};

done_testing();
