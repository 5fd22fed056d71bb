# The library and the extension's SQL objects can have different versions, after an upgrade of one of them
# or while the server still runs the old library. Then nothing is sent or written, one message with a hint
# is logged, and failures are reported as soon as the versions fit again. pg_upgrade keeps everything.

use strict;
use warnings;

use FindBin;
use Test::More;
use Time::HiRes ();

use lib "$FindBin::Bin/../support";
use JobAlerting qw(log_from_now problems sql);

my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub, interval => '1s', conf => <<'CONF');
autovacuum = off
# Logs the start of each worker.
log_min_messages = debug1
CONF
JobAlerting::create_jobs($node);
# The launcher had found no extension, and would look again only 10 s later.
JobAlerting::restart($node);

sub set_version {
    my ($version) = @_;
    return sql("UPDATE pg_extension SET extversion = '$version' WHERE extname = 'job_alerting'");
}

# Waits until so many more workers were started.
sub wait_for_looks {
    my ($wanted) = @_;
    my $logged = log_from_now();
    return JobAlerting::poll(sub {
        my @looks = $logged->() =~ /starting background worker process "job_alerting worker for postgres"/g;
        return @looks >= $wanted;
    }, 20, "$wanted rounds");
}

# All rows of the extension's tables, with their row versions.
sub contents {
    my ($cluster) = @_;
    my $contents = sub { "SELECT string_agg(concat_ws(' ', $_[0], t), E'\\n' ORDER BY t::text COLLATE \"C\") FROM job_alerting.$_[1] t" };
    return join "\n", map { $cluster->safe_psql('postgres', $contents->('xmin', $_)) } qw(queue failure digest installation);
}

my $started = sql('SELECT pg_postmaster_start_time()');

# ---------------------------------------------------------------- versions

# A call of each function, by its name.
my %call = (
    run_digest  => 'SELECT * FROM job_alerting.run_digest()',
    watch       => q(SELECT job_alerting.watch('research_jobs')),
    watch_query => q(SELECT job_alerting.watch_query('q', 'SELECT 1::text AS job_id, now() AS failed_at')),
    unwatch     => q(SELECT job_alerting.unwatch('research_jobs')),
    settle      => 'SELECT job_alerting.settle(1, true)',
    preview     => 'SELECT * FROM job_alerting.preview()',
    check       => 'SELECT * FROM job_alerting.check()',
    send_test   => 'SELECT * FROM job_alerting.send_test()',
);

for my $version ('0.9', '1.0.1') {
    subtest "SQL objects of version '$version'" => sub {
        set_version($version);
        my $logged = log_from_now();
        my $before = $stub->count;
        my $contents = contents($node);
        my $job = JobAlerting::fail_job($node);
        wait_for_looks(3);
        my @trouble = problems($logged->());
        is scalar @trouble, 1, 'several rounds log one line' or diag explain \@trouble;
        like $trouble[0], qr/WARNING:  job_alerting round in database "postgres" failed: .* version 1\.0 .* version "\Q$version\E"/,
          'the line names both versions';
        like $logged->(), qr/HINT:  Restart the server .* ALTER EXTENSION job_alerting UPDATE/, 'with a hint';
        for my $name (sort keys %call) {
            isnt $node->psql('postgres', $call{$name}, stderr => \my $error), 0, "$name() fails";
            like $error, qr/ERROR:  .* version 1\.0 .* version "\Q$version\E"\nHINT:  Restart the server .* UPDATE/, 'and says why';
        }
        is $stub->count, $before, 'nothing is sent';
        is contents($node), $contents, 'nor written';
        like sql('SELECT reason FROM job_alerting.status'), qr/version \Q1.0\E .* version "\Q$version\E".* UPDATE/,
          'the status says why, and what to do';

        set_version('1.0');
        $logged = log_from_now();
        $stub->wait_for($before + 1, 15);
        is_deeply [ JobAlerting::named_jobs(($stub->requests)[$before]) ], [$job], 'the failure is reported when the versions fit again';
        is_deeply [ problems($logged->()) ], [], 'the log has no problem';
    };
}

subtest 'every function was called' => sub {
    # server_state() reads shared memory only, so that the status can name the problem.
    my @called = sort 'server_state', keys %call;
    is_deeply \@called, [ split /\n/, sql(<<'SQL') ], 'the extension has no other function';
SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'job_alerting'::regnamespace ORDER BY 1
SQL
};

subtest 'an update during a request loses nothing' => sub {
    $stub->modes('stall', '202');
    my $before = $stub->count;
    my $job = JobAlerting::fail_job($node);
    $stub->wait_for($before + 1);
    set_version('2.0');
    $stub->release;
    wait_for_looks(1);
    set_version('1.0');
    my $accepted = sub { sql('SELECT state FROM job_alerting.digest ORDER BY id DESC LIMIT 1') eq 'accepted' };
    ok JobAlerting::poll($accepted, 15, 'the digest to be accepted'), 'accepted in the end';
    my @requests = ($stub->requests)[ $before .. $stub->count - 1 ];
    is_deeply [ JobAlerting::named_jobs($requests[0]) ], [$job], 'the failure is reported';
    is scalar(grep { $_->{body} ne $requests[0]{body} } @requests), 0, 'every copy of the mail is the same';
};

subtest 'ALTER EXTENSION UPDATE' => sub {
    is $node->psql('postgres', 'ALTER EXTENSION job_alerting UPDATE', stderr => \my $notice), 0, 'an update to the same version succeeds';
    like $notice, qr/NOTICE:  version "1\.0" of extension "job_alerting" is already installed/, 'with a notice';
    isnt $node->psql('postgres', q(ALTER EXTENSION job_alerting UPDATE TO '9.9'), stderr => \my $error), 0, 'an update to an unknown version fails';
    like $error, qr/extension "job_alerting" has no update path from version "1\.0" to version "9\.9"/, "with the server's message";
};

subtest 'a function that only the library or only the database has' => sub {
    sql('CREATE DATABASE odd');
    JobAlerting::create_jobs($node, 'odd');
    $node->safe_psql('odd', <<'SQL');
UPDATE pg_proc SET prosrc = 'job_alerting_of_tomorrow' WHERE oid = 'job_alerting.watch_query'::regproc;
ALTER EXTENSION job_alerting DROP FUNCTION job_alerting.unwatch(text, boolean);
DROP FUNCTION job_alerting.unwatch(text, boolean);
SQL
    isnt $node->psql('odd', $call{watch_query}, stderr => \my $error), 0, 'a function that only the database has fails';
    like $error, qr/could not find function "job_alerting_of_tomorrow" in file/, 'the error names the missing function';
    isnt $node->psql('odd', $call{unwatch}, stderr => \$error), 0, 'a function that only the library has fails';
    like $error, qr/function job_alerting\.unwatch\(unknown\) does not exist/, 'the error names the missing function';
    my $before = $stub->count;
    my $job = JobAlerting::fail_job($node, db => 'odd');
    $stub->wait_for($before + 1, 15);
    is_deeply [ JobAlerting::named_jobs(($stub->requests)[$before]) ], [$job], 'rounds go on';
    sql('DROP DATABASE odd WITH (FORCE)');
};

# ---------------------------------------------------------------- a step to a later release

# Every object and property of the extension in a database, a line each, in a fixed order.
sub catalog {
    my ($cluster, $db) = @_;
    return split /\n(?=\|)/, $cluster->safe_psql($db, <<'SQL');
WITH relation AS (SELECT * FROM pg_class c WHERE c.relnamespace = 'job_alerting'::regnamespace),
function AS (SELECT * FROM pg_proc p WHERE p.pronamespace = 'job_alerting'::regnamespace),
line(line) AS (
    SELECT concat_ws(' ', 'member', i.type, i.identity)
    FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid, pg_identify_object(d.classid, d.objid, 0) i
    WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'job_alerting'
    UNION ALL SELECT concat_ws(' ', 'version', extversion) FROM pg_extension WHERE extname = 'job_alerting'
    UNION ALL SELECT concat_ws(' ', 'dumped', c.id::regclass, c.condition)
    FROM pg_extension e, unnest(e.extconfig, e.extcondition) c(id, condition) WHERE e.extname = 'job_alerting'
    UNION ALL SELECT concat_ws(' ', 'comment', i.type, i.identity, d.description)
    FROM pg_description d, pg_identify_object(d.classoid, d.objoid, d.objsubid) i WHERE i.identity ~ '^"?job_alerting'
    UNION ALL SELECT concat_ws(' ', 'schema', nspacl) FROM pg_namespace WHERE nspname = 'job_alerting'
    UNION ALL SELECT concat_ws(' ', 'relation', relname, relkind, relpersistence, relreplident, relrowsecurity, relacl, reloptions)
    FROM relation
    UNION ALL SELECT concat_ws(' ', 'column', r.relname, rank() OVER (PARTITION BY r.oid ORDER BY a.attnum), a.attname,
        format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attcollation, a.attacl, pg_get_expr(d.adbin, d.adrelid))
    FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
    UNION ALL SELECT concat_ws(' ', 'view', relname, pg_get_viewdef(oid)) FROM relation WHERE relkind = 'v'
    UNION ALL SELECT concat_ws(' ', 'index', pg_get_indexdef(oid)) FROM relation WHERE relkind = 'i'
    UNION ALL SELECT concat_ws(' ', 'constraint', r.relname, c.conname, pg_get_constraintdef(c.oid))
    FROM relation r JOIN pg_constraint c ON c.conrelid = r.oid
    UNION ALL SELECT concat_ws(' ', 'trigger', pg_get_triggerdef(t.oid))
    FROM relation r JOIN pg_trigger t ON t.tgrelid = r.oid AND NOT t.tgisinternal
    UNION ALL SELECT concat_ws(' ', 'function', pg_get_functiondef(oid), proacl) FROM function
)
SELECT '|' || line FROM line ORDER BY line COLLATE "C"
SQL
}

# The library and the scripts of a future release.
my $current = '1.0';
my $later = '9999.0';
my $step = <<'SQL';
ALTER TABLE job_alerting.queue ADD COLUMN of_tomorrow text DEFAULT 'none';
COMMENT ON COLUMN job_alerting.queue.of_tomorrow IS 'what a later release keeps';
CREATE TABLE job_alerting.tomorrow (id bigint PRIMARY KEY);
COMMENT ON TABLE job_alerting.tomorrow IS 'another table of a later release';
GRANT SELECT ON job_alerting.tomorrow TO pg_monitor;
SELECT pg_catalog.pg_extension_config_dump('job_alerting.tomorrow', '');
SQL

sub start_later_release {
    my ($name, @versions) = @_;
    my $installation = JobAlerting::Installation->new;
    $installation->put("job_alerting--$current--$later.sql", $step);
    $installation->put("job_alerting--$later.sql", $installation->content("job_alerting--$current.sql") . $step);
    $installation->put('job_alerting.control',
        $installation->content('job_alerting.control') =~ s/^default_version = .*/default_version = '$later'/mr);
    local $ENV{LD_PRELOAD} = @versions ? JobAlerting::Preload::library('versions', 'VERSIONS=' . join ',', map { qq("$_") } @versions) : '';
    return JobAlerting::node($name, stub => $stub, install_path => $installation->path);
}

# A round of one database reports its failure.
sub tells {
    my ($cluster, $db, $name) = @_;
    my $came = $stub->from_now;
    my $job = JobAlerting::fail_job($cluster, db => $db);
    # The launcher may take the round, because the database is new to it.
    JobAlerting::run_digest($cluster, $db);
    is_deeply [ map { JobAlerting::named_jobs($_) } $came->() ], [$job], $name;
    return;
}

subtest 'a later release serves a database before and after its update' => sub {
    my $cluster = start_later_release('later', $current, $later);
    my %version = (updated => $current, fresh => $later, old => $current);
    for my $db (sort keys %version) {
        $cluster->safe_psql('postgres', "CREATE DATABASE $db");
        JobAlerting::create_jobs_table($cluster, $db);
        $cluster->safe_psql($db, "CREATE EXTENSION job_alerting VERSION '$version{$db}'");
        tells($cluster, $db, "version $version{$db}: rounds come");
    }
    my @findings = JobAlerting::rows($cluster, 'old', q(SELECT * FROM job_alerting.check() WHERE item = 'version'));
    is_deeply [ map { @$_{qw(state hint)} } @findings ], [ 'warning', 'ALTER EXTENSION job_alerting UPDATE;' ],
      'check() gives the statement';
    isnt join("\n", catalog($cluster, 'updated')), join("\n", catalog($cluster, 'fresh')), 'the two releases differ';
    $cluster->safe_psql('updated', $findings[0]{hint});
    is_deeply [ catalog($cluster, 'updated') ], [ catalog($cluster, 'fresh') ], 'an updated database is the same as a fresh one';
    tells($cluster, 'updated', 'its rounds go on');
    tells($cluster, 'old', 'and so do those of a database that was not updated');
    $cluster->safe_psql('old', q(ALTER EXTENSION job_alerting UPDATE; COMMENT ON TABLE job_alerting.tomorrow IS 'other'));
    my %fresh = map { $_ => 1 } catalog($cluster, 'fresh');
    is_deeply [ grep { !$fresh{$_} } catalog($cluster, 'old') ], ['|comment table job_alerting.tomorrow other'],
      'a difference would be found';
    $cluster->stop;
};

subtest 'an older library stops only the database that was updated' => sub {
    my $cluster = start_later_release('before');
    for my $db (qw(updated old)) {
        $cluster->safe_psql('postgres', "CREATE DATABASE $db");
        JobAlerting::create_jobs_table($cluster, $db);
        $cluster->safe_psql($db, "CREATE EXTENSION job_alerting VERSION '$current'");
    }
    $cluster->safe_psql('updated', 'ALTER EXTENSION job_alerting UPDATE');
    isnt $cluster->psql('updated', $call{run_digest}, stderr => \my $error), 0, 'the updated database has no round';
    like $error, qr/supports version \Q$current\E .* version "\Q$later\E"\nHINT:  Restart the server/, 'the error asks for a restart of the server';
    tells($cluster, 'old', 'the other database has its rounds');
    $cluster->stop;
};

is sql('SELECT pg_postmaster_start_time()'), $started, 'the server never went down';

# ---------------------------------------------------------------- pg_upgrade

# Runs pg_upgrade. Returns the log of the servers that it started.
sub upgrade {
    my ($old, $new) = @_;
    my ($bin) = PostgreSQL::Test::Utils::run_command([qw(pg_config --bindir)]);
    # pg_upgrade leaves a script in its working directory.
    my ($out, $err) = PostgreSQL::Test::Utils::run_command([
        'sh', '-c', 'cd "$0" && exec "$@"', $new->basedir, 'pg_upgrade', '--no-sync', '--retain',
        '-b', $bin, '-B', $bin, '-d', $old->data_dir, '-D', $new->data_dir,
        '-p', $old->port, '-P', $new->port, '-s', $new->host,
    ]);
    like $out, qr/^Upgrade Complete$/m, 'pg_upgrade passes' or diag "$out\n$err";
    return PostgreSQL::Test::Utils::slurp_file(glob $new->data_dir . '/pg_upgrade_output.d/*/log/pg_upgrade_server.log');
}

sub start_with {
    my ($cluster, $libraries) = @_;
    $cluster->append_conf('postgresql.conf', "shared_preload_libraries = '$libraries'");
    $cluster->start;
    return;
}

# The outcome of a round, and the jobs that were reported since.
sub round {
    my ($cluster, $before) = @_;
    my $row = (JobAlerting::run_digest($cluster))[-1];
    return [ $row->{outcome}, map { JobAlerting::named_jobs($_) } ($stub->requests)[ $before .. $stub->count - 1 ] ];
}

subtest 'pg_upgrade keeps tables and sequences, and nothing is sent meanwhile' => sub {
    # A held digest in doubt does not hold up newer ones.
    JobAlerting::configure($node, interval => '1h', on_in_doubt => 'hold');
    for my $mode ([ 'close-after-read' => 'in_doubt' ], [ '401' => 'pending' ]) {
        JobAlerting::fail_job($node);
        $stub->mode($mode->[0]);
        is +(JobAlerting::run_digest($node))[-1]{outcome}, $mode->[1], "a digest $mode->[1]";
    }
    $stub->mode('202');
    my $unseen = JobAlerting::fail_job($node);
    my $contents = contents($node);
    my $numbers = 'SELECT a.last_value, b.last_value FROM job_alerting.failure_id_seq a, job_alerting.digest_id_seq b';
    my $next = sql($numbers);
    my $new = JobAlerting::node('new', stub => $stub, conf => 'log_min_messages = debug1');
    $_->stop for $node, $new;

    my $before = $stub->count;
    my $log = upgrade($node, $new);
    my @servers = $log =~ /database system is ready to accept connections/g;
    cmp_ok scalar @servers, '>=', 2, 'it has started both servers';
    unlike $log, qr/background worker .*job_alerting/, 'neither had a worker of ours';
    is $stub->count, $before, 'nothing was sent';

    start_with($new, '');
    is contents($new), $contents, 'the tables are unchanged';
    is $new->safe_psql('postgres', $numbers), $next, 'the sequences are unchanged';
    $new->stop;
    start_with($new, 'job_alerting');
    $stub->wait_for($before + 1, 15);
    is_deeply round($new, $before), [ 'in_doubt', $unseen ], 'only the unseen failure is reported';
    my $job = JobAlerting::fail_job($new);
    $before = $stub->count;
    is_deeply round($new, $before), [ 'accepted', $job ], 'a new failure is reported';
    is $new->safe_psql('postgres', <<'SQL'), 'in_doubt, held; in_doubt, held', 'waiting digests are held, since the new cluster is a copy';
SELECT string_agg(concat_ws(', ', state, CASE held WHEN 'copy' THEN 'held' END), '; ') FROM job_alerting.digest WHERE state <> 'accepted'
SQL
    like $new->safe_psql('postgres', 'SELECT reason FROM job_alerting.status'), qr/\Adigest \d+ through sendgrid is in doubt/,
      'the status says so';
    $new->stop;
};

done_testing();
