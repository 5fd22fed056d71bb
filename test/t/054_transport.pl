# Failures of the transport: names, connections, TLS, uploads. Only a request that was wholly handed over may
# have been accepted; any other is sent again, and the receiver's records show that it never arrived. A
# receiver that cannot prove its identity sees no byte of a request, hence no key.

use strict;
use warnings;

use File::Copy;
use FindBin;
use IO::Socket::INET;
use Test::More;
use Time::HiRes ();

use lib "$FindBin::Bin/../support";
use JobAlerting qw(sql);
use JobAlerting::Preload;
use JobAlerting::TlsFront;

my $stub = JobAlerting::Stub->start;
my $narrow = JobAlerting::Stub->start(narrow => 1);
my $proxy = JobAlerting::Stub->start;
my $front = JobAlerting::TlsFront->new($stub);

my @localhost = (purpose => 'server', subjectAltNames => [ [ DNS => 'localhost' ] ]);
my $authority = JobAlerting::TlsFront::certificate(CA => 1, subject => { CN => 'An authority' });
my $stranger = JobAlerting::TlsFront::certificate(CA => 1, subject => { CN => 'Another authority' });
my $good = JobAlerting::TlsFront::certificate(issuer => $authority, @localhost);

# The file has the name of Debian's bundle, which contains words of libcurl's messages about certificates.
my $authorities = PostgreSQL::Test::Utils::tempdir('authorities') . '/ca-certificates.crt';
copy($authority->{file}, $authorities) or die "cannot copy: $!";

# The postmaster's environment has the variables that curl and OpenSSL would obey.
my $key_log = PostgreSQL::Test::Utils::tempdir('keylog') . '/log';
my $node = do {
    local @ENV{qw(http_proxy https_proxy HTTPS_PROXY ALL_PROXY all_proxy)} = ($proxy->url) x 5;
    local @ENV{qw(NO_PROXY no_proxy)} = ('', '');
    local $ENV{SSLKEYLOGFILE} = $key_log;
    local $ENV{SSL_CERT_FILE} = $stranger->{file};
    local $ENV{OPENSSL_CONF} = $JobAlerting::TlsFront::LAX_SETTINGS;
    local $ENV{LD_PRELOAD} = JobAlerting::Preload::library('resolver');
    JobAlerting::node('main', stub => $stub, conf => <<"CONF");
job_alerting.http_timeout = '20s'
job_alerting.sendgrid_url = '@{[ $front->url ]}'
job_alerting.ca_file = '$authorities'
CONF
};
JobAlerting::create_jobs($node);

# All records of all receivers.
sub seen {
    return map { ($_->requests, $_->broken) } $stub, $narrow, $proxy;
}

# A round tries the waiting digest in vain. Nothing was handed over, and the receivers have no record but
# the number given as `seen`.
sub is_not_sent {
    my ($why, %expected) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $before = seen();
    my $call = JobAlerting::begin_digest($node);
    my ($row) = $call->rows;
    is $row->{outcome}, 'pending', 'pending' or diag explain $row;
    like $row->{detail}, $why, 'the detail says why';
    my $digest = JobAlerting::digest($node, $row->{digest_id});
    is $digest->{error}, $row->{detail}, 'the error of the digest';
    is $digest->{http_status}, undef, 'no status';
    ok $digest->{next_attempt_at}, 'it is due again';
    is seen() - $before, $expected{seen} // 0, 'the number of records at the receivers';
    cmp_ok $call->seconds, '<', 10, 'in bounded time';
    return;
}

# The waiting digest arrives whole and once.
sub is_delivered {
    my ($receiver, $jobs) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $before = $receiver->count;
    my ($row) = JobAlerting::run_digest($node);
    is $row->{outcome}, 'accepted', 'accepted' or diag explain $row;
    is $receiver->count, $before + 1, 'one request';
    my $request = ($receiver->requests)[-1];
    is_deeply [ sort { $a <=> $b } JobAlerting::named_jobs($request) ], $jobs, 'the mail lists the failures';
    is $request->{headers}{authorization}, "Bearer $JobAlerting::KEY", 'the request has the key';
    is((JobAlerting::run_digest($node))[0]{outcome}, 'silent', 'then silence');
    return;
}

# ---------------------------------------------------------------- TLS

for my $version (qw(TLSv1_3 TLSv1_2)) {
    subtest "a server with a certificate of our authority gets the mail by $version" => sub {
        $front->serve(certificate => $good, version => $version);
        is_delivered($stub, [ JobAlerting::fail_job($node) ]);
        is(($front->handshakes)[-1], $version, "by $version");
    };
}

subtest 'no answer after the upload, by TLS: in doubt, and sent again byte for byte' => sub {
    $front->serve(certificate => $good);
    $stub->modes('close-after-read', '202');
    JobAlerting::fail_job($node);
    is((JobAlerting::run_digest($node))[0]{outcome}, 'in_doubt', 'in doubt');
    is((JobAlerting::run_digest($node))[0]{outcome}, 'accepted', 'accepted');
    my @requests = $stub->requests;
    is $requests[-1]{body}, $requests[-2]{body}, 'the same bytes';
};

my $waiting = JobAlerting::fail_job($node);
my $hour = 3600;
my $now = time;
for my $case (
    [ 'with an expired certificate', qr/certificate has expired/,
        certificate => [ issuer => $authority, @localhost, not_before => $now - 9 * $hour, not_after => $now - $hour ] ],
    [ 'with a certificate not yet valid', qr/certificate is not yet valid/,
        certificate => [ issuer => $authority, @localhost, not_before => $now + $hour, not_after => $now + 9 * $hour ] ],
    [ 'with the certificate of another host', qr/subject name.*'localhost'/,
        certificate => [ issuer => $authority, purpose => 'server', subjectAltNames => [ [ DNS => 'example.com' ] ] ] ],
    [ 'with a certificate of an authority that only the environment names', qr/unable to get local issuer certificate/,
        certificate => [ issuer => $stranger, @localhost ] ],
    [ 'with a self-signed certificate', qr/self-signed certificate/, certificate => [@localhost] ],
    [ 'of TLS 1.1 only', qr/protocol/, version => 'TLSv1_1', ciphers => 'ALL:@SECLEVEL=0' ],
    [ 'of TLS 1.0 only', qr/protocol/, version => 'TLSv1', ciphers => 'ALL:@SECLEVEL=0' ],
    [ 'of other ciphers only', qr/handshake failure/, version => 'TLSv1_2', ciphers => 'aNULL:@SECLEVEL=0' ],
    [ 'of plain text', qr/wrong version number/, greeting => "HTTP/1.1 202 Accepted\r\n\r\n" ],
    [ 'that closes the connection at once', qr/SSL|reset|Broken pipe/i, greeting => '' ],
  )
{
    my ($name, $why, %options) = @$case;
    subtest "a server $name gets no byte of a request" => sub {
        my $certificate = delete $options{certificate};
        $front->serve(
            certificate => $certificate ? JobAlerting::TlsFront::certificate(@$certificate) : $good, %options);
        my $connections = $front->handshakes;
        is_not_sent($why);
        JobAlerting::poll(sub { $front->handshakes > $connections }, 10, 'the connection');
        is scalar $front->handshakes, $connections + 1, 'one connection';
    };
}

subtest 'a server that never answers' => sub {
    $front->rest;
    JobAlerting::configure($node, http_timeout => '1s');
    is_not_sent(qr/timed out|timeout/i);
    JobAlerting::configure($node, http_timeout => '20s');
};

subtest 'authorities that cannot be read' => sub {
    $front->serve(certificate => $good);
    JobAlerting::configure($node, ca_file => '/nonexistent/authorities.pem');
    is_not_sent(qr/\Athe file of job_alerting\.ca_file cannot be read: No such file/);
    JobAlerting::configure($node, ca_file => "$FindBin::Bin/$FindBin::Script");
    is_not_sent(qr/error (?:setting certificate|adding trust anchors from) file: \(ca_file\)/);
    JobAlerting::configure($node, ca_file => '');
    is_not_sent(qr/unable to get local issuer certificate/);
    JobAlerting::configure($node, ca_file => $authority->{file});
};

subtest 'a proxy that opens no tunnel gets neither mail nor key' => sub {
    JobAlerting::configure($node, proxy => $proxy->url);
    # A proxy that answers 200 and opens no tunnel must not be taken for the provider.
    for my $mode ('407', '502', '200', '202 body=yes', 'close-after-read') {
        $proxy->mode($mode);
        is_not_sent(qr/./, seen => 1);
        my $request = ($proxy->requests)[-1];
        like $request->{line}, qr/\ACONNECT localhost:\d+ /, "$mode: the request is a CONNECT";
        unlike join("\n", @$request{qw(line headers body)}), qr/\Q$JobAlerting::KEY\E|Authorization/i, 'without the key';
    }
    JobAlerting::configure($node, proxy => '');
};

subtest 'the waiting digest arrives once' => sub {
    is_delivered($stub, [$waiting]);
};

subtest "the environment's proxies and key log were not used" => sub {
    is_deeply [ grep { !/\ACONNECT / } map { $_->{line} } $proxy->requests ], [], 'the proxy got only our CONNECT requests';
    is scalar $proxy->broken, 0, 'no other connection at the proxy';
    ok !-e $key_log, 'no key log was written';
};

# ---------------------------------------------------------------- names and connections

subtest 'unknown host, refused and unanswered connections' => sub {
    my $closed = JobAlerting::Stub->start;
    $closed->stop;
    # The kernel completes only so many connections.
    my $full = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'tcp', Listen => 1) or die "cannot listen: $@";
    my @crowd = map {
        IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $full->sockport, Timeout => 0.2) // ()
    } 1 .. 3;
    cmp_ok @crowd, '<', 3, 'the queue of connections is full';

    my $job = JobAlerting::fail_job($node);
    for my $case (
        [ 'https://no-such-host.invalid',         qr/resolv/i ],
        [ $closed->url,                           qr/connect/i ],
        [ 'http://127.0.0.1:' . $full->sockport,  qr/timed out|timeout/i ],
        [ 'https://localhost:' . $full->sockport, qr/timed out|timeout/i ],
      )
    {
        my ($url, $why) = @$case;
        JobAlerting::configure($node, sendgrid_url => $url, http_timeout => '1s');
        is_not_sent($why);
    }
    JobAlerting::configure($node, sendgrid_url => $stub->url, http_timeout => '20s');
    is_delivered($stub, [$job]);
};

subtest 'a resolver that never answers' => sub {
    my $job = JobAlerting::fail_job($node);
    JobAlerting::configure($node, sendgrid_url => 'https://hangs.example', http_timeout => '1s');
    is_not_sent(qr/timed out|timeout/i);
    JobAlerting::configure($node, http_timeout => '20s');
    my $call = JobAlerting::begin_digest($node);
    my $worker = JobAlerting::poll(sub { sql(q(SELECT pid FROM pg_stat_activity WHERE query LIKE 'sending digest %')) }, 10, 'a try');
    sql("SELECT pg_terminate_backend($worker)");
    my $told = Time::HiRes::time();
    JobAlerting::wait_for_end($worker);
    cmp_ok Time::HiRes::time() - $told, '<', 10, 'the worker ends long before http_timeout';
    like $call->error, qr/terminated before it finished/, 'its caller gets an error';
    JobAlerting::configure($node, sendgrid_url => $stub->url);
    is_delivered($stub, [$job]);
};

# ---------------------------------------------------------------- uploads

subtest 'an upload that broke off was not handed over' => sub {
    JobAlerting::configure($node, sendgrid_url => $narrow->url, http_timeout => '1s');
    # So many addresses make the mail larger than the buffers between the worker and the receiver.
    my $domain = join '.', ('d' x 55) x 4, 'example.com';
    my $everybody = join ',', map { "recipient-$_\@$domain" } 1 .. 999;
    sql("ALTER DATABASE postgres SET job_alerting.mail_to = '$everybody'");
    my $job = JobAlerting::fail_job($node);
    for my $case (
        [ 'close',            qr/./ ],
        [ 'close-after-head', qr/./ ],
        [ 'stall-read',       qr/timed out/ ],
      )
    {
        my ($mode, $why) = @$case;
        $narrow->mode($mode);
        is_not_sent($why, seen => 1);
    }
    is $narrow->count, 0, 'no request was read whole';
    $narrow->mode('202');
    JobAlerting::configure($node, http_timeout => '20s');
    is_delivered($narrow, [$job]);
    cmp_ok length(($narrow->requests)[0]{body}), '>', 250_000, 'the request is large';
    sql('ALTER DATABASE postgres RESET job_alerting.mail_to');
};

subtest 'a small request may have left when the connection is closed, and is sent again' => sub {
    $narrow->modes('close', '202');
    my $job = JobAlerting::fail_job($node);
    like((JobAlerting::run_digest($node))[0]{outcome}, qr/\A(?:pending|in_doubt)\z/, 'not accepted');
    is_delivered($narrow, [$job]);
};

$node->stop;
done_testing();
