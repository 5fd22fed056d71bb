# Tables of every shape that watch() accepts: their failures are reported for any names of tables and
# columns, and for any values in their rows.

use strict;
use warnings;
use utf8;

use Encode qw(decode_utf8 encode_utf8);
use FindBin;
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting qw(unicode_sql);

my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub);
$node->safe_psql('postgres', 'CREATE EXTENSION job_alerting');

# The server's messages, a line each.
sub said {
    my ($statement) = @_;
    local $ENV{PGCLIENTENCODING} = 'UTF8';
    my ($status, undef, $said) = $node->psql('postgres', encode_utf8($statement));
    is $status, 0, 'no error' or diag $said;
    return decode_utf8($said) =~ s/^psql:<stdin>:\d+: //gmr;
}

sub logged {
    return PostgreSQL::Test::Utils::slurp_file($node->logfile);
}

sub name {
    my ($name) = @_;
    return '"' . $name =~ s/"/""/gr . '"';
}

sub text {
    my ($text) = @_;
    return q(') . $text =~ s/'/''/gr . q(');
}

# Creates a table with all columns that watch() knows, and others. It has two chains: one ran to its end,
# one broke. Returns its quoted name.
sub create {
    my ($schema, $table, $key, @others) = @_;
    my $name = name($schema) . '.' . name($table);
    my $others = join '', map { ", $_" } @others;
    my $columns = name($key) . ', status, finished_at, attempts, max_attempts, source, job_type, target_type, last_error, payload';
    unicode_sql(<<"SQL");
CREATE SCHEMA IF NOT EXISTS @{[ name($schema) ]};
CREATE TABLE $name (@{[ name($key) ]} int PRIMARY KEY, status text, finished_at timestamptz, attempts int, max_attempts int,
    source text, job_type text, target_type text, target_id uuid, last_error text, payload jsonb $others);
INSERT INTO $name ($columns)
SELECT v.*, jsonb_build_object('chain_started_at', chain) FROM (VALUES ('past'), ('now')) c(chain), LATERAL (VALUES
    (1 + 10 * (chain = 'now')::int, 'done', now() - interval '2 hours', 1, 3, 's', 'a', 'x', NULL),
    (2 + 10 * (chain = 'now')::int, CASE chain WHEN 'now' THEN 'dead' ELSE 'done' END, now() - interval '1 hours', 1, 3, 's', 'b', 'x', 'boom'),
    (3 + 10 * (chain = 'now')::int, 'done', now(), (chain = 'past')::int, 3, 's', 'c', 'x', NULL)) v;
SQL
    return $name;
}

# Every name that the generated queries use and that a column can have.
my @ours = qw(j q k s d f n e recent placed usual ran begun one other steps chain step ended place first rank key
  is_new standing found before soon job_id failed_at occurrence error never_ran steps_never_ran chain_of_steps t c);
my @reserved = qw(select user order table end group limit from offset where left window);
my @odd = ('a"b', q(a'b), 'a.b', 'a b', 'A', '$1', "a\nb", "a\n  FROM public.x j\n", 'ä' x 31, 'x' x 63, 'a\\b', '::text AS job_id,', ';--');

subtest 'failures are reported for any names of a table, its schema and its columns' => sub {
    my @tables;
    for my $word (@ours, @reserved, @odd) {
        push @tables, create('jobs', $word, 'id', map { name($_) . ' text' } grep { $_ ne 'id' } @ours);
        push @tables, create('jobs', substr("key $word", 0, 35), $word, 'j text') if $word ne 'j';
    }
    push @tables, create($_, 'jobs of ' . ord, 'id') for qw(select j s"q), 's.q';
    unicode_sql('CREATE TYPE whole AS (id text, status text, finished_at timestamptz, attempts int, max_attempts int, payload jsonb, source text)');
    push @tables, create('jobs', 'composite', 'id', map { name($_) . ' whole' } @ours);

    my $watch = join "\n", map { 'SELECT job_alerting.watch(' . text($_) . ', ' . text("q$_") . ');' } 0 .. $#tables;
    $watch =~ s/watch\('(\d+)'/'watch(' . text($tables[$1])/ge;
    is scalar(split /\n/, unicode_sql($watch)), scalar @tables, @tables . ' tables are watched';
    my ($row) = JobAlerting::run_digest($node);
    is "$row->{outcome} $row->{failures}", 'accepted ' . @tables, 'the failure of each table is reported';
    is unicode_sql(q(SELECT count(DISTINCT queue) FROM job_alerting.failure WHERE job_id = '12' AND chain = 'now' AND never_ran = '{s/c x}')),
      @tables, 'with its chain and the steps that never ran';
    ok !(grep { $_->{state} ne 'ok' && $_->{item} =~ /queue/ } JobAlerting::rows($node, undef, 'SELECT * FROM job_alerting.check()')),
      'check() finds no problem with any table';
    unicode_sql('SELECT job_alerting.unwatch(name, true) FROM job_alerting.queue; DROP SCHEMA jobs CASCADE');
};

# One round. Returns these columns of the failures in its digest, by job.
sub told {
    my ($queue, $columns) = @_;
    my ($row) = JobAlerting::run_digest($node);
    is $row->{outcome}, 'accepted', 'a digest';
    return unicode_sql("SELECT job_id, $columns FROM job_alerting.failure
        WHERE queue = '$queue' AND id IN (SELECT id FROM job_alerting.digest_failure WHERE digest_id = $row->{digest_id})
        ORDER BY job_id::int");
}

subtest 'JSON that cannot be converted to text hides no failure and no other chain' => sub {
    unicode_sql(<<'SQL');
CREATE TABLE odd_json (id int PRIMARY KEY, status text, finished_at timestamptz DEFAULT now(), attempts bigint DEFAULT 3,
    max_attempts bigint DEFAULT 3, source text DEFAULT 's', last_error json, payload json);
INSERT INTO odd_json (id, status, payload) VALUES (1, 'done', '{"chain_started_at": "old", "x": "\u0000"}');
SELECT job_alerting.watch('odd_json');
INSERT INTO odd_json (id, status, last_error, payload)
SELECT 10 + n, 'dead', '"\u0000"', format('{"chain_started_at": "now", "x": "%s"}', x)::json
FROM unnest(ARRAY['plain', '\u00e9', '\ud83d\ude00', '\ud83d\ude00\ud83d\ude00', '\ud83d', '\ude00', '\ude00\ud83d', '\ud83dx', '\u0000', '\\u0000'])
    WITH ORDINALITY v(x, n);
UPDATE odd_json SET attempts = 3000000000, max_attempts = -3000000000 WHERE id = 11;
SQL
    is told('odd_json', 'coalesce(chain, \'-\'), attempts, max_attempts, error') =~ s/\|3\|3\|"\\u0000"$//gmr,
      "11|now|2147483647|-2147483648|\"\\u0000\"\n12|now\n13|now\n14|now\n15|-\n16|-\n17|-\n18|-\n19|-\n20|-", 'all are reported';
    unlike logged(), qr/without chain/, 'the query returns them without an error';
    unicode_sql(q(SELECT job_alerting.unwatch('odd_json')));
};

subtest 'a failure is reported without the columns that cannot be read' => sub {
    unicode_sql(<<'SQL');
CREATE TYPE odd AS (a text);
CREATE FUNCTION odd_text(odd) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN IF $1.a = 'bad' THEN RAISE 'no text for it' USING DETAIL = 'It is odd.'; END IF; RETURN $1.a; END $$;
CREATE CAST (odd AS text) WITH FUNCTION odd_text(odd);
CREATE TABLE odd_source (id int PRIMARY KEY, status text, finished_at timestamptz DEFAULT now(), attempts int DEFAULT 3,
    max_attempts int, source odd, job_type text DEFAULT 't', target_type odd, last_error text DEFAULT 'boom', payload jsonb);
INSERT INTO odd_source VALUES (0, 'done', now(), 1, 1, '(bad)', 't', NULL, NULL, '{"chain_started_at": "old"}');
SQL
    like said(q(SELECT job_alerting.watch('odd_source'))), qr/\A\z/, 'the failed rows can be read';
    my $columns = 'source, job_type, target_type, error, chain, never_ran';
    unicode_sql(q(INSERT INTO odd_source (id, status, source, payload) VALUES (1, 'dead', '(good)', '{"chain_started_at": "c"}')));
    is told('odd_source', $columns), '1|good|t||boom|c|', 'an unreadable row of another job leaves out never_ran only';
    like logged(), qr/LOG:  job_alerting recorded new failures of queue "odd_source" without never_ran: no text for it\. It is odd\.$/m, 'the log says so';
    unicode_sql(q(INSERT INTO odd_source (id, status, source, target_type) VALUES (2, 'dead', '(bad)', '(good)'), (3, 'dead', '(good)', '(good)')));
    is told('odd_source', $columns), "2||t|good|boom||\n3||t|good|boom||", 'an unreadable column is left out for the whole round';
    is unicode_sql(q(SELECT last_error IS NULL FROM job_alerting.queue WHERE name = 'odd_source')), 't', 'the queue is not broken';
    unicode_sql(q(INSERT INTO odd_source (id, status, source, target_type) VALUES (4, 'dead', '(bad)', '(bad)')));
    is told('odd_source', $columns), '4||t||boom||', 'two unreadable columns are left out';
    unicode_sql(q(INSERT INTO odd_source (id, status, source) VALUES (5, 'dead', '(good)')));
    is told('odd_source', $columns), '5|good|t||boom||', 'the column is read again in the next round';
    like said(q(SELECT job_alerting.watch('odd_source'))),
      qr/WARNING:  queue "odd_source" is watched, but not all of its columns can be read: source, target_type, never_ran\nDETAIL:  The error was: no text for it\. It is odd\./, 'watch() warns';
    my ($finding) = grep { $_->{item} eq 'columns of queue odd_source' } JobAlerting::rows($node, undef, 'SELECT * FROM job_alerting.check()');
    is "$finding->{state}: $finding->{detail}", 'warning: new failures are recorded without source, target_type, never_ran: no text for it. It is odd.', 'check() warns';
    my (undef, undef, $error) = $node->psql('postgres', q(SELECT job_alerting.watch_query('q', 'SELECT (1 / 0)::text AS job_id, now() AS failed_at')));
    like $error, qr/ERROR:  division by zero/, 'a row without job_id breaks the queue';
    unicode_sql(q(SELECT job_alerting.unwatch('odd_source')));
};

subtest 'watch() and check() name statuses of finished jobs that no rule knows' => sub {
    unicode_sql('CREATE TABLE spoken (id int PRIMARY KEY, status text, finished_at timestamptz, attempts int, max_attempts int, last_error text)');
    is said(q(SELECT job_alerting.watch('spoken'))), '', 'an empty table';
    unicode_sql("INSERT INTO spoken VALUES (1, 'done', now(), 1, 3), (2, ' Completed ', now(), 1, 3), (3, 'DEAD', now(), 1, 3), (4, 'odd', NULL, 1, 3), (5, NULL, now(), 1, 3), (6, 'queued', now(), 1, 3)");
    is said(q(SELECT job_alerting.watch('spoken'))), '', 'known statuses, and a job that has not ended, are not named';
    unicode_sql("INSERT INTO spoken VALUES (7, 'Discarded ', now(), 1, 3), (8, E'er\e[1m\x{202e}ror', NULL, 3, 3), (9, repeat('x', 100), now(), 1, 3), (10, 'discarded', now(), 1, 3)");
    my $words = '"discarded", "er??1m?ror", "' . 'x' x 40 . '"';
    like said(q(SELECT job_alerting.watch('spoken'))),
      qr/\AINFO:  table "spoken" has jobs of a status that no rule knows: \Q$words\E\nDETAIL: .*\nHINT:  .*watch_query/s, 'the statuses are cleaned and clipped';
    my ($finding) = grep { $_->{item} eq 'statuses of queue spoken' } JobAlerting::rows($node, undef, 'SELECT * FROM job_alerting.check()');
    like "$finding->{state}: $finding->{detail}", qr/\Awarning: .*not reported: \Q$words\E\z/, 'check()';
    unicode_sql(q(SELECT job_alerting.unwatch('spoken'); DROP TABLE spoken;
        CREATE TABLE spoken (id int PRIMARY KEY, status text, finished_at timestamptz, attempts int, max_attempts int) PARTITION BY RANGE (id);
        CREATE TABLE spoken_1 PARTITION OF spoken FOR VALUES FROM (0) TO (100);
        INSERT INTO spoken VALUES (1, 'lost', now(), 1, 3)));
    like said(q(SELECT job_alerting.watch('spoken'))), qr/no rule knows: "lost"/, 'in a partition';
    unicode_sql(q(SELECT job_alerting.unwatch('spoken')));
};

subtest 'watch() and watch_query() warn where rows may be hidden' => sub {
    unicode_sql(<<'SQL');
CREATE ROLE keeper;
CREATE TABLE kept (id text, status text, failed_at timestamptz);
ALTER TABLE kept OWNER TO keeper;
CREATE VIEW seen AS SELECT * FROM kept WHERE id <> 'x';
CREATE EXTENSION postgres_fdw;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw;
CREATE USER MAPPING FOR PUBLIC SERVER elsewhere OPTIONS (user 'postgres', password_required 'false');
CREATE FOREIGN TABLE far (id text, failed_at timestamptz) SERVER elsewhere OPTIONS (table_name 'kept');
SQL
    my ($host, $port) = ($node->host, $node->port);
    my $user = unicode_sql('SELECT current_user');
    unicode_sql("ALTER SERVER elsewhere OPTIONS (ADD host '$host', ADD port '$port', ADD dbname 'postgres'); ALTER USER MAPPING FOR PUBLIC SERVER elsewhere OPTIONS (SET user '$user')");
    my $watch = sub { said("SELECT job_alerting.watch_query('place', 'SELECT id AS job_id, failed_at FROM public.$_[0]'" . ($_[1] // '') . ')') };
    is $watch->('kept'), '', 'a table';
    like $watch->('seen'), qr/\AINFO:  queue "place" reads a view: public\.seen\nDETAIL/, 'a view';
    like $watch->('far'), qr/\AINFO:  queue "place" reads a remote server: public\.far\nDETAIL/, 'a foreign table';
    my ($finding) = grep { $_->{item} eq 'sources of queue place' } JobAlerting::rows($node, undef, 'SELECT * FROM job_alerting.check()');
    is "$finding->{state}: $finding->{detail}", 'ok: it reads a remote server: public.far', 'check() warns, too';
    unicode_sql('ALTER TABLE kept ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY');
    like $watch->('kept', q(, owner => 'keeper')), qr/\AWARNING:  row-level security may hide rows from queue "place"\nDETAIL:  Policies of public\.kept apply to role "keeper"/, 'row-level security';
    unicode_sql(q(SELECT job_alerting.unwatch('place')));
};

subtest 'an invisible name is refused' => sub {
    for my $name (' ', "\t \n", "\x{200b}\x{feff}", "\x{200d}\x{200c}", "\x{a0}\x{3000}", "\x{ad}", "\x{1f40c}") {
        local $ENV{PGCLIENTENCODING} = 'UTF8';
        my (undef, undef, $error) = $node->psql('postgres', encode_utf8("SELECT job_alerting.watch_query('$name', 'SELECT NULL::text AS job_id, NULL::timestamptz AS failed_at WHERE false')"));
        my $expected = $name eq "\x{1f40c}" ? qr/\A\z/ : qr/ERROR:  the name of a queue is blank/;
        like $error, $expected, sprintf 'U+%04X', ord $name;
    }
    unicode_sql(q(SELECT job_alerting.unwatch(name) FROM job_alerting.queue));
};

subtest 'a queue that can be read again is reported once: in the log and in the next digest' => sub {
    unicode_sql('CREATE TABLE mended (id text, failed_at timestamptz)');
    unicode_sql(q(SELECT job_alerting.watch_query('mended', 'SELECT id AS job_id, failed_at FROM public.mended')));
    my $mail = sub { my $before = $stub->count; JobAlerting::run_digest($node); return JobAlerting::text_part(($stub->requests)[$before] // return '') };
    unicode_sql('ALTER TABLE mended RENAME TO away');
    unicode_sql('CREATE FUNCTION raising() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE $x$gone$x$ USING DETAIL = $x$Since May.$x$; END $$');
    unicode_sql('CREATE VIEW mended AS SELECT raising() AS id, now() AS failed_at');
    like $mail->(), qr/queue mended could not be read.*\| gone\. Since May\.$/ms, 'broken, with the detail of the error';
    is unicode_sql(q(SELECT last_error FROM job_alerting.queue)), 'gone. Since May.', 'its row has the same text';
    like unicode_sql('SELECT reason FROM job_alerting.status'), qr/cannot be read: gone\. Since May\./, 'and the status';
    is unicode_sql('SELECT detail FROM job_alerting.run_digest()'), 'queue mended cannot be read: gone. Since May.', 'and run_digest()';
    unicode_sql('DROP VIEW mended; ALTER TABLE away RENAME TO mended');
    is $mail->(), '', 'it causes no mail by itself';
    is $mail->(), '', 'nor does the round after it';
    my @said = logged() =~ /LOG:  (job_alerting can read queue "mended" again)/g;
    is scalar @said, 1, 'the log has one line';
    unicode_sql(q(INSERT INTO mended VALUES ('1', now())));
    like $mail->(), qr/Queue mended has been readable again since\s+\d{4}-/, 'the next digest mentions it';
    unicode_sql(q(INSERT INTO mended VALUES ('2', now())));
    unlike $mail->(), qr/readable again/, 'the digest after that does not';
    unicode_sql(q(SELECT job_alerting.unwatch('mended')));
};

$node->stop;
done_testing();
