# Copies of a database: made from a template, restored from a dump, started from a base backup. A copy
# holds the failures that its original had recorded, until an operator releases them. It reports new
# failures itself.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting;

my $stub = JobAlerting::Stub->start;
# Not preloaded: a launcher would resend what the originals have in doubt.
my $node = JobAlerting::node('main', stub => $stub, streaming => 1, preload => 0);

# One round. Returns its row of the channel, and the mails.
sub round {
    my ($cluster, $db) = @_;
    my $before = $stub->count;
    my $row = (JobAlerting::run_digest($cluster, $db))[-1];
    return ($row, ($stub->requests)[ $before .. $stub->count - 1 ]);
}

# The text of a mail in one line; empty when there is no mail.
sub text {
    my ($mail) = @_;
    return '' if !$mail;
    return JobAlerting::text_part($mail) =~ s/\s+/ /gr;
}

sub is_outcome {
    my ($row, $outcome) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is $row->{outcome}, $outcome, "a round: $outcome" or diag explain $row;
    return;
}

# A failure, and a round that gets this answer.
sub fail_into {
    my ($mode, $db, $outcome) = @_;
    $stub->mode($mode);
    my $job = JobAlerting::fail_job($node, db => $db);
    my $row = (JobAlerting::run_digest($node, $db))[-1];
    is_outcome($row, $outcome);
    $stub->mode('202');
    return $job;
}

# ---------------------------------------------------------------- originals

sub create_original {
    my ($db) = @_;
    $node->safe_psql('postgres', "CREATE DATABASE $db") if $db ne 'postgres';
    JobAlerting::create_jobs($node, $db);
    return { db => $db, jobs => [ fail_into('202', $db, 'accepted') ] };
}

# One digest in doubt, and a younger one pending.
sub create_waiting {
    my $original = create_original('postgres');
    $node->safe_psql('postgres', 'ALTER DATABASE postgres SET job_alerting.on_in_doubt = hold');
    push @{ $original->{jobs} }, fail_into('close-after-read', 'postgres', 'in_doubt');
    push @{ $original->{jobs} }, fail_into('401', 'postgres', 'pending');
    return $original;
}

# One digest in doubt, and behind it a failure that is recorded and in no digest.
sub create_blocked {
    my $original = create_original('blocked');
    push @{ $original->{jobs} }, fail_into('close-after-read', 'blocked', 'in_doubt') for 1 .. 2;
    return $original;
}

# The request of a digest is on its way.
sub create_sending {
    my $original = create_original('sending');
    my $before = $stub->count;
    $stub->modes('stall', '202');
    push @{ $original->{jobs} }, JobAlerting::fail_job($node, db => 'sending');
    $original->{call} = JobAlerting::begin_digest($node, db => 'sending');
    $stub->wait_for($before + 1);
    return $original;
}

# ---------------------------------------------------------------- copies

# A copy reports no failure that its original had recorded. Its first mail has the failures since, and says
# that it comes from a copy. `held`: the number of held digests.
sub is_a_copy {
    my ($cluster, $db, $held) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $new = JobAlerting::fail_job($cluster, db => $db);
    my ($row, @mails) = round($cluster, $db);
    is_outcome($row, 'accepted');
    is_deeply [ map { [ JobAlerting::named_jobs($_) ] } @mails ], [ [$new] ], 'one mail with the new failure';
    like text($mails[0]), qr/This database is a copy/, 'it says that it comes from a copy';
    my @named = text($mails[0]) =~ /Digest #\d+ \(1 failure\) may not have reached you: this database is a copy/g;
    is scalar @named, $held, 'it names the held digests';
    is $cluster->safe_psql($db, q(SELECT count(*) FROM job_alerting.digest WHERE state = 'in_doubt' AND held = 'copy')), $held,
      "held: $held";
    is_quiet($cluster, $db, $held);
    my $next = JobAlerting::fail_job($cluster, db => $db);
    ($row, @mails) = round($cluster, $db);
    is_deeply [ map { [ JobAlerting::named_jobs($_) ] } @mails ], [ [$next] ], 'the next failure is reported';
    unlike text($mails[0]), qr/This database is a copy/, 'its mail does not mention a copy';
    return;
}

sub is_quiet {
    my ($cluster, $db, $held) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($row, @mails) = round($cluster, $db);
    is_outcome($row, $held ? 'in_doubt' : 'silent');
    is scalar @mails, 0, 'no mail';
    return;
}

sub dump_database {
    my ($db) = @_;
    my $file = $node->basedir . "/$db.dump";
    PostgreSQL::Test::Utils::system_or_bail('pg_dump', '-Fc', '-f', $file, '-d', $node->connstr($db));
    return $file;
}

sub restore_dump {
    my ($file, $cluster, $db, @options) = @_;
    PostgreSQL::Test::Utils::system_or_bail('pg_restore', '--exit-on-error', @options,
        '-d', $cluster->connstr($db), $file);
    return;
}

sub create_copy {
    my ($db, $template) = @_;
    $node->safe_psql('template1', "CREATE DATABASE $db" . ($template ? " TEMPLATE $template" : ''));
    return;
}

# A cluster made from the base backup, with its own launcher.
sub cluster_from_backup {
    my ($name, @conf) = @_;
    my $cluster = PostgreSQL::Test::Cluster->new($name);
    $cluster->init_from_backup($node, 'backup');
    $cluster->append_conf('postgresql.conf', join "\n", "shared_preload_libraries = 'job_alerting'", @conf);
    return $cluster;
}

# Waits for the end of the launcher's first round in a database.
sub wait_for_launcher {
    my ($cluster, $db) = @_;
    my $scanned = 'SELECT bool_and(last_scan_at > pg_postmaster_start_time()) FROM job_alerting.queue';
    return JobAlerting::poll(sub {
        my ($status, $out) = $cluster->psql($db, $scanned);
        return $status == 0 && $out eq 't';
    }, 30, "a round in $db");
}

my $waiting = create_waiting();
my $blocked = create_blocked();
my $sending = create_sending();
$node->backup('backup');
my $dump_of_sending = dump_database('sending');
my $worker = JobAlerting::worker($node);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($worker)");
$sending->{call}->finish;
is $node->safe_psql('sending', 'SELECT string_agg(state, chr(32) ORDER BY id) FROM job_alerting.digest'),
  'accepted sending', 'a digest is in state sending, and its sender is gone';
$stub->mode('202');

subtest 'a database made from a template holds the past of its original' => sub {
    for my $original ([ postgres => 2 ], [ blocked => 2 ], [ sending => 1 ]) {
        my ($db, $held) = @$original;
        create_copy("copy_of_$db", $db);
        is_a_copy($node, "copy_of_$db", $held);
    }
};

subtest 'a copy of a copy holds the held digests and the unreported failures of that copy' => sub {
    my $job = JobAlerting::fail_job($node, db => 'copy_of_blocked');
    $stub->mode('401');
    my ($row) = round($node, 'copy_of_blocked');
    is_outcome($row, 'pending');
    $stub->mode('202');
    create_copy('copy_of_copy', 'copy_of_blocked');
    is_a_copy($node, 'copy_of_copy', 3);
    my @mails;
    ($row, @mails) = round($node, 'copy_of_blocked');
    is_deeply [ map { JobAlerting::named_jobs($_) } @mails ], [$job], 'the first copy reports its pending failure';
};

subtest 'an operator can mark a copy that looks like its original' => sub {
    my $db = 'copy_of_sending';
    JobAlerting::fail_job($node, db => $db);
    $stub->mode('401');
    my ($row) = round($node, $db);
    is_outcome($row, 'pending');
    $stub->mode('202');
    $node->safe_psql($db, q(UPDATE job_alerting.installation SET place = 'elsewhere'));
    is_a_copy($node, $db, 2);
};

subtest 'a dump taken during a request' => sub {
    create_copy('restored');
    restore_dump($dump_of_sending, $node, 'restored');
    is_a_copy($node, 'restored', 1);
};

subtest 'a dump restored into the same database' => sub {
    create_copy('in_place', 'sending');
    is_a_copy($node, 'in_place', 1);
    $stub->mode('401');
    my $job = JobAlerting::fail_job($node, db => 'in_place');
    round($node, 'in_place');
    $stub->mode('202');
    my $file = dump_database('in_place');
    my ($row, @mails) = round($node, 'in_place');
    is_deeply [ map { JobAlerting::named_jobs($_) } @mails ], [$job], 'a failure is reported after the dump';
    restore_dump($file, $node, 'in_place', '--clean');
    is_a_copy($node, 'in_place', 2);
};

subtest 'a dump restored between rounds of the new database' => sub {
    my $file = dump_database('postgres');
    create_copy('early');
    $node->safe_psql('early', 'CREATE EXTENSION job_alerting');
    my $early = JobAlerting::begin_digest($node, db => 'early');
    like $early->error, qr/no queue is watched/, 'a round before anything is restored';
    restore_dump($file, $node, 'early');
    is_a_copy($node, 'early', 2);

    # The tables are restored one by one, with a round in between.
    create_copy('halfway');
    my $half = sub {
        my ($kept) = @_;
        my $all = $file =~ s/\.dump\z/.list/r;
        my $list = qx{pg_restore -l '$file'};
        my $data = qr/TABLE DATA job_alerting (?:installation|queue) |SEQUENCE SET/;
        PostgreSQL::Test::Utils::append_to_file($all,
            join '', map { "$_\n" } grep { $kept xor !/$data/ } split /\n/, $list);
        restore_dump($file, $node, 'halfway', '-L', $all);
        unlink $all;
    };
    $half->(0);
    my ($row, @mails) = round($node, 'halfway');
    is scalar @mails, 0, 'the round in between sends nothing';
    $half->(1);
    is_a_copy($node, 'halfway', 2);
};

my $other = JobAlerting::node('other', stub => $stub);

subtest 'a dump restored into a database of the same oid in another cluster' => sub {
    is $other->safe_psql('postgres', q(SELECT oid FROM pg_database WHERE datname = 'postgres')),
      $node->safe_psql('postgres', q(SELECT oid FROM pg_database WHERE datname = 'postgres')), 'the oids are the same';
    restore_dump(dump_database('postgres'), $other, 'postgres');
    # The round detects the copy in its first transaction, before the first scan.
    my $before = $stub->count;
    my $held = JobAlerting::hold($other, 'LOCK TABLE research_jobs');
    my $waits = "SELECT count(*) FROM pg_locks WHERE relation = 'research_jobs'::regclass AND NOT granted";
    my $round = JobAlerting::begin_digest($other);
    JobAlerting::poll(sub { $other->safe_psql('postgres', $waits) eq '1' }, 10, 'the first scan');
    my $killed = JobAlerting::worker($other);
    kill KILL => $killed or die "cannot kill $killed: $!";
    $round->finish;
    JobAlerting::wait_for_server($other);
    JobAlerting::let_go($held);
    wait_for_launcher($other, 'postgres');
    is $stub->count, $before, 'a round that was killed before its first scan, and the one after it, send nothing';
    is_a_copy($other, 'postgres', 2);
};

subtest 'an operator settles held digests' => sub {
    my $status = sub {
        my ($row) = JobAlerting::rows($other, undef, 'SELECT * FROM job_alerting.status');
        return $row;
    };
    my ($first, $second) = map { $_->{id} } JobAlerting::rows($other, undef,
        'SELECT id FROM job_alerting.digest WHERE held IS NOT NULL ORDER BY id');
    is_quiet($other, 'postgres', 2);
    ok !$status->()->{healthy}, 'until then, status is unhealthy';
    like $status->()->{reason}, qr/digest $first .* is in doubt: this database is a copy.*settle\($first, true\)/,
      'status says why';
    $other->safe_psql('postgres', "SELECT job_alerting.settle($first, true)");
    is_quiet($other, 'postgres', 1);
    like $status->()->{reason}, qr/digest $second .* is in doubt/, 'one digest less is held';
    $other->safe_psql('postgres', "SELECT job_alerting.settle($second, false)");
    my ($row, @mails) = round($other, 'postgres');
    is_outcome($row, 'accepted');
    is_deeply [ map { [ JobAlerting::named_jobs($_) ] } @mails ], [ [ $waiting->{jobs}[2] ] ], 'one mail with the released digest';
    is_quiet($other, 'postgres', 0);
    ok $status->()->{healthy}, 'status is healthy' or diag explain $status->();
};

subtest 'a channel that the original had, and one that it had not' => sub {
    create_copy('channels', 'blocked');
    my $log = sub { PostgreSQL::Test::Utils::slurp_file($node->logfile) =~ s/\s+/ /gr };
    $node->safe_psql('channels', "ALTER DATABASE channels SET job_alerting.channels = 'log'");
    my $new = JobAlerting::fail_job($node, db => 'channels');
    my ($row, @mails) = round($node, 'channels');
    is_outcome($row, 'accepted');
    is_deeply [ $row->{channel}, $row->{failures}, scalar @mails ], [ 'log', 1, 0 ], 'the new channel gets new failures';
    like $log->(), qr/ in main\/channels: .*This database is a copy/, 'its mail says that it comes from a copy';
    is $node->safe_psql('channels', q(SELECT count(*) FROM job_alerting.digest WHERE channel = 'log' AND held = 'copy')), 1,
      'earlier failures are held back from it';
    $node->safe_psql('channels', 'ALTER DATABASE channels RESET job_alerting.channels');
    ($row, @mails) = round($node, 'channels');
    is_deeply [ map { [ JobAlerting::named_jobs($_) ] } @mails ], [ [$new] ], 'the old channel gets new failures, too';
    is $node->safe_psql('channels', q(SELECT count(*) FROM job_alerting.digest WHERE channel = 'sendgrid' AND held = 'copy')), 2,
      'its earlier failures are held';
};

subtest 'a cluster started from a base backup is a copy, also after restarts' => sub {
    my $before = $stub->count;
    my $clone = cluster_from_backup('clone');
    $clone->start;
    wait_for_launcher($clone, $_) for qw(postgres blocked sending);
    is $stub->count, $before, 'the rounds of its launcher send nothing';
    my ($status) = JobAlerting::rows($clone, 'blocked', 'SELECT * FROM job_alerting.status');
    like $status->{reason}, qr/is in doubt: this database is a copy/, 'status is unhealthy and says why';
    is_a_copy($clone, @$_) for [ postgres => 2 ], [ blocked => 2 ], [ sending => 1 ];

    # It delivers the digests that it has composed itself, after any number of restarts.
    $stub->mode('401');
    my $job = JobAlerting::fail_job($clone, db => 'sending');
    my ($row) = round($clone, 'sending');
    is_outcome($row, 'pending');
    for (1 .. 2) {
        $clone->restart;
        wait_for_launcher($clone, 'sending');
    }
    # Somebody may remove this file, which does not make it another copy.
    unlink $clone->data_dir . '/backup_label.old' or die "cannot remove the label: $!";
    $stub->mode('202');
    my @mails;
    ($row, @mails) = round($clone, 'sending');
    is_deeply [ map { [ JobAlerting::named_jobs($_) ] } @mails ], [ [$job] ], 'its own digest is delivered, also after restarts';
    unlike text($mails[0]), qr/This database is a copy/, 'it has the right jobs';
    $clone->stop;
};

# Without a recovery target, recovery ends with the archive, which is empty.
sub is_recovered_copy {
    my ($name, @conf) = @_;
    my $before = $stub->count;
    my $restored = cluster_from_backup($name, q(restore_command = 'false'), @conf);
    $restored->set_recovery_mode;
    $restored->start;
    wait_for_launcher($restored, $_) for qw(postgres blocked sending);
    like $restored->safe_psql('postgres', q(SELECT pg_walfile_name(pg_current_wal_lsn()))), qr/\A00000002/,
      'the cluster is on another timeline';
    is $stub->count, $before, 'no mail';
    is_a_copy($restored, @$_) for [ blocked => 2 ], [ sending => 1 ];
    return $restored;
}

subtest 'a cluster recovered to a point in time is a copy, too' => sub {
    is_recovered_copy('target', q(recovery_target = 'immediate'), q(recovery_target_action = 'promote'))->stop;
};

subtest 'a cluster recovered to the end of the archive is a copy, as long as it runs' => sub {
    my $restored = is_recovered_copy('archive');
    $restored->safe_psql('sending', 'SELECT job_alerting.settle(id, true) FROM job_alerting.digest WHERE held IS NOT NULL');
    $stub->mode('401');
    my $job = JobAlerting::fail_job($restored, db => 'sending');
    my ($row) = round($restored, 'sending');
    is_outcome($row, 'pending');
    $stub->mode('202');
    my @mails;
    ($row, @mails) = round($restored, 'sending');
    is_deeply [ map { [ JobAlerting::named_jobs($_) ] } @mails ], [ [$job] ], 'its own digest is delivered';
    $restored->stop;
};

subtest 'the originals are not affected' => sub {
    my ($row, @mails) = round($node, 'sending');
    is_deeply [ map { JobAlerting::named_jobs($_) } @mails ], [ $sending->{jobs}[1] ],
      'the digest in state sending is sent again';
    ($row, @mails) = round($node, 'blocked');
    is_deeply [ map { JobAlerting::named_jobs($_) } @mails ], [ @{ $blocked->{jobs} }[ 1, 2 ] ],
      'the digest in doubt and the failure behind it are sent';
    ($row, @mails) = round($node, 'postgres');
    is_deeply [ map { JobAlerting::named_jobs($_) } @mails ], [ $waiting->{jobs}[2] ], 'the pending digest is sent';
    is_quiet($node, @$_) for [ sending => 0 ], [ blocked => 0 ];
    unlike text($_), qr/copy/, 'no mail mentions a copy' for @mails;
};

$other->stop;
$node->stop;
done_testing();
