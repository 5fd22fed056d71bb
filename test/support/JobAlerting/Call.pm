package JobAlerting::Call;

# Statements that run in the background, in a psql of their own.
#
#   my $call = JobAlerting::Call->start($node, 'postgres', 'BEGIN', 'SELECT ...');
#   $call->running             still
#   $call->finish              waits for the end, and returns the call
#   $call->out, $call->error   the output of psql; an error with its SQLSTATE, DETAIL and HINT
#   $call->rows                where the statement is JobAlerting::begin_digest's
#   $call->seconds             from start to finish
#
# A call ends at the first error. A call that is never finished ends with the test.

use strict;
use warnings;

use IPC::Run ();
use JSON::PP ();
use Time::HiRes ();

sub start {
    my ($class, $node, $db, @statements) = @_;
    my $self = bless { out => '', err => '', start => Time::HiRes::time() }, $class;
    my @psql = ('psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-v', 'VERBOSITY=verbose');
    my @command = (@psql, '-d', $node->connstr($db // 'postgres'), map { ('-c', $_) } @statements);
    $self->{psql} = IPC::Run::start(\@command,
        '<', \undef, '>', \$self->{out}, '2>', \$self->{err}, IPC::Run::timeout(120));
    return $self;
}

sub running {
    my ($self) = @_;
    $self->{psql}->pump_nb if $self->{psql}->pumpable;
    return $self->{psql}->pumpable;
}

sub finish {
    my ($self) = @_;
    $self->{psql}->finish;
    $self->{seconds} //= Time::HiRes::time() - $self->{start};
    return $self;
}

sub out     { return $_[0]->finish->{out} }
sub error   { return $_[0]->finish->{err} }
sub seconds { return $_[0]->finish->{seconds} }

# The rows, as hashes. Dies of an error.
sub rows {
    my ($self) = @_;
    die 'the call failed: ' . $self->error if $self->error ne '';
    return @{ JSON::PP->new->utf8->decode($self->out) };
}

sub DESTROY {
    my ($self) = @_;
    local ($?, $!, $@);
    $self->{psql}->kill_kill if $self->{psql} && !$self->{seconds};
    return;
}

1;
