# Databases with other encodings than UTF-8. A job is reported whatever bytes its error has, and so are the
# other jobs. A character that UTF-8 does not have becomes a question mark.

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

# A failed job whose error is exactly these bytes.
sub fail_with {
    my ($db, $bytes, %columns) = @_;
    my $literal = join '', map { sprintf '\\x%02x', ord } split //, $bytes;
    return JobAlerting::fail_job($node, db => $db, last_error => \"E'$literal'", %columns);
}

# One round through both channels. Returns their outcomes, the mail and the log.
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

# Both channels reported these jobs, and SendGrid accepts the mail.
sub tells {
    my ($round, $jobs, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $count = @$jobs;
    is $round->{outcomes}, "log:accepted:$count sendgrid:accepted:$count", "$name: both channels";
    is $round->{mails}, 1, "$name: one mail" or return;
    is $round->{mail}{verdict}, '202 ok', "$name: SendGrid accepts it";
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
    return is round($db)->{outcomes}, 'log:silent:0 sendgrid:silent:0', 'the next round is silent';
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

subtest 'WIN1252: a byte that stands for no character becomes a question mark' => sub {
    my $db = create_database('WIN1252');
    my @jobs = (
        fail_with($db, bytes_of('cp1252', 'vorher Größe 5 €')),
        fail_with($db, "kaputt:\x81:hier"),
        fail_with($db, "\x81\x8d\x8f\x90\x9d"),
        fail_with($db, 'danach'),
    );
    is $node->safe_psql($db, "SELECT length(last_error) FROM research_jobs WHERE id = $jobs[2]"), 5,
      'the server counts each of the bytes as a character';
    isnt $node->psql($db, "SET client_encoding = 'UTF8'; SELECT last_error FROM research_jobs"), 0,
      'the server cannot convert them to UTF-8';
    my $round = round($db);
    tells($round, \@jobs, 'a digest');
    my $words = words($round);
    like $words, qr/vorher Größe 5 €/, 'characters with an equivalent are converted';
    like $words, qr/kaputt:\?:hier/, 'a character without an equivalent is ?';
    like $words, qr/ \?{5} /, 'each such character is one ?';
    like html_part($round), qr/kaputt:\?:hier/, 'the HTML has the same';
    like $round->{log}, qr/kaputt:\?:hier/, 'the log has the same';
    my $logged = bytes_of('cp1252', 'vorher Größe 5 €');
    like $round->{log}, qr/\Q$logged\E/, "the log has the database's encoding";
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
    like words($round), qr/Apf\?el/, 'the source has a ?';
    like words($round), qr/Äpfel/, 'the umlaut of another source is converted';
    is_silent($db);
};

subtest 'WIN1252: a queue whose name has no equivalent is reported, and stops no other queue' => sub {
    my $db = 'win1252';
    $node->safe_psql($db, <<'SQL');
SELECT job_alerting.watch_query(E'q\x81', $$SELECT E'j\x81' AS job_id, now() AS failed_at, 'x' AS occurrence$$);
SQL
    my $job = fail_with($db, 'auch da');
    my $round = round($db);
    is $round->{outcomes}, 'log:accepted:2 sendgrid:accepted:2', 'both channels';
    like words($round), qr/job j\?,? in q\?/, 'the mail has the job and its queue';
    is_deeply [ JobAlerting::named_jobs($round->{mail}) ], [$job], 'the mail lists the other job';
    is_silent($db);
    $node->safe_psql($db, q(SELECT job_alerting.unwatch(E'q\x81')));
};

subtest 'LATIN1: umlauts are converted' => sub {
    my $db = create_database('LATIN1');
    my @jobs = (
        fail_with($db, bytes_of('iso-8859-1', 'Tür geöffnet: ÄÖÜ ß ÿ'), source => \q(E'M\xfcnchen')),
        fail_with($db, 'danach'),
    );
    my $round = round($db);
    tells($round, \@jobs, 'a digest');
    like words($round), qr/Tür geöffnet: ÄÖÜ ß ÿ/, 'umlauts in the text';
    like words($round), qr/München/, 'umlauts of other columns';
    like html_part($round), qr/geöffnet/, 'umlauts in the HTML';
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
    like words($round), qr/日本語:\?:失敗/, 'the others are converted';
    unlike words($round) =~ s/日本語:\?:失敗//r, qr/\?/, 'there is no other question mark';
    is_silent($db);
};

# The server has no conversion between MULE_INTERNAL and UTF-8, and refuses UTF-8 clients.
subtest 'MULE_INTERNAL: ASCII is kept, and any other character becomes a question mark' => sub {
    local $ENV{PGCLIENTENCODING} = 'SQL_ASCII';
    my $db = create_database('MULE_INTERNAL');
    my $umlaut = "\x81\xfc"; # of LATIN1
    my @jobs = (fail_with($db, "M${umlaut}nchen" . " ok$umlaut" x 900), fail_with($db, 'danach'));
    my $came = $stub->from_now;
    my $run = 'SELECT channel, outcome, failures FROM job_alerting.run_digest()';
    is $node->safe_psql($db, $run), "log|accepted|2\nsendgrid|accepted|2", 'both channels';
    my ($mail) = $came->();
    is $mail->{verdict}, '202 ok', 'SendGrid accepts the mail';
    is_deeply [ sort { $a <=> $b } JobAlerting::named_jobs($mail) ], \@jobs, 'the mail lists every job';
    like words({ mail => $mail }), qr/M\?nchen ok\? ok\?/, 'each character in its place';
    is $node->safe_psql($db, $run), "log|silent|0\nsendgrid|silent|0", 'the next round is silent';
};

subtest 'SQL_ASCII: bytes that are not UTF-8 do not break the mail' => sub {
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
    like words($round), qr/gültig: 日本語/, 'valid UTF-8 is kept';
    like words($round), qr/kaputt:\?:hier/, 'other bytes are replaced';
    like words($round), qr/abgeschnitten:\?/, 'also at the end of a text';
    is_silent($db);
};

subtest 'in any encoding, an answer is stored as ASCII and a digest in doubt with its bytes' => sub {
    my $answer = Encode::encode_utf8('{"errors":[{"message":"Größe 日本 😀 zu viel"}]}');
    my $told = qr/HTTP 400: Gr\?+e \?+ \? zu viel/;
    my %bytes = (win1252 => "kaputt:\x81", latin1 => "\xfc", euc_jp => "\xA9\xA1", sql_ascii => "kaputt:\xff");
    for my $db (sort keys %bytes) {
        my $job = fail_with($db, $bytes{$db});
        $stub->mode("400 $answer");
        my @rows = JobAlerting::run_digest($node, $db);
        is "$rows[0]{outcome} $rows[1]{outcome}", 'accepted pending', "$db: refused";
        like $rows[1]{detail}, qr/$told/, "$db: the detail says why";
        my ($digest) = JobAlerting::rows($node, $db, q(SELECT error FROM job_alerting.digest WHERE state = 'pending'));
        like $digest->{error}, qr/$told/, "$db: the digest has the same error";
        $stub->modes('close-after-read', '202');
        my $before = $stub->count;
        is((JobAlerting::run_digest($node, $db))[1]{outcome}, $_, "$db: then $_") for qw(in_doubt accepted);
        my @mails = ($stub->requests)[ $before .. $stub->count - 1 ];
        is $mails[1]{body}, $mails[0]{body}, "$db: the digest in doubt comes again, byte for byte";
        is_deeply [ JobAlerting::named_jobs($mails[1]) ], [$job], "$db: the mail lists the failure";
        like JobAlerting::text_part($mails[1]) =~ s/\s+/ /gr, qr/$told/, "$db: the mail says why it is late";
    }
};

subtest 'in any encoding, a job_id too long for an index is stored with a hash of its bytes' => sub {
    my %character = (win1252 => '81', latin1 => 'fc', euc_jp => 'a9a1', sql_ascii => 'ff');
    for my $db (sort keys %character) {
        my $id = sub { "convert_from(decode(repeat('$character{$db}', 3000) || '$_[0]', 'hex'), getdatabaseencoding())" };
        $node->safe_psql($db, <<"SQL");
CREATE TABLE endless AS SELECT id, now() AS failed_at FROM unnest(ARRAY[${\ $id->('31') }, ${\ $id->('32') }]) id;
SELECT job_alerting.watch_query('endless', 'SELECT id AS job_id, failed_at FROM public.endless');
SQL
        is round($db)->{outcomes}, 'log:accepted:2 sendgrid:accepted:2', "$db: two that differ only at the end are reported";
        is $node->safe_psql($db, <<'SQL'), 2, "$db: the ledger has the hash of each";
SELECT count(*) FROM job_alerting.failure f JOIN endless e
ON f.job_id = left(e.id, 200) || '... sha256 ' || encode(sha256(convert_to(e.id, getdatabaseencoding())), 'hex')
SQL
        is_silent($db);
        $node->safe_psql($db, q(SELECT job_alerting.unwatch('endless')));
    }
};

subtest 'UTF8: text is kept' => sub {
    JobAlerting::create_jobs($node);
    my $job = fail_with('postgres', Encode::encode_utf8('größer als € 5'));
    my $round = round('postgres');
    tells($round, [$job], 'a digest');
    like words($round), qr/größer als € 5/, 'the text is unchanged';
};

$node->stop;
done_testing();
