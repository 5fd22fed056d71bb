# The documents name what exists: their links lead somewhere, each test that doc/faults.md names is
# one, doc/settings.md lists the settings that the library defines, and doc/operations.md quotes the reasons
# of `status` as they are.

use strict;
use warnings;
use utf8;

use File::Basename qw(dirname);
use FindBin;
use Test::More;

my $root = "$FindBin::Bin/../..";

sub content {
    my ($name) = @_;
    open my $file, '<:encoding(UTF-8)', "$root/$name" or die "cannot read $name: $!";
    local $/;
    return <$file>;
}

my @documents = map { s{^\Q$root\E/}{}r } glob "$root/*.md $root/doc/*.md";

# A heading as the address of its section.
sub anchor {
    my ($heading) = @_;
    return lc($heading) =~ s/[^\w\- ]//gr =~ tr/ /-/r;
}

sub anchors {
    my ($name) = @_;
    my $text = content($name) =~ s/^```.*?^```//gmsr;
    return map { anchor($_) => 1 } $text =~ /^#+ (.*)$/mg;
}

subtest 'each link leads to a file, and to a section of it' => sub {
    my @links;
    for my $document (@documents) {
        push @links, map { [ $document, $_ ] } content($document) =~ /\]\(([^)]+)\)|src="([^"]+)"/g;
    }
    @links = grep { defined $_->[1] && $_->[1] !~ /^https?:/ } @links;
    cmp_ok scalar @links, '>', 30, 'there are links';
    for (@links) {
        my ($document, $link) = @$_;
        my ($path, $section) = split /#/, $link, 2;
        my $file = $path eq '' ? $document : dirname($document) . "/$path";
        ok -e "$root/$file", "$document: $link leads to a file";
        next if !defined $section;
        my %anchors = anchors($file);
        ok $anchors{$section}, "$document: $link leads to a section";
    }
};

subtest 'each test of a fault exists' => sub {
    my %tests = map { $_ => 1 } content('doc/faults.md') =~ /`(\d{3}_\w+)`/g;
    cmp_ok scalar keys %tests, '>', 20, 'tests are named';
    ok -f "$root/test/t/$_.pl", "$_ exists" for sort keys %tests;
};

subtest 'each setting is in the table, and no other' => sub {
    my ($table) = content('doc/settings.md') =~ /^\| setting \| default \|.*?\n(.*?)\n\n/ms;
    my @listed  = sort $table =~ /^\| `(\w+)` \|/mg;
    my %defined = map { $_ => 1 } content('src/server/base/settings.cpp') =~ /(?:define_text\(|\.name =)\s*"job_alerting\.(\w+)"/g;
    is_deeply \@listed, [ sort keys %defined ], 'the settings of doc/settings.md';
};

# Where a reason holds a value, the document has "…".
subtest 'each reason of the status is quoted as it is' => sub {
    my $texts = content('job_alerting--1.0.sql') =~ s/''/'/gr;
    $texts .= content($_) =~ s/"\s*"//gr for map { s{^\Q$root\E/}{}r } glob "$root/src/*/*.cpp $root/src/*/*/*.cpp";
    my ($table) = content('doc/operations.md') =~ /^\| reason \|.*?\n\|---.*?\n(.*?)\n\n/ms;
    my @reasons = $table =~ /^\| (.*?) \|/mg;
    cmp_ok scalar @reasons, '>', 20, 'reasons are quoted';
    for my $reason (@reasons) {
        my @missing = grep { index($texts, $_) < 0 } map { s/^[ :;]+|[ :;]+$//gr } split /…|: /, $reason;
        is "@missing", '', $reason =~ s/…/.../gr;
    }
};

done_testing;
