package JobAlerting::Faults;

# What can end a round, wherever it is. Each returns when the server is up again.
#
#   for my $fault (JobAlerting::Faults::all()) {
#       my ($name, $strike) = @$fault;
#       $strike->($node, $round);
#   }
#
# A round is a hash: worker, the process; call, that of run_digest(), as begin_digest() returns it;
# stopped, if the worker is stopped by SIGSTOP.

use strict;
use warnings;

use Test::More;

use JobAlerting;

sub all {
    return (
        [ 'SIGKILL',          \&kill_worker ],
        [ 'SIGTERM',          \&terminate ],
        [ 'SIGINT',           \&cancel ],
        [ 'immediate stop',   \&stop_at_once ],
        [ 'postmaster death', \&kill_postmaster ],
    );
}

sub kill_worker {
    my ($node, $round) = @_;
    kill KILL => $round->{worker};
    $round->{call}->finish;
    JobAlerting::wait_for_server($node);
    return;
}

sub terminate {
    my ($node, $round) = @_;
    is JobAlerting::sql($node, "SELECT pg_terminate_backend($round->{worker})"), 't', 'terminated';
    wake($round);
    return;
}

sub cancel {
    my ($node, $round) = @_;
    is JobAlerting::sql($node, "SELECT pg_cancel_backend($round->{worker})"), 't', 'cancelled';
    wake($round);
    return;
}

sub stop_at_once {
    my ($node, $round) = @_;
    if ($round->{stopped}) {
        # A stopped process would keep the postmaster waiting for 5 s. When the launcher is gone, the worker
        # has got its signal, too.
        my $launcher = JobAlerting::launcher($node);
        kill QUIT => PostgreSQL::Test::Utils::slurp_file($node->data_dir . '/postmaster.pid') =~ /\A(\d+)/;
        JobAlerting::wait_for_end($launcher);
        wake($round);
    }
    $node->stop('immediate', fail_ok => 1);
    $node->start;
    return;
}

sub kill_postmaster {
    my ($node, $round) = @_;
    my @orphans = ($round->{worker}, JobAlerting::launcher($node));
    $node->kill9;
    wake($round);
    JobAlerting::wait_for_end(@orphans);
    JobAlerting::start_again($node);
    return;
}

# ---------------------------------------------------------------- inside

sub wake {
    my ($round) = @_;
    kill CONT => $round->{worker} if $round->{stopped};
    return;
}

1;
