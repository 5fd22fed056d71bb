# Tables of every shape that watch() takes: whatever they and their columns are called, and whatever
# stands in their rows, their failures are told.

use strict;
use warnings;
use utf8;

use Encode qw(decode_utf8 encode_utf8);
use FindBin;
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting;

my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub);
$node->safe_psql('postgres', 'CREATE EXTENSION job_alerting');

# Statements and results are characters here, and bytes on their way.
sub sql {
    my ($statement) = @_;
    local $ENV{PGCLIENTENCODING} = 'UTF8';
    return decode_utf8($node->safe_psql('postgres', encode_utf8($statement)));
}

# What the server said beside the result, in a line each.
sub said {
    my ($statement) = @_;
    local $ENV{PGCLIENTENCODING} = 'UTF8';
    my ($status, undef, $said) = $node->psql('postgres', encode_utf8($statement));
    is $status, 0, 'no error' or diag $said;
    return decode_utf8($said);
}

sub name {
    my ($name) = @_;
    return '"' . $name =~ s/"/""/gr . '"';
}

sub text {
    my ($text) = @_;
    return q(') . $text =~ s/'/''/gr . q(');
}

# A table that has all columns that watch() knows, and others; with two chains, of which one ran to
# its end and one broke. Returns its name as a statement has it.
sub create {
    my ($schema, $table, $key, @others) = @_;
    my $name = name($schema) . '.' . name($table);
    my $others = join '', map { ", $_" } @others;
    my $columns = name($key) . ', status, finished_at, attempts, max_attempts, source, job_type, target_type, last_error, payload';
    sql(<<"SQL");
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

# All that the generated queries have a name of their own for, as far as a column can have it.
my @ours = qw(j q k s d f n e recent placed usual ran begun one other steps chain step ended place first rank key
  is_new standing found before soon job_id failed_at occurrence error never_ran steps_never_ran chain_of_steps t c);
my @reserved = qw(select user order table end group limit from offset where left window);
my @odd = ('a"b', q(a'b), 'a.b', 'a b', 'A', '$1', "a\nb", "a\n  FROM public.x j\n", 'ä' x 31, 'x' x 63, 'a\\b', '::text AS job_id,', ';--');

subtest 'whatever a table, its schema and its columns are called, its failures are told' => sub {
    my @tables;
    for my $word (@ours, @reserved, @odd) {
        push @tables, create('jobs', $word, 'id', map { name($_) . ' text' } grep { $_ ne 'id' } @ours);
        push @tables, create('jobs', substr("key $word", 0, 35), $word, 'j text') if $word ne 'j';
    }
    push @tables, create($_, 'jobs of ' . ord, 'id') for qw(select j s"q), 's.q';
    sql('CREATE TYPE whole AS (id text, status text, finished_at timestamptz, attempts int, max_attempts int, payload jsonb, source text)');
    push @tables, create('jobs', 'composite', 'id', map { name($_) . ' whole' } @ours);

    my $watch = join "\n", map { 'SELECT job_alerting.watch(' . text($_) . ', ' . text("q$_") . ');' } 0 .. $#tables;
    $watch =~ s/watch\('(\d+)'/'watch(' . text($tables[$1])/ge;
    is scalar(split /\n/, sql($watch)), scalar @tables, @tables . ' tables are watched';
    my ($row) = JobAlerting::run_digest($node);
    is "$row->{outcome} $row->{failures}", 'accepted ' . @tables, 'the failure of each is told';
    is sql(q(SELECT count(DISTINCT queue) FROM job_alerting.failure WHERE job_id = '12' AND chain = 'now' AND never_ran = '{s/c x}')),
      @tables, 'with its chain, and what of that never ran';
    ok !(grep { $_->{state} ne 'ok' && $_->{item} =~ /queue/ } JobAlerting::rows($node, undef, 'SELECT * FROM job_alerting.check()')),
      'check() finds nothing wrong with any';
    sql('SELECT job_alerting.unwatch(name, true) FROM job_alerting.queue; DROP SCHEMA jobs CASCADE');
};

$node->stop;
done_testing();
