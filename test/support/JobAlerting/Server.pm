package JobAlerting::Server;

# Differences between versions of the server and between installations that the tests must know.
#
#   sql("SET $JobAlerting::Server::PARALLEL = on");

use strict;
use warnings;

use PostgreSQL::Test::Utils ();

my ($version) = _configured('--version') =~ /\A\w+ (\d+)/ or die "pg_config does not tell the version of the server\n";

# The setting that makes the planner use parallel workers where it can.
our $PARALLEL = $version >= 16 ? 'debug_parallel_query' : 'force_parallel_mode';

# Whether standard_conforming_strings can be off.
our $HAS_BACKSLASH_STRINGS = $version < 19;

# The refusal to show a hidden setting, and the log's line about a process that cannot be started.
our $HIDDEN_SETTING = $version >= 16
  ? qr/permission denied to examine "[^"]*"\nDETAIL:  Only roles with privileges of the "pg_read_all_settings" role/
  : qr/must be superuser or have privileges of pg_read_all_settings/;
our $NO_PROCESS = $version >= 17 ? qr/could not fork background worker process/ : qr/could not fork worker process/;

# Whether an extension is installed.
sub has_extension {
    my ($name) = @_;
    return -e _configured('--sharedir') . "/extension/$name.control";
}

# Whether a program is installed.
sub has_program {
    my ($name) = @_;
    return scalar grep { -x "$_/$name" } split /:/, $ENV{PATH};
}

sub _configured {
    my ($what) = @_;
    my ($answer) = PostgreSQL::Test::Utils::run_command([ 'pg_config', $what ]);
    return $answer;
}

1;
