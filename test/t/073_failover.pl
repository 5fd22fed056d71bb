# Failover: a standby takes over, with all commits of the primary or without the last ones. Then the old
# primary follows the new one and takes over again. Nothing is lost, and no failure is reported again unless
# the new primary lacks the commit.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting;

my $stub = JobAlerting::Stub->start;
# Not preloaded: a launcher would resend digests in doubt. pg_rewind needs the kept WAL.
my $primary = JobAlerting::node('primary', stub => $stub, streaming => 1, preload => 0, conf => 'wal_keep_size = 64MB');

my %old;    # the jobs and requests of the first primary

# One round. Returns its row of the channel, and the mails.
sub round {
    my ($node, $db) = @_;
    my $before = $stub->count;
    my ($row) = JobAlerting::run_digest($node, $db);
    return ($row, ($stub->requests)[ $before .. $stub->count - 1 ]);
}

# A failure, and a round that gets this answer. Returns the job and the request.
sub fail_into {
    my ($mode, $db, $outcome) = @_;
    $stub->mode($mode);
    my $job = JobAlerting::fail_job($primary, db => $db);
    my ($row, $request) = round($primary, $db);
    is $row->{outcome}, $outcome, "$db: $outcome" or diag explain $row;
    $stub->mode('202');
    return { job => $job, request => $request };
}

# The mails that a server composed for a database.
sub mails_from {
    my ($node, $db) = @_;
    my $where = quotemeta($node->name . "/$db");
    return grep { $_->{json}{subject} =~ / in $where: / } $stub->requests;
}

sub jobs {
    my (@mails) = @_;
    return [ map { [ JobAlerting::named_jobs($_) ] } @mails ];
}

sub says_promoted {
    my ($mail) = @_;
    return 0 if !$mail;
    return JobAlerting::text_part($mail) =~ s/\s+/ /gr =~ /This server was promoted\. .*may be reported again here/;
}

sub message_id { return $_[0]{json}{headers}{'Message-ID'} }
sub number     { return $_[0]{json}{subject} =~ /\[#(\d+)\]\z/ ? $1 : undef }

sub launchers {
    my ($node) = @_;
    return $node->safe_psql('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'job_alerting%'));
}

# Promotes a server, and waits for a round of its launcher in each of these databases.
sub promote {
    my ($node, @dbs) = @_;
    my $scans = sub { $node->safe_psql($_[0], 'SELECT last_scan_at FROM job_alerting.queue') };
    my %before = map { $_ => $scans->($_) } @dbs;
    $node->promote;
    for my $db (@dbs) {
        JobAlerting::poll(sub { $scans->($db) ne $before{$db} }, 30, "a round in $db");
        # The scan is over; this round waits for the end of that one.
        round($node, $db);
    }
    return;
}

my @dbs = qw(postgres sending blocked lost pending);
for my $db (@dbs) {
    $primary->safe_psql('postgres', "CREATE DATABASE $db") if $db ne 'postgres';
    JobAlerting::create_jobs($primary, $db);
}

$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->append_conf('postgresql.conf', "shared_preload_libraries = 'job_alerting'");
$standby->start;

subtest 'failures and digests on the primary' => sub {
    $old{$_}{told} = fail_into('202', $_, 'accepted') for qw(postgres lost);
    $old{postgres}{unseen} = JobAlerting::fail_job($primary);
    $old{lost}{unseen} = JobAlerting::fail_job($primary, db => 'lost');
    $old{pending}{refused} = fail_into('401', 'pending', 'pending');
    $old{blocked}{doubtful} = fail_into('close-after-read', 'blocked', 'in_doubt');
    $old{blocked}{behind} = fail_into('close-after-read', 'blocked', 'in_doubt');
    my $before = $stub->count;
    $stub->modes('stall', '202');
    $old{sending}{job} = JobAlerting::fail_job($primary, db => 'sending');
    $old{sending}{call} = JobAlerting::begin_digest($primary, db => 'sending');
    $old{sending}{request} = ($stub->wait_for($before + 1))[-1];
    $primary->wait_for_catchup($standby, 'replay');
};

subtest 'the standby is silent, and its status says that it is a standby' => sub {
    is launchers($standby), 0, 'no launcher';
    my ($status) = JobAlerting::rows($standby, undef, 'SELECT * FROM job_alerting.status');
    ok !$status->{healthy}, 'not healthy';
    is $status->{reason}, 'this server is a standby: rounds run on the primary, so read its status', 'the reason';
    is scalar mails_from($standby, $_), 0, "no mail for $_" for @dbs;
};

subtest 'the primary ends with commits that the standby lacks' => sub {
    $standby->append_conf('postgresql.conf', "primary_conninfo = ''");
    $standby->reload;
    JobAlerting::poll(sub { $standby->safe_psql('postgres', 'SELECT count(*) FROM pg_stat_wal_receiver') eq '0' }, 30,
        'the end of the replication');
    my ($row, @mails) = round($primary, 'lost');
    is_deeply jobs(@mails), [ [ $old{lost}{unseen} ] ], 'one failure is reported meanwhile';
    $old{lost}{mail} = $mails[0];
    ($row, @mails) = round($primary, 'pending');
    is_deeply jobs(@mails), [ [ $old{pending}{refused}{job} ] ], 'the pending one is reported in the end';
    $old{pending}{mail} = $mails[0];
    $primary->stop('immediate');
};

subtest 'a promoted standby has a launcher without a restart' => sub {
    $stub->release;
    promote($standby, @dbs);
    ok launchers($standby) > 0, 'a launcher';
};

subtest 'failures that the primary reported, and the standby knows, are not reported again' => sub {
    is_deeply jobs(mails_from($standby, 'postgres')), [ [ $old{postgres}{unseen} ] ], 'one mail with the new failure';
    my ($first) = mails_from($standby, 'postgres');
    ok says_promoted($first), 'the mail says that the server was promoted';
    my $job = JobAlerting::fail_job($standby);
    my ($row, @mails) = round($standby, 'postgres');
    is_deeply jobs(@mails), [ [$job] ], 'the next failure is reported';
    ok !says_promoted($mails[0]), 'its mail does not mention a promotion';
    ($row, @mails) = round($standby, 'postgres');
    is $row->{outcome}, 'silent', 'the next round is silent';
};

subtest 'digests in state sending or in doubt are sent again byte for byte' => sub {
    my $copies = sub {
        my ($request) = @_;
        return [ map { $_->{body} eq $request->{body} ? 'same' : 'other' }
              grep { $_->{number} > $old{pending}{mail}{number} && message_id($_) eq message_id($request) } $stub->requests ];
    };
    is_deeply $copies->($old{sending}{request}), ['same'], 'the digest in state sending is sent again once';
    is_deeply $copies->($old{blocked}{doubtful}{request}), ['same'], 'the digest in doubt is sent again once';
    is_deeply jobs(mails_from($standby, 'sending')), [], 'there is no other mail';
    is_deeply jobs(mails_from($standby, 'blocked')), [ [ $old{blocked}{behind}{job} ] ], 'the failure behind the digest in doubt is reported';
    is $standby->safe_psql($_, q(SELECT count(*) FROM job_alerting.digest WHERE state <> 'accepted')), 0, "$_: all accepted"
      for qw(sending blocked);
};

subtest 'failures reported in lost commits are reported again in another digest, which says so' => sub {
    for my $db (qw(lost pending)) {
        my @mails = mails_from($standby, $db);
        is_deeply jobs(@mails), jobs($old{$db}{mail}), "$db: one mail";
        ok says_promoted($mails[0]), 'it says that the server was promoted';
        isnt message_id($mails[0]), message_id($old{$db}{mail}), 'it has another Message-ID';
        isnt number($mails[0]), number($old{$db}{mail}), 'it has another number';
        my $job = JobAlerting::fail_job($standby, db => $db);
        my ($row, @next) = round($standby, $db);
        is_deeply jobs(@next), [ [$job] ], 'the next failure is reported';
        ok !says_promoted($next[0]), 'its mail does not mention a promotion';
        ($row, @next) = round($standby, $db);
        is $row->{outcome}, 'silent', 'the next round is silent';
    }
};

subtest 'the old primary, rewound, is silent as a standby' => sub {
    my $conf = $primary->data_dir . '/postgresql.conf';
    my $settings = PostgreSQL::Test::Utils::slurp_file($conf);
    $standby->safe_psql('postgres', 'CHECKPOINT');
    PostgreSQL::Test::Utils::system_or_bail('pg_rewind', '--no-sync', '--target-pgdata', $primary->data_dir,
        '--source-server', $standby->connstr('postgres'));
    # pg_rewind has copied the settings of the other server.
    unlink $conf or die "cannot remove $conf: $!";
    PostgreSQL::Test::Utils::append_to_file($conf, $settings);
    $primary->append_conf('postgresql.conf', "shared_preload_libraries = 'job_alerting'");
    $primary->enable_streaming($standby);
    my $before = $stub->count;
    $primary->start;
    $standby->wait_for_catchup($primary, 'replay');
    is launchers($primary), 0, 'no launcher';
    is $stub->count, $before, 'no mail';
};

subtest 'promoted again, the old primary reports only failures that the other server did not' => sub {
    my $told = JobAlerting::fail_job($standby);
    my ($row, @mails) = round($standby, 'postgres');
    is_deeply jobs(@mails), [ [$told] ], 'the other server reports a failure';
    my $new = JobAlerting::fail_job($standby);
    $standby->wait_for_catchup($primary, 'replay');
    $standby->stop;
    my $before = $stub->count;
    promote($primary, @dbs);
    @mails = ($stub->requests)[ $before .. $stub->count - 1 ];
    is_deeply jobs(@mails), [ [$new] ], 'one mail in all databases, with the unreported failure';
    ok says_promoted($mails[0]), 'it says that the server was promoted';
    $primary->restart;
    JobAlerting::poll(sub { launchers($primary) > 0 }, 15, 'its launcher');
    $before = $stub->count;
    my $last = JobAlerting::fail_job($primary);
    ($row, @mails) = round($primary, 'postgres');
    JobAlerting::poll(sub { $stub->count > $before }, 15, 'a mail');
    @mails = ($stub->requests)[ $before .. $stub->count - 1 ];
    is_deeply jobs(@mails), [ [$last] ], 'after a restart only a new failure is reported';
    ok !says_promoted($mails[0]), 'its mail does not mention a promotion';
};

$primary->stop;
done_testing();
