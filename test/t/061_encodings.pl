# Databases of other encodings than UTF-8. Whatever bytes a job's error is made of, it is told, and
# so are the others; a character that UTF-8 does not have becomes a question mark.

use strict;
use warnings;
use utf8;

use Encode ();
use FindBin;
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting qw(log_from_now);

my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub, conf => q(job_alerting.channels = 'log, sendgrid'));

sub create_database {
    my ($encoding) = @_;
    my $db = lc $encoding;
    $node->safe_psql('postgres', "CREATE DATABASE $db ENCODING '$encoding' LOCALE 'C' TEMPLATE template0");
    JobAlerting::create_jobs($node, $db);
    return $db;
}

# A failed job whose error is just these bytes, whatever they mean.
sub fail_with {
    my ($db, $bytes, %columns) = @_;
    my $literal = join '', map { sprintf '\\x%02x', ord } split //, $bytes;
    return JobAlerting::fail_job($node, db => $db, last_error => \"E'$literal'", %columns);
}

# One round through both channels: what they made of it, the mail that came, and what was logged.
sub round {
    my ($db) = @_;
    my $before = $stub->count;
    my $logged = log_from_now();
    my @rows = JobAlerting::run_digest($node, $db);
    my @mails = ($stub->requests)[ $before .. $stub->count - 1 ];
    return {
        outcomes => join(' ', map { "$_->{channel}:$_->{outcome}:$_->{failures}" } @rows),
        mails    => scalar @mails,
        mail     => $mails[0],
        log      => $logged->(),
    };
}

# Both channels told these jobs; the mail is one that SendGrid accepts.
sub tells {
    my ($round, $jobs, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $count = @$jobs;
    is $round->{outcomes}, "log:accepted:$count sendgrid:accepted:$count", "$name: both channels";
    is $round->{mails}, 1, "$name: one mail" or return;
    is $round->{mail}{verdict}, '202 ok', "$name: which is as it must be";
    ok defined eval { Encode::decode('UTF-8', "$round->{mail}{body}", Encode::FB_CROAK) }, "$name: valid UTF-8";
    unlike $round->{mail}{body}, qr/\xEF\xBF\xBD/, "$name: no replacement characters";
    is_deeply [ sort { $a <=> $b } JobAlerting::named_jobs($round->{mail}) ], $jobs, "$name: every job";
    like $round->{log}, qr/\bjob $_\s+in\s+research_jobs/, "$name: job $_ is logged"
      for @$jobs;
    return;
}

sub is_silent {
    my ($db) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is round($db)->{outcomes}, 'log:silent:0 sendgrid:silent:0', 'then silence';
}

sub bytes_of {
    my ($encoding, $text) = @_;
    return Encode::encode($encoding, $text, Encode::FB_CROAK);
}

# The text part of a mail, without its line breaks.
sub words {
    my ($round) = @_;
    return JobAlerting::text_part($round->{mail}) =~ s/\n\s*(?:\| ?)?/ /gr =~ s/ +/ /gr;
}

sub html_part {
    my ($round) = @_;
    my ($html) = grep { $_->{type} eq 'text/html' } @{ $round->{mail}{json}{content} };
    return $html->{value};
}

subtest 'WIN1252: a byte that stands for no character is told as a question mark' => sub {
    my $db = create_database('WIN1252');
    my @jobs = (
        fail_with($db, bytes_of('cp1252', 'vorher Größe 5 €')),
        fail_with($db, "kaputt:\x81:hier"),
        fail_with($db, "\x81\x8d\x8f\x90\x9d"),
        fail_with($db, 'danach'),
    );
    is $node->safe_psql($db, "SELECT length(last_error) FROM research_jobs WHERE id = $jobs[2]"), 5,
      'the server has taken each of the bytes for a character';
    isnt $node->psql($db, "SET client_encoding = 'UTF8'; SELECT last_error FROM research_jobs"), 0,
      'and has no UTF-8 for it';
    my $round = round($db);
    tells($round, \@jobs, 'a digest');
    my $words = words($round);
    like $words, qr/vorher Größe 5 €/, 'what has an equivalent is that';
    like $words, qr/kaputt:\?:hier/, 'what has none is ?';
    like $words, qr/ \?{5} /, 'each of them';
    like html_part($round), qr/kaputt:\?:hier/, 'also in the other part';
    like $round->{log}, qr/kaputt:\?:hier/, 'and in the log,';
    my $logged = bytes_of('cp1252', 'vorher Größe 5 €');
    like $round->{log}, qr/\Q$logged\E/, 'which has the encoding of the database';
    is_silent($db);
};

subtest 'WIN1252: such bytes in the other columns, in many places of a long error' => sub {
    my $db = 'win1252';
    my $long = join '', map { ("x" x 1022) . "\x81" } 1 .. 3;
    my @jobs = (
        fail_with($db, $long, source => \q(E'Apf\x81el')),
        fail_with($db, "\x81" x 4000, job_type => \q(E'\x81'), target_type => \q(E'\x81\x81')),
        fail_with($db, 'danach', source => \q(E'\xc4pfel')),
    );
    my $round = round($db);
    tells($round, \@jobs, 'a digest');
    like words($round), qr/Apf\?el/, '? in the source';
    like words($round), qr/Äpfel/, 'and an umlaut that is one';
    is_silent($db);
};

subtest 'WIN1252: a queue whose name has no equivalent is told, and stops no other' => sub {
    my $db = 'win1252';
    $node->safe_psql($db, <<'SQL');
SELECT job_alerting.watch_query(E'q\x81', $$SELECT E'j\x81' AS job_id, now() AS failed_at, 'x' AS occurrence$$);
SQL
    my $job = fail_with($db, 'auch da');
    my $round = round($db);
    is $round->{outcomes}, 'log:accepted:2 sendgrid:accepted:2', 'both channels';
    like words($round), qr/job j\?,? in q\?/, 'the job and its queue';
    is_deeply [ JobAlerting::named_jobs($round->{mail}) ], [$job], 'and the other';
    is_silent($db);
    $node->safe_psql($db, q(SELECT job_alerting.unwatch(E'q\x81')));
};

subtest 'LATIN1: umlauts are umlauts' => sub {
    my $db = create_database('LATIN1');
    my @jobs = (
        fail_with($db, bytes_of('iso-8859-1', 'Tür geöffnet: ÄÖÜ ß ÿ'), source => \q(E'M\xfcnchen')),
        fail_with($db, 'danach'),
    );
    my $round = round($db);
    tells($round, \@jobs, 'a digest');
    like words($round), qr/Tür geöffnet: ÄÖÜ ß ÿ/, 'in the text';
    like words($round), qr/München/, 'of every column';
    like html_part($round), qr/geöffnet/, 'in the other part';
    like $round->{log}, qr/\Q${\ bytes_of('iso-8859-1', 'Tür geöffnet: ÄÖÜ ß ÿ') }\E/, 'in the log, as LATIN1';
    is_silent($db);
};

subtest 'EUC_JP: a character of several bytes without an equivalent is one question mark' => sub {
    my $db = create_database('EUC_JP');
    my @jobs = (
        fail_with($db, bytes_of('euc-jp', '日本語') . ":\xA9\xA1:" . bytes_of('euc-jp', '失敗')),
        fail_with($db, 'x' . bytes_of('euc-jp', 'あ') x 1500),
    );
    my $round = round($db);
    tells($round, \@jobs, 'a digest');
    like words($round), qr/日本語:\?:失敗/, 'between the others';
    unlike words($round) =~ s/日本語:\?:失敗//r, qr/\?/, 'and no other is one';
    is_silent($db);
};

# The server has no conversion between it and UTF-8, and takes no client that speaks that.
subtest 'MULE_INTERNAL: ASCII is told as it is, and any other character as a question mark' => sub {
    local $ENV{PGCLIENTENCODING} = 'SQL_ASCII';
    my $db = create_database('MULE_INTERNAL');
    my $umlaut = "\x81\xfc"; # of LATIN1
    my @jobs = (fail_with($db, "M${umlaut}nchen" . " ok$umlaut" x 900), fail_with($db, 'danach'));
    my $came = $stub->from_now;
    my $run = 'SELECT channel, outcome, failures FROM job_alerting.run_digest()';
    is $node->safe_psql($db, $run), "log|accepted|2\nsendgrid|accepted|2", 'both channels';
    my ($mail) = $came->();
    is $mail->{verdict}, '202 ok', 'a mail as it must be';
    is_deeply [ sort { $a <=> $b } JobAlerting::named_jobs($mail) ], \@jobs, 'with every job';
    like words({ mail => $mail }), qr/M\?nchen ok\? ok\?/, 'each character in its place';
    is $node->safe_psql($db, $run), "log|silent|0\nsendgrid|silent|0", 'then silence';
};

subtest 'SQL_ASCII: bytes that are no UTF-8 do not spoil the mail' => sub {
    my $db = create_database('SQL_ASCII');
    my @jobs = (
        fail_with($db, Encode::encode_utf8('gültig: 日本語')),
        fail_with($db, "kaputt:\xff:hier"),
        fail_with($db, "abgeschnitten:\xe6\x97"),
        fail_with($db, "\xc0\xaf\xed\xa0\x80\xf5\x80\x80\x80", source => \q(E'\xfe')),
        fail_with($db, 'danach'),
    );
    my $round = round($db);
    tells($round, \@jobs, 'a digest');
    like words($round), qr/gültig: 日本語/, 'what is UTF-8 is left as it is';
    like words($round), qr/kaputt:\?:hier/, 'what is not is replaced';
    like words($round), qr/abgeschnitten:\?/, 'also at the end';
    is_silent($db);
};

subtest 'an answer is kept in ASCII, and a digest in doubt in its bytes, whatever the encoding' => sub {
    my $answer = Encode::encode_utf8('{"errors":[{"message":"Größe 日本 😀 zu viel"}]}');
    my $told = qr/HTTP 400: Gr\?+e \?+ \? zu viel/;
    my %bytes = (win1252 => "kaputt:\x81", latin1 => "\xfc", euc_jp => "\xA9\xA1", sql_ascii => "kaputt:\xff");
    for my $db (sort keys %bytes) {
        my $job = fail_with($db, $bytes{$db});
        $stub->mode("400 $answer");
        my @rows = JobAlerting::run_digest($node, $db);
        is "$rows[0]{outcome} $rows[1]{outcome}", 'accepted pending', "$db: refused";
        like $rows[1]{detail}, qr/$told/, "$db: the caller hears why";
        my ($digest) = JobAlerting::rows($node, $db, q(SELECT error FROM job_alerting.digest WHERE state = 'pending'));
        like $digest->{error}, qr/$told/, "$db: and the ledger has it";
        $stub->modes('close-after-read', '202');
        my $before = $stub->count;
        is((JobAlerting::run_digest($node, $db))[1]{outcome}, $_, "$db: then $_") for qw(in_doubt accepted);
        my @mails = ($stub->requests)[ $before .. $stub->count - 1 ];
        is $mails[1]{body}, $mails[0]{body}, "$db: what was in doubt comes again, byte for byte";
        is_deeply [ JobAlerting::named_jobs($mails[1]) ], [$job], "$db: with the failure";
        like JobAlerting::text_part($mails[1]) =~ s/\s+/ /gr, qr/$told/, "$db: and why it is late";
    }
};

subtest 'of a job_id too long for an index, the digest is one of its bytes, whatever the encoding' => sub {
    my %character = (win1252 => '81', latin1 => 'fc', euc_jp => 'a9a1', sql_ascii => 'ff');
    for my $db (sort keys %character) {
        my $id = sub { "convert_from(decode(repeat('$character{$db}', 3000) || '$_[0]', 'hex'), getdatabaseencoding())" };
        $node->safe_psql($db, <<"SQL");
CREATE TABLE endless AS SELECT id, now() AS failed_at FROM unnest(ARRAY[${\ $id->('31') }, ${\ $id->('32') }]) id;
SELECT job_alerting.watch_query('endless', 'SELECT id AS job_id, failed_at FROM public.endless');
SQL
        is round($db)->{outcomes}, 'log:accepted:2 sendgrid:accepted:2', "$db: two that differ at the end are told";
        is $node->safe_psql($db, <<'SQL'), 2, "$db: and known again";
SELECT count(*) FROM job_alerting.failure f JOIN endless e
ON f.job_id = left(e.id, 200) || '... sha256 ' || encode(sha256(convert_to(e.id, getdatabaseencoding())), 'hex')
SQL
        is_silent($db);
        $node->safe_psql($db, q(SELECT job_alerting.unwatch('endless')));
    }
};

subtest 'UTF8: text is what it was' => sub {
    JobAlerting::create_jobs($node);
    my $job = fail_with('postgres', Encode::encode_utf8('größer als € 5'));
    my $round = round('postgres');
    tells($round, [$job], 'a digest');
    like words($round), qr/größer als € 5/, 'as it is';
};

$node->stop;
done_testing();
