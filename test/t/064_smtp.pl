# The channel smtp: a mail server gets the same mail as SendGrid, and each answer, or its lack, has the
# meaning that doc/channels.md says. The stand-in's records show what came.

use strict;
use warnings;

use FindBin;
use Test::More;
use Time::HiRes ();

use lib "$FindBin::Bin/../support";
use JobAlerting qw(sql);

my $stub = JobAlerting::MailStub->start(utf8 => 1);
my $sendgrid = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', mail => $stub, stub => $sendgrid, conf => <<'CONF');
job_alerting.channels = 'smtp'
job_alerting.http_timeout = '20s'
CONF
JobAlerting::create_jobs($node);

# A new failure meets these modes, the last of which stays. Returns what came of one round.
sub meet {
    my (@modes) = @_;
    $stub->modes(@modes);
    my %met = (job => JobAlerting::fail_job($node, last_error => 'canary of a job'), came => $stub->from_now);
    my $broken = $stub->broken;
    $met{broken} = sub { return scalar($stub->broken) - $broken };
    ($met{row}) = JobAlerting::run_digest($node);
    $met{digest} = JobAlerting::digest($node, $met{row}{digest_id});
    return \%met;
}

sub is_told_as {
    my ($met, $state, $error, %expected) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is $met->{row}{outcome}, $state, "the call says: $state" or diag explain $met->{row};
    is $met->{digest}{state}, $state, 'and so does the digest';
    like $met->{row}{detail}, $error, 'the reason';
    is $met->{digest}{error}, $met->{row}{detail}, 'the same in the digest';
    is $met->{digest}{http_status}, $expected{code}, 'the code of the reply';
    is scalar $met->{came}->(), $expected{came} // 0, 'so many mails have come';
    return;
}

# The next round delivers it, the same to the byte where it may have come before.
sub is_delivered_now {
    my ($met, $number) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $stub->mode('ok');
    my ($row) = JobAlerting::run_digest($node);
    is $row->{outcome}, 'accepted', 'accepted at last' or diag explain $row;
    is $row->{digest_id}, $met->{row}{digest_id}, 'the same digest';
    my @mails = $met->{came}->();
    is scalar @mails, $number, "$number mails in all";
    is_deeply [ JobAlerting::named_jobs($mails[-1]) ], [ $met->{job} ], 'the failure is told';
    is_deeply [ map { $_->{verdict} } @mails ], [ ('202 ok') x @mails ], 'in good mails';
    is $_->{json}{headers}{'Message-ID'}, $met->{digest}{message_id}, 'under the same Message-ID' for @mails;
    return @mails;
}

subtest 'the mail is the one that SendGrid is sent' => sub {
    sql(q(ALTER DATABASE postgres SET job_alerting.mail_to = 'Ops <ops@example.com>, "Night, Sh\"ift" <night@example.com>, b@example.com'));
    sql(q(ALTER DATABASE postgres SET job_alerting.channels = 'smtp, sendgrid'));
    my $hostile = "caf\x{e9} \x{1F3B5} line\n.\n..\nFrom here\n=3D " . 'x' x 5000;
    utf8::encode($hostile);
    my @jobs = map { JobAlerting::fail_job($node, last_error => $hostile, source => "s\xc3\xb6urce") } 1 .. 3;
    is_deeply [ map { $_->{outcome} } JobAlerting::run_digest($node) ], [ 'accepted', 'accepted' ], 'both accept it';
    my ($mail) = $stub->requests;
    my ($request) = $sendgrid->requests;
    is $mail->{verdict}, '202 ok', "Python's email package has nothing against it";
    is $mail->{parsed}{type}, 'multipart/alternative', 'its type';
    my ($ours, $theirs) = map { my $json = $_; sub { $json->{$_[0]} } } $mail->{json}, $request->{json};
    is $ours->('subject') =~ s/\[#\d+\]//r, $theirs->('subject') =~ s/\[#\d+\]//r, 'its subject, but for the number';
    is $ours->('content')[$_]{type}, $theirs->('content')[$_]{type}, 'the type of a part' for 0, 1;
    my $body = sub { $_[0]->('content')[ $_[1] ]{value} =~ s/(?:digest_id = |#)\d+//gr };
    is $body->($ours, 0), $body->($theirs, 0), 'the text';
    is $body->($ours, 1), $body->($theirs, 1), 'the HTML';
    is_deeply $ours->('from'), $theirs->('from'), 'its sender';
    is_deeply [ map { $_->{email} } @{ $ours->('to') } ], [qw(ops@example.com night@example.com b@example.com)], 'its recipients';
    is $ours->('to')[1]{name}, 'Night, Sh"ift', 'with their names';
    is_deeply $mail->{envelope}{to}, [qw(ops@example.com night@example.com b@example.com)], 'and the envelope has them';
    is $mail->{envelope}{from}, 'alerts@example.com', 'and the sender';
    is_deeply [ sort keys %{ $ours->('headers') } ], [ sort keys %{ $theirs->('headers') } ], 'the headers';
    is $ours->('headers')->{'Auto-Submitted'}, 'auto-generated', 'it was sent by a machine';
    like $ours->('headers')->{'Message-ID'}, qr/\A<job-alerting\.\d+\.[0-9a-f]+\@example\.com>\z/, 'Message-ID';
    ok !(grep { length > 76 } split /\r\n/, $mail->{body}), 'no line has more than 76 characters';
    unlike $mail->{body}, qr/[^\r]\n|\r[^\n]|[^\r\n\t -~]|^\./m, 'lines end in CR LF, all is ASCII, and none begins with a dot';
    sql('ALTER DATABASE postgres RESET job_alerting.channels');
    sql('ALTER DATABASE postgres RESET job_alerting.mail_to');
};

# ---------------------------------------------------------------- outcomes

for my $case (
    [ 'refuse CONNECT 421 too busy', 421, qr/\Athe server refuses the greeting: 421 too busy\z/ ],
    [ 'refuse CONNECT 554 not you', 554, qr/\Athe server refuses the greeting: 554 not you \(check smtp_url\)\z/ ],
    [ 'answer CONNECT what?\r\n', undef, qr/./ ],
    [ 'close CONNECT', undef, qr/./ ],
    [ 'stall CONNECT', undef, qr/timed out|timeout/i, slow => 1 ],
    [ 'close EHLO', undef, qr/broken off at the greeting/ ],
    [ 'refuse MAIL 550 5.7.1 not from you', 550, qr/refuses the sender: 550 5\.7\.1 not from you \(check mail_from and smtp_cred/ ],
    [ 'refuse MAIL 451 later', 451, qr/refuses the sender: 451 later\z/ ],
    [ 'refuse RCPT 550 5.1.1 nobody', 550, qr/refuses the recipients: 550 5\.1\.1 nobody \(check mail_to\)/ ],
    [ 'refuse RCPT 450 4.7.1 greylisted', 450, qr/refuses the recipients: 450 4\.7\.1 greylisted\z/ ],
    [ 'refuse RCPT 421 closing', 421, qr/refuses the recipients: 421 closing/ ],
    [ 'close RCPT', undef, qr/broken off at the recipients/ ],
    [ 'slow MAIL', undef, qr/broken off at the sender: .*time/, slow => 1 ],
    [ 'flood EHLO', undef, qr{broken off at the greeting: (?:the server says too much|Too large response)} ],
    [ 'refuse DATA 451 no room', 451, qr/refuses DATA: 451 no room\z/ ],
    [ 'close DATA', undef, qr/broken off at DATA/ ],
  )
{
    my ($mode, $code, $error, %options) = @$case;
    subtest "surely not accepted: $mode" => sub {
        JobAlerting::configure($node, http_timeout => '1s') if $options{slow};
        my $met = meet($mode);
        is_told_as($met, 'pending', $error, code => $code);
        JobAlerting::poll($met->{broken}, 10, 'the record');
        is $met->{broken}->(), 1, 'one connection';
        JobAlerting::configure($node, http_timeout => '20s') if $options{slow};
        is_delivered_now($met, 1);
    };
}

subtest 'a server that greylists takes it in a later round' => sub {
    my $met = meet('refuse RCPT 450 4.7.1 greylisted', 'ok');
    is_told_as($met, 'pending', qr/450 4\.7\.1 greylisted/, code => 450);
    my $age = sql("SELECT round(extract(epoch FROM next_attempt_at - updated_at)) FROM job_alerting.digest WHERE id = $met->{row}{digest_id}");
    ok $age >= 60 && $age <= 66, 'with the usual backoff' or diag $age;
    is_delivered_now($met, 1);
};

subtest 'refused for now when it was read: 451' => sub {
    my $met = meet('refuse END 451 4.3.0 try again');
    is_told_as($met, 'pending', qr/\Athe server refuses the mail: 451 4\.3\.0 try again\z/, code => 451, came => 1);
    is_delivered_now($met, 2);
};

for my $mode ('close END', 'reset END', 'answer END 250-half\r\n', 'answer END 999 what\r\n', 'close CONTENT') {
    subtest "nobody knows: $mode" => sub {
        JobAlerting::configure($node, http_timeout => '2s');
        my $met = meet($mode);
        my $came = $mode =~ /CONTENT/ ? 0 : 1;
        is_told_as($met, 'in_doubt', qr/\Ano verdict on the mail after it was handed over: /,
            code => $mode =~ /999/ ? 999 : undef, came => $came);
        JobAlerting::configure($node, http_timeout => '20s');
        my @mails = is_delivered_now($met, 1 + $came);
        is $_->{body}, $mails[0]{body}, 'the same bytes' for @mails;
    };
}

subtest 'no answer within the time limit' => sub {
    JobAlerting::configure($node, http_timeout => '1s');
    my $met = meet('stall END');
    is_told_as($met, 'in_doubt', qr/no verdict on the mail after it was handed over: .*time/, came => 1);
    JobAlerting::configure($node, http_timeout => '20s');
    my @mails = is_delivered_now($met, 2);
    is $mails[1]{body}, $mails[0]{body}, 'the same bytes';
};

subtest 'a message that breaks off while it is handed over was not' => sub {
    JobAlerting::fail_large_jobs($node);
    my $narrow = JobAlerting::MailStub->start(narrow => 1);
    $narrow->mode('reset CONTENT');
    JobAlerting::configure($node, smtp_url => $narrow->url);
    my $met = meet('ok');
    my $size = sql("SELECT octet_length(request) FROM job_alerting.digest WHERE id = $met->{row}{digest_id}");
    is_told_as($met, 'pending', qr/broken off at the mail/);
    is scalar $narrow->requests, 0, 'it was not read whole';
    cmp_ok $size, '>', 200_000, 'it was a large one';
    JobAlerting::configure($node, smtp_url => $stub->url);
    $stub->mode('ok');
    my ($row) = JobAlerting::run_digest($node);
    is $row->{outcome}, 'accepted', 'accepted at last';
    is scalar $met->{came}->(), 1, 'as one mail';
};

subtest 'refused for what it says: the minimal form at once' => sub {
    my $met = meet('refuse END 554 5.7.1 looks like spam', 'ok');
    is $met->{row}{outcome}, 'accepted', 'accepted' or diag explain $met->{row};
    my ($full, $minimal, @others) = $met->{came}->();
    is scalar @others, 0, 'two mails';
    like $full->{body}, qr/canary of a job/, 'the first is the digest';
    unlike $minimal->{body}, qr/canary/, 'the second says nothing of a job';
    is $minimal->{verdict}, '202 ok', 'and is a good mail';
    like $met->{digest}{note}, qr/minimal form only, after the server refuses the mail: 554 5\.7\.1 looks like spam/, 'noted';
    is $met->{digest}{attempts}, 1, 'as one try';
};

subtest 'refused in both forms' => sub {
    my $met = meet('refuse END 554 5.7.1 no');
    is_told_as($met, 'pending', qr/refuses the mail: 554 5\.7\.1 no/, code => 554, came => 2);
    is_delivered_now($met, 3);
};

subtest 'a server that does not answer QUIT' => sub {
    my $start = Time::HiRes::time();
    my $met = meet('stall QUIT', 'ok');
    is $met->{row}{outcome}, 'accepted', 'accepted' or diag explain $met->{row};
    cmp_ok Time::HiRes::time() - $start, '<', 15, 'without waiting for the end of the time limit';
    is scalar $met->{came}->(), 1, 'one mail';
    JobAlerting::run_until_silent($node);
    is scalar $met->{came}->(), 1, 'and no second one';
};

subtest 'an address that needs SMTPUTF8 hides no other reason' => sub {
    JobAlerting::store_setting($node, mail_to => "j\xc3\xb6rg\@example.com");
    my $met = meet('refuse CONNECT 421 too busy');
    like $met->{row}{detail}, qr/refuses the greeting: 421 too busy/, 'the server is busy';
    JobAlerting::store_setting($node, mail_to => 'ops@example.com');
    is_delivered_now($met, 1);
};

# ---------------------------------------------------------------- recipients

subtest 'one of three recipients refused: the others get it, and all are told of the one' => sub {
    sql(q(ALTER DATABASE postgres SET job_alerting.mail_to = 'a@example.com, Bob <bob@example.com>, c@example.com'));
    my $met = meet('refuse RCPT=bob 550 5.1.1 no such user');
    is $met->{row}{outcome}, 'accepted', 'accepted' or diag explain $met->{row};
    my ($mail) = $met->{came}->();
    is_deeply $mail->{envelope}{to}, [qw(a@example.com c@example.com)], 'the others';
    my $told = 'not delivered to bob@example.com (550 5.1.1 no such user)';
    is $met->{row}{detail}, $told, 'the call says who was refused';
    is $met->{digest}{note}, $told, 'the note, too';
    is $met->{digest}{refused}, 'bob@example.com (550 5.1.1 no such user)', 'and a column of its own';
    my ($status) = JobAlerting::rows($node, undef, 'SELECT * FROM job_alerting.status');
    is $status->{healthy}, JSON::PP::false, 'the status is not well';
    like $status->{reason}, qr/digest $met->{row}{digest_id} through smtp was not delivered to bob\@example\.com \(550/, 'and says of whom';
    my ($check) = JobAlerting::rows($node, undef, q(SELECT * FROM job_alerting.check() WHERE item = 'channel smtp'));
    is $check->{state}, 'warning', 'check() warns';
    like $check->{detail}, qr/was not delivered to bob\@example\.com/, 'and names him';
    my ($test) = JobAlerting::rows($node, undef, 'SELECT * FROM job_alerting.send_test()');
    is_deeply $test, { channel => 'smtp', outcome => 'accepted', detail => $told }, 'so does send_test()';

    JobAlerting::run_until_silent($node);
    $stub->mode('ok');
    JobAlerting::fail_job($node);
    JobAlerting::run_digest($node);
    is sql('SELECT reason FROM job_alerting.status'), '', 'well again once a digest reaches everybody';
    is sql(q(SELECT state FROM job_alerting.check() WHERE item = 'channel smtp')), 'ok', 'for check(), too';
    sql('ALTER DATABASE postgres RESET job_alerting.mail_to');
};

subtest 'an address that is not ASCII' => sub {
    JobAlerting::store_setting($node, mail_to => "j\xc3\xb6rg\@example.com");
    my $met = meet('ok');
    is $met->{row}{outcome}, 'accepted', 'accepted' or diag explain $met->{row};
    my ($mail) = $met->{came}->();
    is_deeply $mail->{envelope}{to}, ["j\xf6rg\@example.com"], 'it was asked for';
    ok +(grep { $_ eq 'SMTPUTF8' } @{ $mail->{envelope}{options} }), 'as such';
    is $mail->{json}{to}[0]{email}, "j\xf6rg\@example.com", 'and stands in the header';
    JobAlerting::store_setting($node, mail_to => 'ops@example.com');
};

# ---------------------------------------------------------------- interruption

for my $step (qw(CONNECT MAIL END)) {
    subtest "a round that is told to end while the server is silent at $step ends" => sub {
        $stub->modes("stall $step", 'ok');
        my $came = $stub->from_now;
        my $job = JobAlerting::fail_job($node);
        my $call = JobAlerting::begin_digest($node);
        JobAlerting::poll(sub { $stub->held }, 20, 'the silence');
        my $worker = JobAlerting::worker($node);
        sql("SELECT pg_terminate_backend($worker)");
        my $told = Time::HiRes::time();
        JobAlerting::wait_for_end($worker);
        cmp_ok Time::HiRes::time() - $told, '<', 6, 'soon';
        $call->finish;
        JobAlerting::run_until_silent($node);
        my @mails = $came->();
        is scalar @mails, $step eq 'END' ? 2 : 1, 'and what it may have handed over comes again';
        is $_->{body}, $mails[0]{body}, 'in the same bytes' for @mails;
    };
}

$node->stop;
done_testing();
