package JobAlerting::Clock;

# The time of day of the servers that a test starts, set by the test: a day of outage in seconds.
#
#   my $clock = JobAlerting::Clock->start;     before the server is
#   $clock->pass($node, 3600);                 an hour later, or, negative, earlier
#
# Processes that were started before the clock, such as the test's own, keep the true time.

use strict;
use warnings;

use PostgreSQL::Test::Utils ();

use JobAlerting::Preload;

sub start {
    my ($class) = @_;
    my $library = JobAlerting::Preload::library('clock');
    my $self = bless { file => "$library.ahead", ahead => 0 }, $class;
    $self->_set(0);
    $ENV{JOB_ALERTING_CLOCK} = $self->{file};
    $ENV{LD_PRELOAD} = $library;
    return $self;
}

# The launcher sleeps by the monotonic clock; a reload wakes it, and it reads this clock.
sub pass {
    my ($self, $node, $seconds) = @_;
    $self->_set($self->{ahead} + $seconds);
    $node->reload;
    return;
}

# The file is written in place, because the servers have mapped it.
sub _set {
    my ($self, $ahead) = @_;
    open my $file, -e $self->{file} ? '+<:raw' : '>:raw', $self->{file} or die "cannot open $self->{file}: $!";
    syswrite $file, pack('q', $ahead) or die "cannot write $self->{file}: $!";
    close $file or die "cannot write $self->{file}: $!";
    $self->{ahead} = $ahead;
    return;
}

1;
