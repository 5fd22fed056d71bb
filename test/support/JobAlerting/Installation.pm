package JobAlerting::Installation;

# A copy of the server's installation, below a temporary directory, that a test may add extension
# scripts to.
#
#   my $installation = JobAlerting::Installation->new;
#   $installation->put('job_alerting--1.0--2.0.sql', $script);
#   my $node = JobAlerting::node('main', install_path => $installation->path);

use strict;
use warnings;

use Cwd ();
use File::Basename ();
use File::Path ();

use PostgreSQL::Test::Utils ();

# The server finds its files relative to its program, so the programs are copied and the rest is linked.
sub new {
    my ($class) = @_;
    my $self = bless { root => Cwd::abs_path(PostgreSQL::Test::Utils::tempdir('installation')) }, $class;
    my ($bin, $share, $library) = map { _configured($_) } qw(--bindir --sharedir --pkglibdir);
    $self->{path} = $self->{root} . File::Basename::dirname($bin);
    $self->{extensions} = "$self->{root}$share/extension";
    File::Path::make_path("$self->{root}$bin", $self->{extensions}, "$self->{root}" . File::Basename::dirname($library));
    PostgreSQL::Test::Utils::system_or_bail('cp', '-RL', "$bin/.", "$self->{root}$bin");
    _link($library, "$self->{root}$library") if !-e "$self->{root}$library";
    _link($_, "$self->{root}$_") for grep { !m{/extension\z} } glob "$share/*";
    _link($_, "$self->{extensions}/" . File::Basename::basename($_)) for glob "$share/extension/{plpgsql,job_alerting}*";
    return $self;
}

sub path { return $_[0]->{path} }

# The content of an installed file of the extension.
sub content {
    my ($self, $name) = @_;
    return PostgreSQL::Test::Utils::slurp_file("$self->{extensions}/$name");
}

# Adds or replaces a file.
sub put {
    my ($self, $name, $content) = @_;
    unlink "$self->{extensions}/$name";
    PostgreSQL::Test::Utils::append_to_file("$self->{extensions}/$name", $content);
    return;
}

sub _configured {
    my ($directory) = @_;
    my ($path) = PostgreSQL::Test::Utils::run_command([ 'pg_config', $directory ]);
    return $path;
}

sub _link {
    my ($from, $to) = @_;
    symlink $from, $to or die "cannot link $to: $!";
    return;
}

1;
