package JobAlerting::Preload;

# Libraries that a test puts between a server and the C library by LD_PRELOAD.

use strict;
use warnings;

use Cwd ();
use File::Basename ();

use PostgreSQL::Test::Utils ();

my $SUPPORT = Cwd::abs_path(File::Basename::dirname(__FILE__) . '/..');

# Compiles test/support/NAME.c with these definitions, and returns the library.
sub library {
    my ($name, @definitions) = @_;
    my $library = Cwd::abs_path(PostgreSQL::Test::Utils::tempdir($name)) . "/$name.so";
    PostgreSQL::Test::Utils::system_or_bail($ENV{CC} // 'cc', '-O1', '-fPIC', '-shared', '-o', $library, "$SUPPORT/$name.c",
        map { "-D$_" } @definitions);
    return $library;
}

1;
