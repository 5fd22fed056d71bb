# Several queues in one database: side by side, of any shape, broken and repaired, unwatched and watched
# again. A queue that cannot be read is reported once, and stops none of the others.

use strict;
use warnings;
use utf8;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting qw(fail_job unicode_sql);

my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub, conf => <<'CONF');
job_alerting.lock_timeout = 500ms
job_alerting.scan_timeout = 1s
CONF
JobAlerting::create_jobs($node);

# One round. Returns the row of run_digest(), the jobs of these queues that its mail lists, as queue/job,
# and the queues that the mail calls unreadable, as `broken queue`.
sub round {
    my (@queues) = @_;
    my $before = $stub->count;
    my ($row) = JobAlerting::run_digest($node);
    my @mails = ($stub->requests)[ $before .. $stub->count - 1 ];
    my @told;
    for my $mail (@mails) {
        push @told, map { "broken $_" } JobAlerting::text_part($mail) =~ /^\* queue (\S+) could not be read/gm;
        for my $queue (@queues) {
            push @told, map { "$queue/$_" } JobAlerting::named_jobs($mail, $queue);
        }
    }
    return ($row, sort @told);
}

# A round reports exactly this, and its one mail has as many failures.
sub tells {
    my ($queues, $told, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($row, @got) = round(@$queues);
    my @got_in_all = ($row->{outcome}, @got ? $row->{failures} + 0 : (), @got);
    my @expected = (@$told ? ('accepted', scalar @$told, sort @$told) : 'silent');
    return is_deeply \@got_in_all, \@expected, $name;
}

sub queue {
    my ($name) = @_;
    my ($queue) = JobAlerting::rows($node, undef, "SELECT * FROM job_alerting.queue WHERE name = '$name'");
    return $queue;
}

sub quoted {
    my ($text) = @_;
    return q(') . $text =~ s/'/''/gr . q(');
}

# The smallest table that can be watched.
sub create_small {
    my ($name) = @_;
    return unicode_sql("CREATE TABLE $name (id text PRIMARY KEY, failed_at timestamptz)");
}

sub watch_small {
    my ($name, %options) = @_;
    my $condition = $options{condition} // '';
    my $since = $options{since} // "'-infinity'";
    my $query = quoted("SELECT id AS job_id, failed_at FROM public.$name $condition");
    return unicode_sql("SELECT job_alerting.watch_query('$name', $query, since => $since)");
}

subtest 'jobs of two queues with the same ids come in one mail, each with its queue' => sub {
    unicode_sql('CREATE SCHEMA mails; CREATE TABLE mails.outbox (LIKE research_jobs INCLUDING ALL)');
    is unicode_sql(q(SELECT job_alerting.watch('mails.outbox'))), 'outbox', 'the queue is named after the table';
    my $job = fail_job(finished_at => '2026-01-01');
    unicode_sql('INSERT INTO mails.outbox SELECT * FROM research_jobs');
    tells([qw(research_jobs outbox)], [ "research_jobs/$job", "outbox/$job" ], 'both');
    unicode_sql('UPDATE mails.outbox SET finished_at = now()');
    tells([qw(research_jobs outbox)], ["outbox/$job"], 'one of them again');
    is unicode_sql(q(SELECT job_alerting.watch('mails.outbox', 'second name'))), 'second name', 'the queue has the given name';
    tells([ 'outbox', 'second name' ], ["second name/$job"], 'is a queue of its own');
    unicode_sql(q(SELECT job_alerting.unwatch(name) FROM unnest('{outbox, second name}'::text[]) name));
};

subtest 'another occurrence is another failure' => sub {
    unicode_sql(<<'SQL');
CREATE TABLE runs (job text, run text, failed_at timestamptz);
SELECT job_alerting.watch_query('runs', 'SELECT job AS job_id, failed_at, run AS occurrence FROM public.runs');
INSERT INTO runs VALUES ('j', '1', '2026-01-01'), ('j', '2', '2026-01-01'), ('k', NULL, '2026-01-01');
INSERT INTO runs VALUES ('l', NULL, NULL);
SQL
    tells(['runs'], [qw(runs/j runs/j runs/k runs/l)], 'two runs of a job; jobs without an occurrence');
    unicode_sql(q(UPDATE runs SET failed_at = '2026-02-02' WHERE job = 'j'));
    tells(['runs'], [], 'the time does not matter where there is an occurrence');
    unicode_sql(q(UPDATE runs SET failed_at = '2026-02-02' WHERE job = 'k'));
    tells(['runs'], ['runs/k'], 'and does where there is none');
    unicode_sql(q(UPDATE runs SET run = '3' WHERE run = '1'));
    tells(['runs'], ['runs/j'], 'another run');
    unicode_sql(q(INSERT INTO runs VALUES ('j', '3', '2026-03-03')));
    tells(['runs'], [], 'a row that comes twice is one failure');
    unicode_sql(q(DELETE FROM runs; INSERT INTO runs VALUES ('1', '23', now()), ('1', '2:3', now())));
    tells(['runs'], [qw(runs/1 runs/1)], 'a job and its occurrence');
    unicode_sql(q(INSERT INTO runs VALUES ('12', '3', now()), ('1:2', '3', now()), ('123', '', now())));
    tells(['runs'], [qw(runs/12 runs/1:2 runs/123)], 'are never mixed up');
    unicode_sql(q(DELETE FROM runs; INSERT INTO runs
        VALUES ('j', 'unknown x', now()), ('j', 'unknown y', now()), ('j', 'unknown', now())));
    tells(['runs'], [qw(runs/j runs/j runs/j)], 'an occurrence that is named as we name the unknown');
    tells(['runs'], [], 'once');
    unicode_sql(q(SELECT job_alerting.unwatch('runs')));
};

my %breakages = (
    'table renamed' => {
        break => 'ALTER TABLE fragile RENAME TO kept',
        mend  => 'ALTER TABLE kept RENAME TO fragile',
        error => qr/relation "public.fragile" does not exist/,
    },
    'column renamed' => {
        break => 'ALTER TABLE fragile RENAME failed_at TO ended_at',
        mend  => 'ALTER TABLE fragile RENAME ended_at TO failed_at',
        error => qr/column "failed_at" does not exist/,
    },
    'column of another type' => {
        break => 'ALTER TABLE fragile ALTER failed_at TYPE timestamp USING failed_at::timestamp',
        mend  => 'ALTER TABLE fragile ALTER failed_at TYPE timestamptz USING failed_at::timestamptz',
        error => qr/column "failed_at" of the failure query is of the wrong type/,
    },
    'job without job_id' => {
        break => q(INSERT INTO fragile VALUES (NULL, now())),
        mend  => q(DELETE FROM fragile WHERE id IS NULL),
        error => qr/returned a job whose job_id is NULL/,
    },
    'error at run time' => {
        break => q(UPDATE fragile_divisor SET n = 0),
        mend  => q(UPDATE fragile_divisor SET n = 1),
        error => qr/division by zero/,
    },
    'role dropped' => {
        break => 'REASSIGN OWNED BY fragile_owner TO CURRENT_USER; DROP OWNED BY fragile_owner; DROP ROLE fragile_owner',
        mend  => 'CREATE ROLE fragile_owner; GRANT SELECT ON fragile, fragile_divisor TO fragile_owner',
        error => qr/role "fragile_owner" does not exist/,
    },
    'SELECT revoked' => {
        break => 'REVOKE SELECT ON fragile FROM fragile_owner',
        mend  => 'GRANT SELECT ON fragile TO fragile_owner',
        error => qr/permission denied for table fragile/,
    },
);

subtest 'a queue that cannot be read is reported once for each breakage, and stops no other queue' => sub {
    unicode_sql(<<'SQL');
CREATE ROLE fragile_owner;
CREATE TABLE fragile (id text, failed_at timestamptz);
CREATE TABLE fragile_divisor AS SELECT 1 AS n;
GRANT SELECT ON fragile, fragile_divisor TO fragile_owner;
INSERT INTO fragile VALUES ('old', now());
SELECT job_alerting.watch_query('fragile',
    'SELECT id AS job_id, failed_at FROM public.fragile WHERE 1 / (SELECT n FROM public.fragile_divisor) = 1',
    owner => 'fragile_owner');
SQL
    tells(['fragile'], ['fragile/old'], 'whole');
    my $breakages = 0;
    for my $kind (sort keys %breakages) {
        my ($break, $mend, $error) = @{ $breakages{$kind} }{qw(break mend error)};
        for my $time ('', ', again') {
            unicode_sql($break);
            my $job = fail_job();
            tells([qw(research_jobs fragile)], [ "research_jobs/$job", 'broken fragile' ],
                "$kind$time: told beside the others");
            my $broken = queue('fragile');
            like $broken->{last_error}, $error, "$kind$time: last_error says why";
            my ($row, @told) = round();
            is_deeply [ $row->{outcome}, @told ], ['silent'], "$kind$time: reported once";
            like $row->{detail}, qr/queue fragile cannot be read: .*$error/,
              "$kind$time: run_digest() says it each time";
            is queue('fragile')->{broken_since}, $broken->{broken_since}, "$kind$time: broken_since is the time of the first error";
            unicode_sql($mend);
            unicode_sql(q(INSERT INTO fragile VALUES ('new', clock_timestamp())));
            tells(['fragile'], ['fragile/new'], "$kind$time: mended: only what failed meanwhile");
            my $mended = queue('fragile');
            is_deeply [ @$mended{qw(last_error broken_since)} ], [ undef, undef ], "$kind$time: the queue can be read again";
            unicode_sql(q(DELETE FROM fragile WHERE id = 'new'));
            $breakages++;
        }
    }
    is unicode_sql(<<'SQL'), "$breakages|$breakages|$breakages", 'the ledger has each breakage, none of which stands';
SELECT count(*), count(DISTINCT occurrence), count(cleared_at)
FROM job_alerting.failure WHERE queue = 'fragile' AND job_id = 'unreadable' AND status = 'unreadable'
SQL
};

subtest 'the failure of a broken queue has the time of broken_since' => sub {
    unicode_sql('DROP TABLE fragile');
    tells([], ['broken fragile'], 'its failure is reported');
    is unicode_sql(<<'SQL'), 't|t|t', 'in its ledger row';
SELECT f.occurrence::timestamp AT TIME ZONE 'UTC' = q.broken_since, f.failed_at = q.broken_since, f.error = q.last_error
FROM job_alerting.failure f JOIN job_alerting.queue q ON q.name = f.queue
WHERE f.job_id = 'unreadable' AND f.cleared_at IS NULL
SQL
    is unicode_sql(<<'SQL'), 1, 'earlier failures still count as standing';
SELECT count(*) FROM job_alerting.failure WHERE queue = 'fragile' AND job_id = 'old' AND cleared_at IS NULL
SQL
    unicode_sql('CREATE TABLE fragile (id text, failed_at timestamptz); GRANT SELECT ON fragile TO fragile_owner');
    tells(['fragile'], [], 'a new table of that name mends it');
    is unicode_sql(q(SELECT count(*) FROM job_alerting.failure WHERE queue = 'fragile' AND cleared_at IS NULL)), 0,
      'failures of the old query no longer stand';
};

subtest 'queues that break at the same time are reported in one mail' => sub {
    for my $name (qw(small_a small_b)) {
        create_small($name);
        watch_small($name);
    }
    unicode_sql('DROP TABLE small_a, small_b');
    tells([], [ 'broken small_a', 'broken small_b' ], 'both');
    unicode_sql(q(SELECT job_alerting.unwatch(name) FROM unnest('{small_a, small_b}'::text[]) name));
};

subtest 'a lock is reported when two rounds in succession meet it' => sub {
    my $held = $node->background_psql('postgres', on_error_stop => 1);
    my $lock = sub { $held->query_safe('BEGIN; LOCK TABLE fragile') };
    my $job = fail_job();
    $lock->();
    tells(['research_jobs'], ["research_jobs/$job"], 'once: not told, and the others are');
    like queue('fragile')->{last_error}, qr/lock timeout/, 'but last_error has it';
    $held->query_safe('COMMIT');
    tells([], [], 'it was gone');
    is queue('fragile')->{last_error}, undef, 'last_error is empty again';
    $lock->();
    tells([], [], 'once more: the first of a new succession');
    tells([], ['broken fragile'], 'twice');
    tells([], [], 'told once');
    $held->query_safe('COMMIT');
    tells([], [], 'mended');
    $lock->();
    tells([], [], 'met again: the first');
    tells([], ['broken fragile'], 'the second is another breakage');
    $held->query_safe('COMMIT');
    $held->quit;
    tells([], [], 'mended');
};

subtest 'a time limit is reported when two rounds in succession meet it' => sub {
    unicode_sql(<<'SQL');
CREATE TABLE slowness AS SELECT 0.0 AS seconds;
SELECT job_alerting.watch_query('slow', 'SELECT id AS job_id, failed_at FROM public.fragile
    WHERE (SELECT pg_sleep(seconds) IS NOT NULL FROM public.slowness)');
UPDATE slowness SET seconds = 60;
INSERT INTO fragile VALUES ('f', now());
SQL
    tells(['fragile'], ['fragile/f'], 'once: not told, and the others are');
    like queue('slow')->{last_error}, qr/took longer than job_alerting.scan_timeout \(1000 ms\)/, 'but last_error has it';
    tells([], ['broken slow'], 'twice');
    tells([], [], 'told once');
    unicode_sql('UPDATE slowness SET seconds = 0');
    tells(['slow'], ['slow/f'], 'mended');
    unicode_sql(q(UPDATE slowness SET seconds = 60));
    tells([], [], 'a limit met once');
    unicode_sql(q(ALTER TABLE slowness RENAME TO slow_ness));
    tells([], ['broken slow'], 'and then an error, which is certain');
    unicode_sql(q(UPDATE slow_ness SET seconds = 1.1));
    my (undef, undef, $said) = $node->psql('postgres', q(SELECT job_alerting.watch_query('slow', 'SELECT id AS job_id, failed_at
        FROM public.fragile WHERE (SELECT pg_sleep(seconds) IS NOT NULL FROM public.slow_ness)')));
    like $said, qr/WARNING: .* queue "slow" took longer than job_alerting.scan_timeout, 1000 ms/, 'watch_query() warns of such a query';
    unicode_sql(q(SELECT job_alerting.unwatch('slow', true)));
};

subtest 'a queue that uses all its time delays no other failures' => sub {
    unicode_sql(<<'SQL');
CREATE TABLE delay AS SELECT 0.0 AS seconds;
SELECT job_alerting.watch_query('endless', 'SELECT ''1'' AS job_id, NULL::timestamptz AS failed_at
    FROM public.delay WHERE seconds > 0 AND pg_sleep(seconds) IS NOT NULL');
UPDATE delay SET seconds = 60;
SQL
    tells([], [], 'it has met its limit once');
    JobAlerting::configure($node, scan_timeout => '60s');
    my $before = $stub->count;
    fail_job();
    my $call = JobAlerting::begin_digest($node);
    $stub->wait_for($before + 1, 10);
    ok $call->running, 'the mail has come while that queue is still being scanned';
    unicode_sql('SELECT pg_cancel_backend(' . JobAlerting::worker($node) . ')');
    is +($call->finish->rows)[0]{outcome}, 'accepted', 'the round goes on after the scan is cancelled';
    JobAlerting::configure($node, scan_timeout => '1s');
    unicode_sql(q(SELECT job_alerting.unwatch('endless', true)));
};

subtest 'recorded failures of an unwatched queue are still delivered' => sub {
    create_small('small');
    watch_small('small');
    unicode_sql(q(INSERT INTO small VALUES ('before', now())));
    $stub->mode('401');
    my ($row) = round();
    is $row->{outcome}, 'pending', 'recorded, and not delivered';
    is unicode_sql(q(SELECT job_alerting.unwatch('small'))), 't', 'unwatched';
    is unicode_sql(q(SELECT job_alerting.unwatch('small'))), 'f', 'the queue no longer exists';
    unicode_sql(q(INSERT INTO small VALUES ('after', now())));
    $stub->mode('202');
    tells(['small'], ['small/before'], 'delivered; what failed later is not');
};

subtest 'a queue that is watched again reports only new failures' => sub {
    watch_small('small');
    tells(['small'], ['small/after'], 'what failed while nobody watched');
    unicode_sql(q(SELECT job_alerting.unwatch('small')));
    tells(['small'], [], 'unwatched');
    watch_small('small');
    tells(['small'], [], 'watched again with all its failures standing');
    is unicode_sql(q(SELECT count(*) FROM job_alerting.failure WHERE queue = 'small' AND cleared_at IS NULL)), 2, 'its known failures stand again';
    watch_small('small', condition => 'WHERE true');
    tells(['small'], [], 'its query replaced');
};

subtest 'unwatch(..., forget) leaves no row of the queue' => sub {
    unicode_sql(q(INSERT INTO small VALUES ('waiting', now())));
    $stub->mode('401');
    round();
    is unicode_sql(q(SELECT job_alerting.unwatch('small', forget => true))), 't', 'forgotten while its failure waits';
    is unicode_sql(q(SELECT count(*) FROM job_alerting.failure WHERE queue = 'small')), 0, 'no ledger row';
    $stub->mode('202');
    tells(['small'], [], 'and no mail');
    watch_small('small', since => 'now()');
    tells(['small'], [], 'watched again from now on');
    unicode_sql(q(INSERT INTO small VALUES ('fresh', clock_timestamp())));
    tells(['small'], ['small/fresh'], 'and what fails then');
    unicode_sql(q(SELECT job_alerting.unwatch('small', true)));
};

subtest 'watch() accepts tables of many shapes' => sub {
    my %shapes = (
        'an enumeration for a status' => [ 'public.shape_enum', 'shape_enum', <<'SQL' ],
CREATE TYPE outcome AS ENUM ('queued', 'failed', 'dead');
CREATE TABLE shape_enum (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), status outcome, attempts int, max_attempts int,
    finished_at timestamptz, last_error varchar(100));
SQL
        'a status of fixed length' => [ 'public.shape_char', 'shape_char', <<'SQL' ],
CREATE TABLE shape_char (id text PRIMARY KEY DEFAULT gen_random_uuid(), status char(10), attempts bigint,
    max_attempts bigint, finished_at timestamptz, last_error text,
    payload json DEFAULT '{"chain_started_at": "2026-01-01"}');
SQL
        'a partitioned table' => [ 'public.shape_parts', 'shape_parts', <<'SQL' ],
CREATE TABLE shape_parts (id bigserial PRIMARY KEY, status text, attempts int, max_attempts int,
    finished_at timestamptz, last_error text) PARTITION BY RANGE (id);
CREATE TABLE shape_parts_1 PARTITION OF shape_parts FOR VALUES FROM (1) TO (2);
CREATE TABLE shape_parts_2 PARTITION OF shape_parts DEFAULT;
SQL
        'no column but the needed ones' => [ 'public.shape_bare', 'shape_bare', <<'SQL' ],
CREATE TABLE shape_bare (status varchar PRIMARY KEY, attempts smallint, max_attempts smallint, finished_at timestamptz,
    last_error xml, payload text);
SQL
        'domains, and an error that is no text' => [ 'public.shape_domain', 'shape_domain', <<'SQL' ],
CREATE DOMAIN outcome_text AS text CHECK (value IN ('failed', 'dead', 'done'));
CREATE DOMAIN number AS smallint CHECK (value >= 0);
CREATE DOMAIN moment AS timestamptz;
CREATE DOMAIN document AS jsonb;
CREATE TABLE shape_domain (id bigserial PRIMARY KEY, status outcome_text, attempts number, max_attempts number,
    finished_at moment, last_error jsonb DEFAULT '{"class": "Timeout"}', payload document DEFAULT '{"chain_started_at": "now"}');
SQL
        'a domain over an enumeration' => [ 'public.shape_label', 'shape_label', <<'SQL' ],
CREATE TYPE label AS ENUM ('done', 'failed', 'dead');
CREATE DOMAIN known_label AS label NOT NULL;
CREATE TABLE shape_label (id bigserial PRIMARY KEY, status known_label, attempts int, max_attempts int,
    finished_at timestamptz);
SQL
        'odd names' => [ q('"Ödd ""schema"""."Jobs, ''old''; --%s"'::regclass), q(Jobs, 'old'; --%s), <<'SQL' ],
CREATE SCHEMA "Ödd ""schema""";
CREATE TABLE "Ödd ""schema"""."Jobs, 'old'; --%s" ("Job ""Id""" bigserial PRIMARY KEY, status text, attempts int,
    max_attempts int, finished_at timestamptz, last_error text, source text DEFAULT 'x');
SQL
    );
    for my $shape (sort keys %shapes) {
        my ($table, $queue, $definition) = @{ $shapes{$shape} };
        my $argument = $table =~ /regclass/ ? $table : "'$table'";
        unicode_sql($definition);
        is unicode_sql("SELECT job_alerting.watch($argument)"), $queue, "$shape: watched";
        my $name = unicode_sql("SELECT $argument" . '::regclass');
        unicode_sql("INSERT INTO $name (status, attempts, max_attempts, finished_at)"
              . q( VALUES ('failed', 3, 3, now()), ('dead', 1, 3, now())));
        my ($row) = round();
        is_deeply [ @$row{qw(outcome failures)} ], [ 'accepted', 2 ], "$shape: reported";
        is unicode_sql('SELECT count(*) FROM job_alerting.failure WHERE queue = ' . quoted($queue)), 2, "$shape: recorded";
        tells([], [], "$shape: once");
    }
    is unicode_sql(q(SELECT DISTINCT chain FROM job_alerting.failure WHERE queue = 'shape_char')), '2026-01-01',
      'a chain from json';
    is unicode_sql(q(SELECT DISTINCT error, chain FROM job_alerting.failure WHERE queue = 'shape_domain')), '{"class": "Timeout"}|now',
      'and an error, a chain from a domain';
};

subtest 'job_id and queue names may be any text' => sub {
    my $queue = q(quoted' "queue" \\ naïve/🐌 :1);
    my @ids = ('', ' ', q('), q("), q(''"\\), '\\n', "two\nlines", "a\tb", '1:1', ':', '%s{{job_id}}', '🐌',
        "e\x{301}", "\x{e9}", 'unreadable', "\x{202e}evil", 'x' x 200, '{a,b}', 'NULL', '<b>');
    unicode_sql('CREATE TABLE odd (id text PRIMARY KEY, failed_at timestamptz)');
    my $query = 'SELECT id AS job_id, failed_at FROM public.odd -- all';
    is unicode_sql('SELECT job_alerting.watch_query(' . join(', ', map { quoted($_) } $queue, $query) . ')'), $queue,
      'watched, by a query that ends in a comment';
    unicode_sql('INSERT INTO odd VALUES ' . join ', ', map { '(' . quoted($_) . ', now())' } @ids);
    my ($row) = round();
    is_deeply [ @$row{qw(outcome failures)} ], [ 'accepted', scalar @ids ], 'its failure is reported';
    is unicode_sql('SELECT count(*) FROM job_alerting.failure f JOIN odd ON f.job_id = odd.id'
          . ' WHERE f.queue = ' . quoted($queue)), scalar @ids, 'recorded as they are';
    tells([], [], 'once');
    is unicode_sql('SELECT job_alerting.unwatch(' . quoted($queue) . ', true)'), 't', 'forgotten';
};

# A text that is too long for an index, because it cannot be compressed.
sub long_text {
    my ($length) = @_;
    my ($seed, $text) = (1, '');
    $text .= chr(33 + ($seed = $seed * 16807 % 2147483647) % 90) while length $text < $length;
    return $text;
}

subtest 'a job_id, an occurrence or a name that is too long for an index breaks nothing' => sub {
    JobAlerting::configure($node, job_url => 'https://admin.example.com/jobs/{job_id}');
    my $name = "\x{1f40c}" x 200;
    my $long = long_text(2700);
    my %twins = map { $_ => $long . $_ } qw(a b);
    unicode_sql('CREATE TABLE endless (id text, run text, failed_at timestamptz)');
    unicode_sql('SELECT job_alerting.watch_query(' . quoted($name)
          . ", 'SELECT id AS job_id, run AS occurrence, failed_at FROM public.endless')");
    my $insert = sub { unicode_sql('INSERT INTO endless VALUES (' . join(', ', map { defined ? quoted($_) : 'NULL' } @_) . ', now())') };
    $insert->($_, undef) for 'short', @twins{qw(a b)}, "\x{1f40c}" x 2700;
    $insert->('runs', $_) for @twins{qw(a b)};
    # No stored value may be longer than a megabyte at the end.
    unicode_sql(q(INSERT INTO endless SELECT string_agg(gen_random_uuid()::text, ''), repeat(gen_random_uuid()::text, 30000), now()
        FROM generate_series(1, 30000)));
    my $before = $stub->count;
    my ($row) = round();
    is_deeply [ @$row{qw(outcome failures)} ], [ 'accepted', 7 ], 'each failure is reported';
    is queue($name)->{last_error}, undef, 'the queue can be read';
    is unicode_sql(q(SELECT max(octet_length(job_id)) <= 875 AND max(octet_length(occurrence)) <= 875, count(DISTINCT (job_id, occurrence))
        FROM job_alerting.failure WHERE queue = ) . quoted($name)), 't|7', 'no stored key is too long, and all differ';
    my ($known) = grep { /^\Q@{[ substr $long, 0, 200 ]}\E\.\.\. sha256 / } split /\n/, unicode_sql('SELECT job_id FROM job_alerting.failure');
    is $known =~ s/.* sha256 //r, unicode_sql("SELECT encode(sha256(convert_to(id, 'UTF8')), 'hex') FROM endless WHERE id = " . quoted($twins{a})),
      'the stored key ends with a hash of the whole';
    my @links = ($stub->requests)[$before]{json}{content}[1]{value} =~ m{"(https://admin[^"]*)"}g;
    is_deeply [ sort @links ], [ map { "https://admin.example.com/jobs/$_" } qw(runs runs short) ], 'a job whose id is cut has no link';
    tells([$name], [], 'once');
    unicode_sql('DELETE FROM endless WHERE id = ' . quoted($twins{b}));
    tells([$name], [], 'one is gone');
    my $cleared = sub { unicode_sql('SELECT count(*) FROM job_alerting.failure WHERE cleared_at IS NOT NULL AND queue = ' . quoted($name)) };
    is $cleared->(), 1, 'this clears only that failure';
    unicode_sql('UPDATE endless SET failed_at = NULL WHERE id = ' . quoted($twins{a}));
    is +(round())[0]{failures}, 1, 'a job fails again without failed_at';
    is $cleared->(), 2, 'this clears its earlier failure';
    tells([$name], [], 'once');
    is unicode_sql('SELECT job_alerting.unwatch(' . quoted($name) . ', true)'), 't', 'forgotten';
    JobAlerting::configure($node, job_url => '');
};

subtest 'recorded failures of the last queue are delivered after it was unwatched' => sub {
    my $job = fail_job();
    $stub->mode('401');
    round();
    unicode_sql('SELECT job_alerting.unwatch(name) FROM job_alerting.queue');
    $stub->mode('202');
    tells(['research_jobs'], ["research_jobs/$job"], 'delivered, with no queue watched');
    my $status = $node->psql('postgres', 'SELECT job_alerting.run_digest()', stderr => \my $error);
    isnt $status, 0, 'the next round is refused';
    like $error, qr/ERROR:  no queue is watched.*HINT:  Call job_alerting\.watch/s, 'with a hint';
};

$node->stop;
done_testing();
