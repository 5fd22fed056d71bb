package JobAlerting::MailStub;

# A running smtp_stub, as a test sees it: a JobAlerting::Stub whose requests are mails. smtp_stub itself
# documents its options, the modes, and the files that are read and written here.
#
#   my $stub = JobAlerting::MailStub->start(size => 10_000);
#   $stub->url                        smtp://127.0.0.1:...; url('smtps', 'localhost') for another
#   my ($mail) = $stub->requests;
#
# A mail is a hash: number, body (bytes), envelope (helo, tls, user, from, options, to, commands),
# mode, time, parsed (what read_mail makes of it), json (the same as SendGrid would be sent it),
# verdict ("202 ok", or what Python's `email` package has to say against it).

use strict;
use warnings;

use parent 'JobAlerting::Stub';

use Cwd ();
use File::Basename ();
use JSON::PP ();

my $SUPPORT = Cwd::abs_path(File::Basename::dirname(__FILE__) . '/..');

sub url {
    my ($self, $scheme, $host) = @_;
    return sprintf '%s://%s:%d', $scheme // 'smtp', $host // '127.0.0.1', $self->port;
}

# What Python's `email` package makes of a message in a file.
sub read_mail {
    my ($file) = @_;
    open my $output, '-|', 'python3', "$SUPPORT/read_mail", $file or die "cannot run read_mail: $!";
    local $/ = undef;
    my $json = readline $output;
    close $output or die "read_mail failed on $file\n";
    return JSON::PP->new->utf8->decode($json);
}

# A mail as SendGrid is sent it, as far as the two have the same.
sub as_sendgrid {
    my ($parsed) = @_;
    my %headers = map { @$_ } @{ $parsed->{headers} };
    return {
        from    => _person(@{ $parsed->{from}[0] }),
        to      => [ map { _person(@$_) } @{ $parsed->{to} } ],
        subject => $headers{Subject},
        content => [ map { { type => $_->{type}, value => $_->{content} =~ s/\r\n/\n/gr } } @{ $parsed->{parts} } ],
        headers => { map { $_ => $headers{$_} } qw(Message-ID References Date Auto-Submitted) },
    };
}

# ---------------------------------------------------------------- inside

sub _command {
    my ($self, %options) = @_;
    return ("$SUPPORT/smtp_stub", $self->dir, JSON::PP->new->utf8->encode(\%options));
}

sub _record {
    my ($self, $place, $name) = @_;
    my %mail = (
        number   => $name + 0,
        line     => 'a mail',
        body     => $self->_slurp("$place/message"),
        envelope => JSON::PP->new->utf8->decode($self->_slurp("$place/envelope")),
        map { $_ => $self->_slurp("$place/$_") } qw(mode time),
    );
    return { %mail, verdict => 'broken off' } if $mail{body} eq '';
    my $parsed = read_mail($self->dir . "/$place/message");
    my @defects = @{ $parsed->{defects} };
    return { %mail, parsed => $parsed, json => as_sendgrid($parsed), verdict => @defects ? "@defects" : '202 ok' };
}

sub _person {
    my ($name, $email) = @_;
    return { email => $email, $name eq '' ? () : (name => $name) };
}

1;
