package JobAlerting::Deliveries;

# Compares the requests that a receiver got with the delivery promise.
#
#   my @faults = JobAlerting::Deliveries::faults(
#       requests => [ $stub->requests ],    in the order in which they came
#       jobs     => [ 17, 18 ],             the failures that had to be reported
#       digests  => [ 3 ],                  the ids of the digests in the ledger
#       lost     => sub { ... },            whether the answer to a request may have been lost before
#                                           the next request came; called with both requests
#   );
#
# Each fault is a sentence. Without faults, every failure was reported in exactly one digest, every digest
# arrived, and each repeated request had a reason and the same bytes.

use strict;
use warnings;

use JobAlerting;

sub faults {
    my (%given) = @_;
    my @digests = digests(@{ $given{requests} });
    return (
        _wrong_numbers($given{jobs}, [ map { @{ $_->{jobs} } } @digests ], 'job'),
        _wrong_numbers($given{digests}, [ map { $_->{number} } @digests ], 'digest'),
        map { (_wrong_requests($_), _wrong_repeats($_, $given{lost})) } @digests,
    );
}

# The requests grouped into digests by their Message-ID, in the order of their first requests. Each digest
# has: message_id, number, requests, and the jobs that the last request lists.
sub digests {
    my (@requests) = @_;
    my (@digests, %of);
    for my $request (@requests) {
        my $id = $request->{json}{headers}{'Message-ID'} // die "a request without a Message-ID\n";
        push @digests, $of{$id} = { message_id => $id } if !$of{$id};
        push @{ $of{$id}{requests} }, $request;
        $of{$id}{number} = number($request);
        $of{$id}{jobs} = [ JobAlerting::named_jobs($request) ];
    }
    return @digests;
}

# The digest's number, at the end of the subject.
sub number {
    my ($request) = @_;
    my ($number) = $request->{json}{subject} =~ /\[#(\d+)\]\z/ or die "a subject without a number\n";
    return $number;
}

# ---------------------------------------------------------------- inside

sub _wrong_numbers {
    my ($wanted, $found, $what) = @_;
    my %surplus;
    $surplus{$_}++ for @$found;
    $surplus{$_}-- for @$wanted;
return map { "$what $_ was reported " . ($surplus{$_} < 0 ? 'too seldom' : 'too often') }
        grep { $surplus{$_} } sort keys %surplus;
}

sub _wrong_requests {
    my ($digest) = @_;
    my @requests = @{ $digest->{requests} };
    my %listed = map { $_ => 1 } @{ $digest->{jobs} };
    return (
        (map { "digest $digest->{number} is a bad request: $_->{verdict}" }
            grep { $_->{verdict} !~ /\A202 / } @requests),
        (map { "digest $digest->{number} came as " . number($_) }
            grep { number($_) != $digest->{number} } @requests),
        (map { "digest $digest->{number} lost job $_" }
            grep { !$listed{$_} } map { JobAlerting::named_jobs($_) } @requests),
        _was_accepted($requests[-1]) ? () : "digest $digest->{number} was not accepted, and did not come again",
    );
}

# A repeated request needs a reason, and the bytes of the first request that may have arrived.
sub _wrong_repeats {
    my ($digest, $lost) = @_;
    my ($first, @faults);
    my @requests = @{ $digest->{requests} };
    for my $i (1 .. $#requests) {
        my ($before, $request) = @requests[ $i - 1, $i ];
        $first //= $before if !_was_refused($before);
        push @faults, "digest $digest->{number} came again in other bytes"
          if $first && $request->{body} ne $first->{body};
        push @faults, "digest $digest->{number} came again without need"
          if !_was_refused($before) && !$lost->($before, $request);
    }
    return @faults;
}

# These go by the stub's mode, whether or not the sender received the answer.
sub _was_refused  { return $_[0]{mode} =~ /\A(?:4\d\d|refuse)\b/ }
sub _was_accepted { return $_[0]{mode} =~ /\A(?:202|ok|stall|slow)\b/ }

1;
