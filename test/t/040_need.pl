# The product's purpose: a nightly chain of jobs runs in a worker outside the database, and one of its steps
# fails silently. The test reads the mail that arrives.

use strict;
use warnings;

use FindBin;
use IPC::Run ();
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting qw(sql);

my $support = "$FindBin::Bin/../support";
my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub, interval => '1s', conf => <<'CONF');
job_alerting.job_url = 'https://admin.example.com/jobs/{job_id}?step={job_type}&target={target_id}'
CONF
JobAlerting::create_jobs($node);
# This first round also announces the database to the launcher.
JobAlerting::run_digest($node);

my $worker;

# The worker must not outlive the test.
END {
    my $status = $?;
    $worker->kill_kill if $worker;
    $? = $status;
}

sub start_worker {
    local @ENV{qw(PGHOST PGPORT PGDATABASE)} = ($node->host, $node->port, 'postgres');
    my ($out, $err) = ('', '');
    $worker = IPC::Run::start(["$support/refresh_worker"], '<', \undef, '>', \$out, '2>', \$err);
    return;
}

sub kill_worker {
    $worker->signal('KILL');
    eval { $worker->finish };
    undef $worker;
    return;
}

sub start_chain {
    my ($payload) = @_;
    return sql(<<"SQL");
        INSERT INTO research_jobs (source, job_type, target_type, target_id, payload)
        VALUES ('apple', 'refresh_catalog', 'album', gen_random_uuid(), '$payload') RETURNING id
SQL
}

# Waits until this step of the chain has this status. Returns its job.
sub wait_for_step {
    my ($chain, $step, $status) = @_;
    return JobAlerting::poll(sub {
        return (JobAlerting::rows($node, undef, <<"SQL"))[0];
            SELECT id, target_id, attempts FROM research_jobs WHERE status = '$status'
            AND payload->>'chain_started_at' = '$chain' AND target_type = '$step'
SQL
    }, 30, "the step $step to be $status");
}

# Waits for so many of the launcher's rounds, from beginning to end.
sub wait_for_rounds {
    my ($count) = @_;
    # One more, because a round in progress does not count.
    for (0 .. $count) {
        my $before = sql('SELECT last_scan_at FROM job_alerting.queue');
        JobAlerting::poll(sub { sql('SELECT last_scan_at FROM job_alerting.queue') ne $before }, 30, 'a round');
    }
    return;
}

sub text_of {
    my ($request, $type) = @_;
    my ($part) = grep { $_->{type} eq $type } @{ $request->{json}{content} };
    return $part->{value};
}

my $chain = '2024-05-01T03:00:00Z';

subtest 'a job that succeeds after retries is not reported' => sub {
    start_chain(qq({"chain_started_at": "$chain", "transient": {"album": 1, "song": 2}, "hang": "artist"}));
    start_worker();
    my $song = wait_for_step($chain, 'song', 'done');
    is $song->{attempts}, 3, 'the songs took three attempts';
    wait_for_step($chain, 'artist', 'running');
    wait_for_rounds(2);
    is $stub->count, 0, 'no mail came';
};

subtest 'a worker killed in the middle of a job becomes one mail' => sub {
    my $job = wait_for_step($chain, 'artist', 'running');
    kill_worker();
    wait_for_rounds(1);
    is $stub->count, 0, 'no mail comes before the janitor finds the lost job';

    $node->psql('postgres', PostgreSQL::Test::Utils::slurp_file("$support/janitor.sql"),
        on_error_die => 1, extra_params => [ '-v', 'lost_after=0' ]);
    wait_for_step($chain, 'artist', 'dead');
    my ($mail) = $stub->wait_for(1, 15);

    like $mail->{verdict}, qr/\A202/, 'SendGrid accepts the mail';
    like $mail->{json}{subject}, qr{\A1 job failed in main/postgres: apple/refresh_catalog \(worker lost\) \[#\d+\]\z}, 'its subject';
    is_deeply [ JobAlerting::named_jobs($mail) ], [ $job->{id} ], 'it lists only that job';
    for my $type ('text/plain', 'text/html') {
        my $text = text_of($mail, $type);
        like $text, qr{Chain \Q$chain\E}, "$type: its chain";
        like $text, qr{Chain.*apple/refresh_catalog}s, "$type: source and type of the job under it";
        like $text, qr{artist/\Q$job->{target_id}\E}, "$type: its target";
        like $text, qr/No error was recorded: the worker probably died/, "$type: the missing error";
        my $link = "https://admin.example.com/jobs/$job->{id}?step=refresh_catalog&target=$job->{target_id}";
        my $written = $type eq 'text/html' ? $link =~ s/&/&amp;/gr : $link;
        like $text, qr/\Q$written\E/, "$type: its link";
        unlike $text, qr/timeout/, "$type: no error of a retry";
    }
};

subtest 'ten more rounds are silent' => sub {
    wait_for_rounds(10);
    is $stub->count, 1, 'one mail in all';
};

subtest 'a job whose attempts are used up becomes one mail, with its error' => sub {
    my $next = '2024-05-02T03:00:00Z';
    start_chain(qq({"chain_started_at": "$next", "transient": {"song": 3}}));
    start_worker();
    my $job = wait_for_step($next, 'song', 'dead');
    my $mail = ($stub->wait_for(2, 15))[1];
    is_deeply [ JobAlerting::named_jobs($mail) ], [ $job->{id} ], 'it lists that job';
    for my $type ('text/plain', 'text/html') {
        my $text = text_of($mail, $type);
        like $text, qr/Chain \Q$next\E/, "$type: its chain";
        like $text, qr{attempts 3/3}, "$type: its attempts";
        like $text, qr/iTunes API: timeout after 30 s/, "$type: its error";
        unlike $text, qr/No error was recorded/, "$type: no note of a missing error";
    }
    wait_for_rounds(1);
    is $stub->count, 2, 'no other mail came';
};

subtest 'a chain that succeeds is not reported' => sub {
    my $last = '2024-05-03T03:00:00Z';
    start_chain(qq({"chain_started_at": "$last"}));
    wait_for_step($last, 'index', 'done');
    wait_for_rounds(1);
    is $stub->count, 2, 'no mail came';
    kill_worker();
};

$node->stop;
done_testing();
