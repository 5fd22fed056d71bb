# The encryption of a mail server and the login at it. A password reaches only a server that has proved who
# it is, over TLS, and is seen nowhere else.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting qw(sql);
use JobAlerting::TlsFront;

my $PASSWORD = 'canary pass=word "of" the mail server';
my @LOGIN = (user => 'alerts@example.com', password => $PASSWORD);

my @localhost = (purpose => 'server', subjectAltNames => [ [ DNS => 'localhost' ] ]);
my $authority = JobAlerting::TlsFront::certificate(CA => 1, subject => { CN => 'An authority' });
my $good = JobAlerting::TlsFront::certificate(issuer => $authority, @localhost);
my $self_signed = JobAlerting::TlsFront::certificate(@localhost);

sub server {
    my ($certificate, @options) = @_;
    my @tls = $certificate ? (map { $_ => $certificate->{file} } qw(cert key)) : ();
    return JobAlerting::MailStub->start(@tls, @options);
}

my $stub = server($good, @LOGIN);
my $node = JobAlerting::node('main', mail => $stub, conf => <<"CONF");
log_min_messages = debug5
log_statement = all
job_alerting.ca_file = '$authority->{file}'
job_alerting.http_timeout = '20s'
CONF
my $login_file = PostgreSQL::Test::Utils::tempdir('login') . '/login';
JobAlerting::create_jobs($node);
JobAlerting::put_secret($login_file, "alerts\@example.com\n$PASSWORD\n");
JobAlerting::configure($node, smtp_url => $stub->url('smtp', 'localhost'), smtp_credentials_file => $login_file);

# One round with a new failure: its row, and the mails that this server has got of it.
sub meet {
    my ($server) = @_;
    my $came = $server->from_now;
    JobAlerting::fail_job($node);
    my ($row) = JobAlerting::run_digest($node);
    return ($row, $came->());
}

sub is_delivered {
    my ($server, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($row, @mails) = meet($server);
    is $row->{outcome}, 'accepted', "$name: accepted" or diag explain $row;
    is scalar @mails, 1, "$name: by one mail";
    return $mails[0]{envelope};
}

sub is_not_sent {
    my ($server, $why, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($row, @mails) = meet($server);
    is $row->{outcome}, 'pending', "$name: pending" or diag explain $row;
    like $row->{detail}, $why, "$name: the detail says why";
    is scalar @mails, 0, "$name: nothing is sent";
    return;
}

subtest 'STARTTLS and a login' => sub {
    my $envelope = is_delivered($stub, 'STARTTLS');
    ok $envelope->{tls}, 'encrypted';
    is $envelope->{user}, 'alerts@example.com', 'logged in';
    is_deeply [ map { (split)[0] } @{ $envelope->{commands} } ], [qw(EHLO STARTTLS EHLO AUTH MAIL RCPT DATA)], 'in this order';
};

subtest 'the name in EHLO' => sub {
    JobAlerting::configure($node, smtp_url => $stub->url('smtp', 'localhost') . '/db1.example.com');
    is is_delivered($stub, 'a name')->{helo}, 'db1.example.com', 'as the URL says';
    JobAlerting::configure($node, smtp_url => $stub->url('smtp', 'localhost'));
};

subtest 'TLS from the beginning' => sub {
    my $implicit = server($good, @LOGIN, implicit => 1);
    JobAlerting::configure($node, smtp_url => $implicit->url('smtps', 'localhost'));
    my $envelope = is_delivered($implicit, 'smtps');
    is $envelope->{user}, 'alerts@example.com', 'logged in';
    is_deeply [ map { (split)[0] } @{ $envelope->{commands} } ], [qw(EHLO AUTH MAIL RCPT DATA)], 'without STARTTLS';
};

subtest 'a login that is refused' => sub {
    JobAlerting::configure($node, smtp_url => $stub->url('smtp', 'localhost'));
    JobAlerting::put_secret($login_file, "alerts\@example.com\nwrong\n");
    is_not_sent($stub, qr/refuses the login: 535 .*\(check smtp_credentials_file\)/, 'a wrong password');
    JobAlerting::put_secret($login_file, "alerts\@example.com\n$PASSWORD\n");
    $stub->modes("refuse AUTH 454 you said $PASSWORD", 'ok');
    is_not_sent($stub, qr/refuses the login: 454 you said \(password\)\z/, 'one that is quoted');
};

subtest 'a login is for a server that proves who it is' => sub {
    for my $case (
        [ 'without TLS',               server(undef),        qr/STARTTLS not supported/ ],
        [ 'that vouches for itself',   server($self_signed), qr/self-signed certificate/ ],
        [ 'that knows none of ours',   server($good),        qr/Login denied/ ],
      )
    {
        my ($name, $server, $why) = @$case;
        JobAlerting::configure($node, smtp_url => $server->url('smtp', 'localhost'));
        is_not_sent($server, $why, $name);
        my @commands = map { @{ $_->{envelope}{commands} } } $server->requests, $server->broken;
        ok !(grep { /AUTH/ } @commands), "$name: no login";
    }
    JobAlerting::configure($node, smtp_url => $stub->url('smtp', '127.0.0.1'));
    is_not_sent($stub, qr/subject name/, 'of another name');
    JobAlerting::configure($node, smtp_url => $stub->url('smtp', 'localhost'));
    $stub->modes('refuse STARTTLS 454 not now', 'ok');
    is_not_sent($stub, qr/refuses STARTTLS: 454 not now/, 'that would not encrypt');
};

subtest 'a login file that cannot be used' => sub {
    for my $case (
        [ 'open to others',     "a\nb\n",     qr/is open to others/, 0644 ],
        [ 'of one line',        "a\n",        qr/has no second line/ ],
        [ 'of three',           "a\nb\nc\n",  qr/has more than two lines/ ],
        [ 'with an empty line', "\nb\n",      qr/has an empty line/ ],
        [ 'that is empty',      '',           qr/is empty/ ],
        [ 'with a control character', "a\nb\x01\n", qr/control character/ ],
      )
    {
        my ($name, $content, $why, $permissions) = @$case;
        JobAlerting::put_secret($login_file, $content, $permissions);
        is_not_sent($stub, $why, $name);
        my ($check) = JobAlerting::rows($node, undef, q(SELECT * FROM job_alerting.check() WHERE item = 'channel smtp'));
        is $check->{state}, 'error', "$name: check() knows it";
        like $check->{detail}, $why, "$name: and says why";
    }
    JobAlerting::put_secret($login_file, "\xEF\xBB\xBFalerts\@example.com\r\n$PASSWORD\r\n");
    is_delivered($stub, 'as another system writes it');
};

subtest 'a URL that cannot be used is refused where it is set, and at a try' => sub {
    for my $url ('http://localhost', 'smtp://user:word@localhost', 'localhost', 'smtp://localhost/a?b', 'smtp://local host', 'smtp://localhost/a b') {
        my ($code, $output, $error) = $node->psql('postgres', "ALTER SYSTEM SET job_alerting.smtp_url = '$url'");
        isnt $code, 0, "$url is refused";
    }
    JobAlerting::configure($node, smtp_url => '');
    is_not_sent($stub, qr/\Ajob_alerting\.smtp_url is not set\z/, 'none');
};

subtest 'the password is nowhere' => sub {
    my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
    unlike $log, qr/canary pass/, 'not in the log';
    unlike sql('SELECT string_agg(d::text, chr(10)) FROM job_alerting.digest d'), qr/canary pass/, 'nor in a digest';
};

$node->stop;
done_testing();
