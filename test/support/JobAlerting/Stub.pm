package JobAlerting::Stub;

# Runs sendgrid_stub for a test. Needs no PostgreSQL. sendgrid_stub itself documents the modes and the
# files that are read and written here.
#
#   my $stub = JobAlerting::Stub->start;            start(port => N): at a given port;
#                                                   start(narrow => 1): small receive buffers
#   $stub->url, $stub->port, $stub->dir
#   $stub->mode('stall');                           from the next connection on
#   $stub->modes('close-after-read', '202');        one for each connection; the last one stays
#   $stub->release;                                 answers the connections that are stalled now, and waits for their end
#   my ($first) = $stub->wait_for(1, 10);           the requests, once there are so many
#   $stub->requests, $stub->broken, $stub->count
#   my $came = $stub->from_now; ... $came->();      the requests since; in scalar context their number
#   $stub->stop;                                    from then on connections are refused
#
# A request is a hash: number, line, headers (names in lower case, repeated ones joined by ", "),
# body (bytes), json (the body decoded; undef when it is none, or of more than 4 MB), mode, verdict,
# time.
#
# After the stub has complained, of an unknown mode for instance, every access to its records dies, because
# its answers are not those that the test expects.

use strict;
use warnings;

use Cwd ();
use Fcntl qw(LOCK_EX);
use File::Basename ();
use File::Temp ();
use JSON::PP ();
use POSIX ();
use Time::HiRes ();

my $PROGRAM = Cwd::abs_path(File::Basename::dirname(__FILE__) . '/../sendgrid_stub');

# Running stubs of this process: pid => 1. References to them would prevent DESTROY.
my %running;

sub start {
    my ($class, %options) = @_;
    my $dir = File::Temp::tempdir('sendgrid_stub_XXXXXX', TMPDIR => 1, CLEANUP => 1);
    my $self = bless { owner => $$, dir => $dir }, $class;
    $self->{pid} = $self->_spawn(%options);
    $running{ $self->{pid} } = 1;
    _poll(sub { $self->_listens }, 10) or die "the stub does not listen\n";
    $self->{port} = $self->_slurp('port');
    return $self;
}

sub dir  { return $_[0]{dir} }
sub port { return $_[0]{port} }
sub url  { return "http://127.0.0.1:$_[0]{port}" }

sub mode {
    my ($self, $mode) = @_;
    $self->modes($mode);
    return;
}

sub modes {
    my ($self, @modes) = @_;
    # The stub's own lock keeps a connection that comes now from writing the old modes back.
    open my $lock, '>>', "$self->{dir}/lock" or die "cannot open the stub's lock: $!";
    flock $lock, LOCK_EX or die "cannot lock: $!";
    $self->_write("mode.new", join '', map { "$_\n" } @modes);
    rename "$self->{dir}/mode.new", "$self->{dir}/mode" or die "cannot set the mode: $!";
    return;
}

sub release {
    my ($self) = @_;
    $self->_write('release', '');
    _poll(sub { !$self->_entries('holding') }, 10) or die "the stub does not let go\n";
    unlink "$self->{dir}/release";
    return;
}

# Connections that are stalled now.
sub held {
    my ($self) = @_;
    return scalar $self->_entries('holding');
}

sub requests {
    my ($self) = @_;
    return $self->_records('requests');
}

# Connections that did not become requests: uploads that broke off, connections closed before they were read.
sub broken {
    my ($self) = @_;
    return $self->_records('broken');
}

sub count {
    my ($self) = @_;
    $self->_check;
    return scalar $self->_entries('requests');
}

sub from_now {
    my ($self) = @_;
    my $before = $self->count;
    return sub { return grep { $_->{number} > $before } $self->requests };
}

sub wait_for {
    my ($self, $wanted, $seconds) = @_;
    _poll(sub { $self->count >= $wanted }, $seconds // 30)
      or die "waited in vain for $wanted request(s): " . $self->_diagnosis;
    return $self->requests;
}

# Sends SIGTERM and waits for the end. Also called when the object is destroyed and when the test ends.
sub stop {
    my ($self) = @_;
    _end($self->{pid}) if $$ == $self->{owner} && delete $running{ $self->{pid} };
    return;
}

sub DESTROY {
    my ($self) = @_;
    local ($?, $!, $@);
    $self->stop;
    return;
}

# Children of the test must not stop the stubs, which are children of their parent.
my $owner = $$;

END {
    my $status = $?;
    if ($$ == $owner) {
        _end($_) for keys %running;
    }
    $? = $status;
}

# ---------------------------------------------------------------- inside

sub _spawn {
    my ($self, %options) = @_;
    my @command = $self->_command(%options);
    my $pid = fork // die "cannot fork: $!";
    return $pid if $pid;
    # If exec() fails, this process must not run the END blocks of the test.
    open STDOUT, '>', "$self->{dir}/stdout" or POSIX::_exit(1);
    open STDERR, '>', "$self->{dir}/stderr" or POSIX::_exit(1);
    { no warnings 'exec'; exec @command }
    print STDERR "cannot run @command: $!\n";
    POSIX::_exit(1);
}

sub _command {
    my ($self, %options) = @_;
    return ($^X, $PROGRAM, $self->{dir}, $options{port} // 0, $options{narrow} ? 'narrow' : ());
}

sub _end {
    my ($pid) = @_;
    kill TERM => $pid;
    waitpid $pid, 0;
    return;
}

sub _listens {
    my ($self) = @_;
    $self->_check;
    return -e "$self->{dir}/port";
}

sub _check {
    my ($self) = @_;
    die 'the stub complained: ' . $self->_slurp('stderr') if -s "$self->{dir}/stderr";
    return;
}

sub _records {
    my ($self, $kind) = @_;
    $self->_check;
    # A record never changes, and a test looks at it many times.
    return map { $self->{records}{"$kind/$_"} //= $self->_record("$kind/$_", $_) } sort $self->_entries($kind);
}

sub _record {
    my ($self, $place, $name) = @_;
    my %record = map { $_ => $self->_slurp("$place/$_") } qw(line headers body mode verdict time);
    return {
        %record,
        number  => $name + 0,
        headers => _headers($record{headers}),
        json    => scalar _decoded($record{body}),
    };
}

# A longer body is not decoded: JSON::PP would take seconds for the body of the 413 test.
sub _decoded {
    my ($body) = @_;
    return if length $body > 4 * 1024 * 1024;
    return scalar eval { JSON::PP->new->utf8->decode($body) };
}

sub _headers {
    my ($text) = @_;
    my %headers;
    for (split /\r\n/, $text) {
        my ($name, $value) = /\A([^:]+):\s*(.*?)\s*\z/ or next;
        $name = lc $name;
        $headers{$name} = defined $headers{$name} ? "$headers{$name}, $value" : $value;
    }
    return \%headers;
}

sub _diagnosis {
    my ($self) = @_;
    my $tell = sub { "  $_[0] $_->{number}: $_->{line}: $_->{verdict} (mode $_->{mode})" };
    my @came = map { $tell->('request') } $self->requests;
    my @broken = map { $tell->('broken') } $self->broken;
    return join "\n", scalar(@came) . ' came', @came, @broken, '';
}

sub _entries {
    my ($self, $name) = @_;
    opendir my $handle, "$self->{dir}/$name" or die "cannot read $self->{dir}/$name: $!";
    return grep { !/\A\./ } readdir $handle;
}

sub _slurp {
    my ($self, $name) = @_;
    open my $file, '<:raw', "$self->{dir}/$name" or die "cannot read $self->{dir}/$name: $!";
    local $/ = undef;
    return readline($file) // '';
}

sub _write {
    my ($self, $name, $content) = @_;
    open my $file, '>:raw', "$self->{dir}/$name" or die "cannot write $self->{dir}/$name: $!";
    print {$file} $content;
    close $file or die "cannot write $self->{dir}/$name: $!";
    return;
}

sub _poll {
    my ($condition, $seconds) = @_;
    my $deadline = Time::HiRes::time() + $seconds;
    until ($condition->()) {
        return 0 if Time::HiRes::time() > $deadline;
        Time::HiRes::usleep(20_000);
    }
    return 1;
}

1;
