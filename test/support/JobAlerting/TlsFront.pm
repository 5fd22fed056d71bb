package JobAlerting::TlsFront;

# TLS, good or bad, before a server that speaks plain text (the stub). One port for all its
# behaviours, so that a test need not configure anew. Needs no PostgreSQL.
#
#   my $authority = JobAlerting::TlsFront::certificate(CA => 1, subject => { CN => 'Test' });
#   my $good = JobAlerting::TlsFront::certificate(issuer => $authority, purpose => 'server',
#                                                 subjectAltNames => [ [ DNS => 'localhost' ] ]);
#   my $front = JobAlerting::TlsFront->new($stub);
#   $front->url                               https://localhost:...
#   $front->serve(certificate => $good);      from now on
#   $front->serve(certificate => $good, version => 'TLSv1_1', ciphers => 'ALL:@SECLEVEL=0');
#   $front->serve(greeting => "text\r\n");    no TLS: that text, and the end
#   $front->rest;                             connections are made by the kernel, and accepted by nobody
#   $front->handshakes                        for each connection that was accepted: the version of
#                                             TLS, or why there is none
#
# The stub sees a connection when the first byte has come through TLS: nothing of a handshake
# that failed, and nothing of a client that left after it.
#
# For the options of a certificate see CERT_create in IO::Socket::SSL::Utils.

use strict;
use warnings;

use File::Temp ();
use IO::Select;
use IO::Socket::INET;
use POSIX ();

my $dir = File::Temp::tempdir('tls_front_XXXXXX', TMPDIR => 1, CLEANUP => 1);

# The machine's settings of OpenSSL forbid old versions of TLS. A test that wants to see the client itself
# refuse them gives these settings to the client's process, too.
our $LAX_SETTINGS = "$dir/openssl.cnf";
_write($LAX_SETTINGS, <<'CONF');
openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = lax
[lax]
MinProtocol = TLSv1
CipherString = DEFAULT@SECLEVEL=0
CONF
{
    local $ENV{OPENSSL_CONF} = $LAX_SETTINGS;
    require IO::Socket::SSL;
    require IO::Socket::SSL::Utils;
}

my $certificates = 0;

# A new certificate with its own key, both in `file`.
sub certificate {
    my (%options) = @_;
    my $issuer = delete $options{issuer};
    my ($certificate, $key) = IO::Socket::SSL::Utils::CERT_create(
        key => IO::Socket::SSL::Utils::KEY_create_ec('prime256v1'),
        $issuer ? (issuer => [ @$issuer{qw(certificate key)} ]) : (),
        %options,
    );
    my $file = sprintf '%s/%d.pem', $dir, ++$certificates;
    _write($file, join '', IO::Socket::SSL::Utils::PEM_cert2string($certificate),
        IO::Socket::SSL::Utils::PEM_key2string($key));
    return { certificate => $certificate, key => $key, file => $file };
}

sub new {
    my ($class, $stub) = @_;
    my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'tcp', Listen => 5)
      or die "cannot listen: $@";
    my $self = bless { owner => $$, stub => $stub->port, listener => $listener }, $class;
    $self->{log} = "$dir/" . $listener->sockport;
    _write($self->{log}, '');
    return $self;
}

sub url { return 'https://localhost:' . $_[0]{listener}->sockport }

sub serve {
    my ($self, %options) = @_;
    $self->rest;
    my $parent = $$;
    $self->{pid} = fork // die "cannot fork: $!";
    return if $self->{pid};
    $SIG{$_} = 'DEFAULT' for qw(TERM INT __DIE__);
    $SIG{PIPE} = 'IGNORE';
    while (getppid == $parent) {
        next if !IO::Select->new($self->{listener})->can_read(1);
        my $client = $self->{listener}->accept or next;
        eval { $self->_meet($client, %options); 1 } or warn $@;
    }
    POSIX::_exit(0);
}

sub rest {
    my ($self) = @_;
    my $pid = delete $self->{pid} or return;
    kill TERM => $pid;
    waitpid $pid, 0;
    return;
}

sub handshakes {
    my ($self) = @_;
    open my $log, '<', $self->{log} or die "cannot read $self->{log}: $!";
    chomp(my @lines = readline $log);
    return @lines;
}

sub DESTROY {
    my ($self) = @_;
    local ($?, $!, $@);
    $self->rest if $self->{owner} == $$;
    return;
}

# ---------------------------------------------------------------- inside

sub _meet {
    my ($self, $client, %options) = @_;
    if (defined $options{greeting}) {
        $self->_note('plain text');
        syswrite $client, $options{greeting};
        return;
    }
    my $file = $options{certificate}{file};
    my $tls = IO::Socket::SSL->start_SSL(
        $client,
        SSL_server      => 1,
        SSL_cert_file   => $file,
        SSL_key_file    => $file,
        SSL_version     => $options{version} // 'SSLv23:!SSLv2:!SSLv3',
        SSL_cipher_list => $options{ciphers} // 'DEFAULT',
        Timeout         => 10,
    );
    return $self->_note("failed: $IO::Socket::SSL::SSL_ERROR") if !$tls;
    $self->_note($tls->get_sslversion);
    _relay($tls, $self->{stub});
    return;
}

sub _note {
    my ($self, $line) = @_;
    open my $log, '>>', $self->{log} or die "cannot write $self->{log}: $!";
    print {$log} "$line\n";
    close $log;
    return;
}

# Relays from the client's first byte until either side closes.
sub _relay {
    my ($tls, $port) = @_;
    my $bytes = '';
    sysread $tls, $bytes, 65536 or return;
    my $server = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Proto => 'tcp')
      or die "cannot reach the stub: $@";
    syswrite $server, $bytes;
    my $both = IO::Select->new($tls, $server);
    while (1) {
        for my $from ($tls->pending ? $tls : $both->can_read) {
            sysread $from, $bytes, 65536 or return $tls->close;
            syswrite $from == $tls ? $server : $tls, $bytes;
        }
    }
}

sub _write {
    my ($path, $content) = @_;
    open my $file, '>', $path or die "cannot write $path: $!";
    print {$file} $content;
    close $file or die "cannot write $path: $!";
    chmod 0600, $path or die "cannot protect $path: $!";
    return;
}

1;
