# META.json follows PGXN's meta specification 1.0.0 and agrees with the other files.

use strict;
use warnings;

use FindBin;
use JSON::PP ();
use Test::More;

my $root = "$FindBin::Bin/../..";

sub content {
    my ($name) = @_;
    open my $file, '<', "$root/$name" or die "cannot read $name: $!";
    local $/;
    return <$file>;
}

my $meta    = JSON::PP->new->utf8->decode(content('META.json'));
my $semver  = qr/\A(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)\z/;
my $term    = qr/\A[^\s\/\\[:cntrl:]]{2,}\z/;
my ($sql_version) = content('job_alerting.control') =~ /^default_version = '([^']+)'/m;

subtest 'the required keys are there and well formed' => sub {
    like $meta->{name}, $term, 'name is a term';
    like $meta->{version}, $semver, 'version is a semantic version';
    ok length $meta->{abstract}, 'abstract';
    ok length $meta->{maintainer}, 'maintainer';
    is $meta->{license}, 'postgresql', 'license is one that the specification lists';
    is_deeply $meta->{'meta-spec'},
      { version => '1.0.0', url => 'https://pgxn.org/meta/spec.txt' }, 'meta-spec';
};

subtest 'the provided extension exists, in the version that CREATE EXTENSION installs' => sub {
    is_deeply [ keys %{ $meta->{provides} } ], ['job_alerting'], 'one extension';
    my $extension = $meta->{provides}{job_alerting};
    like $extension->{version}, $semver, 'its version is a semantic version';
    like $extension->{version}, qr/\A\Q$sql_version\E\./, "... and one of $sql_version";
    is $extension->{file}, "job_alerting--$sql_version.sql", 'its file is the script that CREATE EXTENSION reads';
    ok -f "$root/$extension->{file}", '... and exists';
    my ($versions) = content('src/server/base/versions.cpp') =~ /\{(.*), nullptr\}/s;
    like $versions, qr/"\Q$sql_version\E"\z/, 'its version is the newest that the library serves';
    ok -f "$root/$extension->{docfile}", 'its docfile exists';
};

subtest 'the optional keys are well formed' => sub {
    ok((grep { $_ eq $meta->{release_status} } qw(stable testing unstable)), 'release_status');
    ok !(grep { !length || length > 255 || m{[/\\[:cntrl:]]} } @{ $meta->{tags} }), 'tags';
    for my $phase (values %{ $meta->{prereqs} }) {
        for my $needed (values %$phase) {
            like $_, qr/\A(?:0|\d+\.\d+\.\d+)\z/, 'prerequisite' for values %$needed;
        }
    }
};

done_testing;
