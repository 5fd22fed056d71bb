# A real mail server, Exim, run as an ordinary user: with STARTTLS and a login it takes the mail and puts it
# into a folder, from which Python's `email` package reads it back.
#
# $EXIM names the program, where it is not in the path.

use strict;
use warnings;

use FindBin;
use IO::Socket::INET;
use POSIX ();
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting qw(sql);
use JobAlerting::TlsFront;

my ($exim) = grep { defined && -x } $ENV{EXIM}, '/usr/sbin/exim4', '/usr/sbin/exim';
plan skip_all => 'Exim is not installed' if !$exim;

my $dir = PostgreSQL::Test::Utils::tempdir('exim');
my $user = getpwuid $<;
my $gid = $( + 0;
my $group = getgrgid $gid;
my $authority = JobAlerting::TlsFront::certificate(CA => 1, subject => { CN => 'An authority' });
my $certificate = JobAlerting::TlsFront::certificate(
    issuer => $authority, purpose => 'server', subjectAltNames => [ [ DNS => 'localhost' ] ]);

sub write_file {
    my ($name, $content) = @_;
    open my $file, '>', "$dir/$name" or die "cannot write $dir/$name: $!";
    print {$file} $content;
    close $file or die "cannot write $dir/$name: $!";
    return;
}

# A port that was free a moment ago: Exim takes no other.
my $port = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'tcp', Listen => 1)->sockport;

mkdir "$dir/$_" or die "cannot create $dir/$_: $!" for qw(spool mail log);
write_file('conf', <<"CONF");
exim_user = $user
exim_group = $group
primary_hostname = mail.example.com
spool_directory = $dir/spool
log_file_path = $dir/log/%s
pid_file_path = $dir/pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = $port
never_users =
deliver_drop_privilege
keep_environment = LD_PRELOAD : ^NSS_WRAPPER_
message_size_limit = 200k
tls_advertise_hosts = *
tls_certificate = $certificate->{file}
tls_privatekey = $certificate->{file}
auth_advertise_hosts = \${if eq{\$tls_in_cipher}{}{}{*}}
acl_smtp_rcpt = rcpt
acl_smtp_data = accept
begin acl
rcpt:
  deny message = log in first
      !authenticated = *
  deny message = no such user
       local_parts = nobody
  accept
begin routers
all:
  driver = accept
  transport = folder
begin transports
folder:
  driver = appendfile
  directory = $dir/mail
  user = $user
  group = $group
  batch_max = 100
  envelope_to_add
  return_path_add
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = \${if and{{eq{\$auth2}{alerts}}{eq{\$auth3}{canary pass word}}}}
  server_set_id = \$auth2
CONF

# Debian's Exim wants a user of its own to exist, and runs as the one above all the same.
write_file('passwd', join '', map { "$_:x:$<:$gid\::/:/bin/false\n" } $user, 'Debian-exim');
write_file('group', join '', map { "$_:x:$gid:\n" } $group, 'Debian-exim');

my $pid = fork // die "cannot fork: $!";
if (!$pid) {
    %ENV = (%ENV, LD_PRELOAD => 'libnss_wrapper.so', NSS_WRAPPER_PASSWD => "$dir/passwd", NSS_WRAPPER_GROUP => "$dir/group");
    open STDOUT, '>', "$dir/out";
    open STDERR, '>&', \*STDOUT;
    { no warnings 'exec'; exec $exim, '-C', "$dir/conf", '-odi', '-bdf' }
    POSIX::_exit(1);
}
END {
    my $status = $?;
    kill TERM => $pid if $pid;
    $? = $status;
}
JobAlerting::poll(sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) }, 30, 'Exim');

my $node = JobAlerting::node('main', conf => <<"CONF");
job_alerting.channels = 'smtp'
job_alerting.smtp_url = 'smtp://localhost:$port/db.example.com'
job_alerting.smtp_credentials_file = '$dir/login'
job_alerting.ca_file = '$authority->{file}'
job_alerting.mail_from = '"J\xc3\xb6rg, job alerts" <alerts\@example.com>'
job_alerting.mail_to = 'ops\@example.com, "Night, Shift" <night\@example.com>'
CONF
JobAlerting::put_secret("$dir/login", "alerts\ncanary pass word\n");
JobAlerting::create_jobs($node);

# The mails in the folder, in the order of their coming; none that is still being written.
sub mails {
    return map { JobAlerting::MailStub::read_mail($_) } sort { -M $b <=> -M $a } glob "$dir/mail/q*";
}

sub mails_once_there_are {
    my ($number) = @_;
    JobAlerting::poll(sub { my @files = glob "$dir/mail/q*"; return @files >= $number }, 30, "$number mails");
    return mails();
}

subtest 'a digest arrives' => sub {
    my $error = "line\n.\n..a\n" . 'x' x 5000 . " caf\xc3\xa9 \xf0\x9f\x8e\xb5";
    my @jobs = map { JobAlerting::fail_job($node, last_error => $error) } 1 .. 3;
    my ($row) = JobAlerting::run_digest($node);
    is $row->{outcome}, 'accepted', 'accepted' or diag explain $row;
    my ($mail) = mails_once_there_are(1);
    is_deeply $mail->{defects}, [], "Python's email package has nothing against it";
    my $json = JobAlerting::MailStub::as_sendgrid($mail);
    is_deeply [ JobAlerting::named_jobs({ json => $json }) ], \@jobs, 'it names the jobs';
    my ($digest) = JobAlerting::rows($node, undef, 'SELECT subject, message_id FROM job_alerting.digest');
    is $json->{subject}, $digest->{subject}, 'its subject';
    is $json->{headers}{'Message-ID'}, $digest->{message_id}, 'its Message-ID';
    is_deeply $json->{from}, { name => "J\xf6rg, job alerts", email => 'alerts@example.com' }, 'its sender';
    is_deeply $json->{to}, [ { email => 'ops@example.com' }, { name => 'Night, Shift', email => 'night@example.com' } ], 'its recipients';
    my %headers = map { @$_ } @{ $mail->{headers} };
    is $headers{'Auto-Submitted'}, 'auto-generated', 'that a machine sent it';
    like $headers{Received}, qr/helo=db\.example\.com.*esmtpsa.*TLS1\.[23]/s, 'the way it came: by TLS, logged in';
};

subtest 'a recipient that Exim does not know' => sub {
    sql(q(ALTER DATABASE postgres SET job_alerting.mail_to = 'nobody@example.com, ops@example.com'));
    JobAlerting::fail_job($node);
    my ($row) = JobAlerting::run_digest($node);
    is $row->{outcome}, 'accepted', 'accepted' or diag explain $row;
    is $row->{detail}, 'not delivered to nobody@example.com (550 no such user)', 'but not for all';
    is scalar mails_once_there_are(2), 2, 'the others get it';
    sql('ALTER DATABASE postgres RESET job_alerting.mail_to');
};

subtest 'a mail that is larger than Exim takes' => sub {
    my $everybody = join ',', map { "recipient-$_\@" . join('.', ('d' x 55) x 4, 'example.com') } 1 .. 999;
    sql("ALTER DATABASE postgres SET job_alerting.mail_to = '$everybody'");
    JobAlerting::fail_job($node);
    my ($row) = JobAlerting::run_digest($node);
    is $row->{outcome}, 'pending', 'it does not pass in its minimal form either';
    like $row->{detail}, qr/the mail has \d+ bytes, and the server takes 204800 \(lower max_listed\)/, 'and says why';
    sql('ALTER DATABASE postgres RESET job_alerting.mail_to');
    ($row) = JobAlerting::run_digest($node);
    is $row->{outcome}, 'accepted', 'it comes when it fits';
};

subtest 'a wrong password' => sub {
    JobAlerting::put_secret("$dir/login", "alerts\nwrong\n");
    my ($test) = JobAlerting::rows($node, undef, 'SELECT * FROM job_alerting.send_test()');
    is $test->{outcome}, 'pending', 'not accepted';
    like $test->{detail}, qr/refuses the login: 535/, 'and why';
};

$node->stop;
done_testing();
