# Nothing that the server shows or writes has the key, at any log level and whatever an answer quotes. Also
# key files beyond those of 052: links, devices, files of others; and a bad sendgrid_url at server start.

use strict;
use warnings;

use File::Find ();
use FindBin;
use IO::Socket::UNIX;
use JSON::PP ();
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting qw(stall);

my $KEY = $JobAlerting::KEY;
my $ENVIRONMENT_KEY = 'SG.canary-key-of-the-environment.DDDDDDDDDDDDDDDDDDDDDDDD';
my $NEXT_KEY = 'SG.canary-key-of-tomorrow.EEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEE';
my @CANARIES = canaries($KEY, $ENVIRONMENT_KEY, $NEXT_KEY);

my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub, conf => <<'CONF');
log_min_messages = debug5
log_min_error_statement = debug5
log_error_verbosity = verbose
log_statement = all
log_duration = on
log_parameter_max_length_on_error = -1
log_connections = on
debug_print_parse = on
debug_print_plan = on
debug_pretty_print = off
track_activity_query_size = 100kB
CONF
JobAlerting::create_jobs($node);
my $key_file = $node->safe_psql('postgres', 'SHOW job_alerting.sendgrid_api_key_file');
my $place = PostgreSQL::Test::Utils::tempdir('keys');

# Keys as text, and as the bytes that debug_print_parse prints.
sub canaries {
    my (@keys) = @_;
    return map { $_, join ' ', unpack 'C*', $_ } @keys;
}

sub sql {
    my ($statement, $role) = @_;
    my $set_role = $role ? "SET ROLE $role;" : '';
    return $node->safe_psql('postgres', "$set_role $statement");
}

sub write_key {
    my ($name, $key) = @_;
    PostgreSQL::Test::Utils::append_to_file("$place/$name", "$key\n");
    chmod 0600, "$place/$name" or die "cannot protect $name: $!";
    return "$place/$name";
}

# Replaces the key file by a link.
sub link_key_to {
    my ($target) = @_;
    unlink $key_file;
    symlink $target, $key_file or die "cannot link to $target: $!";
    return;
}

sub is_refused {
    my ($why, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $before = $stub->count;
    my $call = JobAlerting::begin_digest($node);
    my ($row) = $call->rows;
    is $row->{outcome}, 'pending', "$name: pending";
    like $row->{detail}, $why, "$name: the detail says why";
    is $stub->count, $before, "$name: nothing is sent";
    cmp_ok $call->seconds, '<', 15, "$name: without waiting";
    my ($status) = JobAlerting::rows($node, undef, 'SELECT healthy, reason FROM job_alerting.status');
    ok !$status->{healthy}, "$name: not healthy";
    like $status->{reason}, qr/\Q$row->{detail}\E/, "$name: the status says why";
    return;
}

# One round. Returns the reason of the status.
sub reason {
    JobAlerting::run_digest($node);
    return sql('SELECT reason FROM job_alerting.status');
}

# The key in the request of the next mail.
sub key_sent {
    my $before = $stub->count;
    JobAlerting::fail_job($node);
    my ($row) = JobAlerting::run_digest($node);
    is $row->{outcome}, 'accepted', 'accepted' or diag explain $row;
    is $stub->count, $before + 1, 'one request';
    return ($stub->requests)[$before]{headers}{authorization} =~ s/\ABearer //r;
}

# None of these texts, name => text, has a canary.
sub is_nowhere {
    my (%places) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    for my $name (sort keys %places) {
        my @found = grep { index($places{$name}, $_) >= 0 } @CANARIES;
        ok length $places{$name}, "$name: not empty";
        is_deeply \@found, [], "$name: no key";
    }
    return;
}

# ---------------------------------------------------------------- key files

subtest 'a file that is not a key file is refused' => sub {
    JobAlerting::fail_job($node);
    my $socket = IO::Socket::UNIX->new(Local => "$place/socket", Listen => 1) or die "no socket: $!";
    my $huge = write_key('huge', $KEY);
    truncate $huge, 1024**3 or die "cannot make it larger: $!";
    # Files of every Debian. /etc/shadow is readable in some containers.
    my $shadow = -r '/etc/shadow' ? qr/second line/ : qr/cannot be opened: Permission denied/;
    my @links = (
        [ "$place/nothing"     => qr/cannot be opened: No such file/ ],
        [ $key_file            => qr/cannot be opened: Too many levels of symbolic links/ ],
        [ $huge                => qr/is larger than 4 KiB/ ],
        [ "$place/socket"      => qr/cannot be opened: / ],
        [ $place               => qr/is not a regular file/ ],
        [ '/dev/zero'          => qr/is not a regular file/ ],
        [ '/dev/null'          => qr/is not a regular file/ ],
        [ '/etc/passwd'        => qr/is open to others; its permissions must be u=rw,g=r \(0640\)/ ],
        [ '/etc/shadow'        => $shadow ],
        [ '/proc/self/environ' => qr/contains a control character|is larger than 4 KiB/ ],
        [ '/proc/self/mem'     => qr/cannot be read: / ],
        [ '/proc/self/cmdline' => qr/is open to others/ ],
    );
    for my $link (@links) {
        my ($target, $why) = @$link;
        link_key_to($target);
        is_refused(qr/\Akey file of job_alerting\.sendgrid_api_key_file $why/, "a link to $target");
    }
};

subtest 'a key that was set as the name of its file is not repeated in messages' => sub {
    JobAlerting::configure($node, sendgrid_api_key_file => 'SG.not-a-file');
    is_refused(qr/\Akey file of job_alerting\.sendgrid_api_key_file, whose path is not absolute, cannot be opened: No such file/, 'the key itself');
    is sql(q(SELECT count(*) FROM job_alerting.digest d WHERE d::text LIKE '%SG.not-a-file%')), 0, 'no digest quotes it';
    JobAlerting::configure($node, sendgrid_api_key_file => $key_file);
};

subtest 'a key that is mounted through links is changed by changing a link' => sub {
    mkdir "$place/$_" or die "cannot make $_: $!" for qw(today tomorrow);
    write_key('today/key', $KEY);
    write_key('tomorrow/key', $NEXT_KEY);
    symlink 'today', "$place/now" or die "cannot link: $!";
    link_key_to("$place/now/key");
    is key_sent(), $KEY, 'the key';
    symlink 'tomorrow', "$place/then" or die "cannot link: $!";
    rename "$place/then", "$place/now" or die "cannot rename: $!";
    is key_sent(), $NEXT_KEY, 'the next key, from the next mail on';
};

# Only root can create such a file, which tools/check does.
SKIP: {
    my $mounted = $ENV{MOUNTED_KEY_FILE} or skip 'no MOUNTED_KEY_FILE, of root and readable by our group', 1;
    subtest "a key file of root, readable by the server's group" => sub {
        my $key = PostgreSQL::Test::Utils::slurp_file($mounted) =~ s/\n\z//r;
        push @CANARIES, canaries($key);
        is sprintf('%d %04o', (stat $mounted)[4], (stat _)[2] & 07777), '0 0640', 'the file belongs to root';
        link_key_to($mounted);
        is key_sent(), $key, 'the request has this key';
    };
}

subtest 'an unusable key is reported before there is anything to send' => sub {
    my $before = $stub->count;
    is reason(), '', 'no reason at first';
    link_key_to('/etc/passwd');
    like reason(), qr/key file of job_alerting\.sendgrid_api_key_file is open to others/, 'after a silent round, the status has the reason';
    link_key_to("$place/now/key");
    is reason(), '', 'fixed, there is no reason';
    is $stub->count, $before, 'nothing was sent';
};

subtest 'a digest in doubt is sent again with the current key' => sub {
    $stub->modes('close-after-read', '202');
    my $before = $stub->count;
    JobAlerting::fail_job($node);
    is +(JobAlerting::run_digest($node))[0]{outcome}, 'in_doubt', 'in doubt';
    link_key_to("$place/today/key");
    is +(JobAlerting::run_digest($node))[0]{outcome}, 'accepted', 'accepted';
    my @requests = ($stub->requests)[ $before, $before + 1 ];
    is_deeply [ map { $_->{headers}{authorization} } @requests ], [ "Bearer $NEXT_KEY", "Bearer $KEY" ], 'each request has the key of its time';
    is $requests[1]{body}, $requests[0]{body}, 'the same mail';
};

# ---------------------------------------------------------------- answers that quote the key

subtest 'a key that an answer quotes is neither stored nor reported' => sub {
    my $escaped = $KEY =~ s/\./\\u002e/gr;
    my @parts = map { substr $KEY, $_, 8 } 0 .. length($KEY) - 8;
    # The worker keeps 16000 bytes of the headers, which end within the key.
    my $padding = 'x' x (16_000 - length(qq(HTTP/1.1 202 Accepted\r\nX-Padding: \r\nX-Message-Id: )) - 40);
    my %answer = (
        'in the body'            => "401 body=$KEY",
        'in part'                => '403 {"errors":[{"message":"the key ' . substr($KEY, 3, 30) . '... is unknown"}]}',
        'in part, in escapes'    => '403 {"errors":[{"message":"' . substr($escaped, 0, 30) . '"}]}',
        'in two parts'           => '401 X-Message-Id: ' . substr($KEY, 0, 25) . ' ' . substr($KEY, 30) . ' {"errors":[]}',
        'percent-encoded'        => '403 {"errors":[{"message":"' . $KEY =~ s/-/%2D/gr . '"}]}',
        'in a complaint'         => qq(400 {"errors":[{"message":"unknown: $KEY, $KEY"}]}),
        'in escapes'             => qq(403 {"errors":[{"message":"unknown: $escaped"}]}),
        'at the end of a body'   => '500 body=' . 'x' x 1970 . $KEY,
        'as where to go instead' => "307 Location: http://127.0.0.1/$KEY",
        'as what it accepted'    => "202 X-Message-Id: $KEY",
        'at the end of what is kept of headers' => "202 X-Padding: $padding X-Message-Id: $KEY",
    );
    for my $how (sort keys %answer) {
        $stub->modes($answer{$how}, '202');
        my $before = $stub->count;
        JobAlerting::fail_job($node);
        my ($row) = JobAlerting::run_digest($node);
        like(($stub->requests)[$before]{headers}{authorization}, qr/\Q$KEY\E/, "$how: the stub had it");
        my $kept = sql("SELECT d FROM job_alerting.digest d WHERE id = $row->{digest_id}");
        my @texts = ($row->{detail} // '', $kept);
        is_deeply [ grep { /SG.{0,8}canary/ || grep { index($texts[0] . $kept, $_) >= 0 } @parts } @texts ], [],
          "$how: no part of it is stored or reported";
        JobAlerting::run_digest($node);
    }
};

subtest "a text like a key in a job's error is not masked" => sub {
    my $before = $stub->count;
    JobAlerting::fail_job($node, last_error => 'refused: SG.a-key-of-the-job');
    JobAlerting::run_digest($node);
    like JobAlerting::text_part(($stub->requests)[$before]), qr/refused: SG\.a-key-of-the-job/, 'the mail has it';
};

# ---------------------------------------------------------------- views, dumps, logs and files

sql(<<'SQL');
CREATE ROLE monitor IN ROLE pg_monitor, pg_read_all_data;
CREATE ROLE ordinary;
GRANT USAGE ON SCHEMA job_alerting TO monitor, ordinary;
-- Every row of every table and view that the caller may read, as text; but for the information
-- schema, which takes seconds to show the same.
CREATE FUNCTION everything() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    relation regclass;
BEGIN
    FOR relation IN SELECT oid FROM pg_class
        WHERE relkind IN ('r', 'p', 'm', 'v', 'f') AND relnamespace <> 'information_schema'::regnamespace
    LOOP
        BEGIN
            RETURN QUERY EXECUTE format('SELECT %L || r::text FROM %s r', relation, relation);
        EXCEPTION
            WHEN insufficient_privilege OR object_not_in_prerequisite_state THEN
                RETURN NEXT relation || ' is refused';
        END;
    END LOOP;
END
$$;
SQL

# Everything that each role can read, by name. These queries are not logged, or they would be most of the log.
sub shown {
    my %shown;
    local $ENV{PGOPTIONS} = join ' ', map { "-c $_" } 'log_min_messages=warning', 'log_statement=none',
      map { "debug_print_$_=off" } qw(parse plan);
    for my $role (undef, 'monitor', 'ordinary') {
        my $who = $role // 'the superuser';
        $shown{"every table and view, as $who"} = sql('SELECT everything()', $role);
        $shown{"SHOW ALL, as $who"} = sql('SHOW ALL', $role);
    }
    return %shown;
}

# The titles of the server's processes, as `ps` shows them.
sub process_titles {
    my $postmaster = sql("SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)");
    my @processes = map { m{/proc/(\d+)/stat} } glob '/proc/[0-9]*/stat';
    my @ours = grep { _parent($_) == $postmaster } @processes;
    return join "\n", map { eval { PostgreSQL::Test::Utils::slurp_file("/proc/$_/cmdline") } // () } $postmaster, @ours;
}

sub _parent {
    my ($process) = @_;
    my $stat = eval { PostgreSQL::Test::Utils::slurp_file("/proc/$process/stat") } // '';
    return $stat =~ /\A\d+ \(.*\) \S (\d+) /s ? $1 : 0;
}

subtest 'during a request no role can read the key' => sub {
    my $stalled = stall($stub);
    my %shown = (shown(), 'the process titles' => process_titles());
    $stub->release;
    is +($stalled->{call}->rows)[0]{outcome}, 'accepted', 'accepted';
    like $shown{'the process titles'}, qr/job_alerting worker for postgres/, 'there is a worker';
    like $shown{'the process titles'}, qr/job_alerting launcher/, 'there is a launcher';
    like $shown{'every table and view, as the superuser'}, qr/^job_alerting\.digest\(.*SendGrid|^job_alerting\.digest\(/m,
      'the digests are included';
    like $shown{'every table and view, as monitor'}, qr/^pg_stat_activity\(.*sending digest \d+ through sendgrid/m,
      'the activity is included';
    like $shown{'every table and view, as ordinary'}, qr/^pg_settings\(job_alerting\.sendgrid_url/m, 'the settings are included';
    like $shown{'every table and view, as ordinary'}, qr/^pg_authid is refused/m, 'other tables are refused';
    is_nowhere(%shown);
};

subtest 'dumps do not have the key' => sub {
    my %dump;
    for my $command ([ 'pg_dump', '-d', $node->connstr('postgres') ], [ 'pg_dumpall', '-d', $node->connstr('postgres') ]) {
        my ($out, $err) = PostgreSQL::Test::Utils::run_command($command);
        like $out, qr/COPY job_alerting\.digest/, "$command->[0] dumps the digests";
        $dump{ $command->[0] } = $out;
    }
    is_nowhere(%dump);
};

subtest "the server's log and files do not have the key" => sub {
    my %shown = shown();
    $node->stop;
    my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
    like $log, qr/DEBUG:  00000: CommitTransaction/, 'the log is one of debug5';
    like $log, qr/sending digest|begin_sending|UPDATE job_alerting\.digest/, 'the log mentions digests';
    my $files = '';
    my $count = 0;
    File::Find::find({ no_chdir => 1, wanted => sub {
        return if !-f $_;
        my $content = PostgreSQL::Test::Utils::slurp_file($_);
        $count++;
        $files .= "$_\n" if grep { index($content, $_) >= 0 } @CANARIES;
    } }, $node->data_dir);
    cmp_ok $count, '>', 500, 'the files are read';
    is $files, '', 'no file of the data directory has the key';
    is_nowhere(%shown, "the server's log" => $log);
};

subtest 'a key of the environment is not shown either' => sub {
    # At debug3 the postmaster logs its environment.
    my $other = do {
        local $ENV{SENDGRID_API_KEY} = $ENVIRONMENT_KEY;
        JobAlerting::node('environment', stub => $stub, conf => <<'CONF');
log_min_messages = debug2
log_statement = all
job_alerting.sendgrid_api_key_file = ''
CONF
    };
    JobAlerting::create_jobs($other);
    $stub->modes("401 body=$ENVIRONMENT_KEY", '202');
    my $before = $stub->count;
    JobAlerting::fail_job($other);
    my ($row) = JobAlerting::run_digest($other);
    is $row->{outcome}, 'pending', 'refused by an answer that quotes the key';
    is(($stub->requests)[$before]{headers}{authorization}, "Bearer $ENVIRONMENT_KEY", 'the request had the key');
    my $settings = $other->safe_psql('postgres', 'SELECT s FROM pg_settings s');
    my $digests = $other->safe_psql('postgres', 'SELECT d FROM job_alerting.digest d');
    $other->stop;
    is_nowhere(
        'settings' => $settings, 'digests' => $digests, 'the detail' => $row->{detail},
        'the log' => PostgreSQL::Test::Utils::slurp_file($other->logfile));
};

# ---------------------------------------------------------------- a bad sendgrid_url at server start

# The proxy gets every request to another host.
my $proxy = JobAlerting::Stub->start;

sub strays {
    return $proxy->count + $proxy->broken;
}

for my $preload (0, 1) {
    my $how = $preload ? 'preloaded' : 'loaded when it is called';
    subtest "a bad sendgrid_url, $how: nothing is sent to the default, and parallel queries work" => sub {
        my $other = JobAlerting::node("wrong$preload", stub => $stub, preload => $preload, conf => join "\n",
            q(job_alerting.sendgrid_url = 'htps://api.sendgrid.com'),
            sprintf q(job_alerting.proxy = '%s'), $proxy->url);
        JobAlerting::create_jobs($other);
        my $before = $stub->count;
        JobAlerting::fail_job($other);
        my $url = sub { $other->safe_psql('postgres', q(LOAD 'job_alerting'; SHOW job_alerting.sendgrid_url)) };
        is $url->(), 'htps://api.sendgrid.com', 'it is kept';
        my ($row) = JobAlerting::run_digest($other);
        is $row->{outcome}, 'pending', 'pending';
        like $row->{detail}, qr/job_alerting\.sendgrid_url cannot be used: /, 'it says why';
        like $other->safe_psql('postgres', 'SELECT reason FROM job_alerting.status'),
          $preload ? qr/job_alerting\.sendgrid_url cannot be used/ : qr/no round runs by itself/, 'so does the status';
        is $other->safe_psql('postgres', <<"SQL"), 't', 'a parallel query works';
LOAD 'job_alerting';
SET $JobAlerting::Server::PARALLEL = on;
SELECT count(*) > 0 FROM pg_class
SQL
        is strays(), 0, 'nothing was sent to another host';
        is $stub->count, $before, 'nothing was sent to the stub';

        JobAlerting::configure($other, sendgrid_url => $stub->url);
        ($row) = JobAlerting::run_digest($other);
        is $row->{outcome}, 'accepted', 'accepted when it is fixed' or diag explain $row;

        $other->stop;
    };
}

subtest 'the proxy would have got a request to the default' => sub {
    my $other = JobAlerting::node('real', stub => $stub, conf => join "\n",
        q(job_alerting.sendgrid_url = 'https://api.sendgrid.com'), sprintf q(job_alerting.proxy = '%s'), $proxy->url);
    JobAlerting::create_jobs($other);
    JobAlerting::fail_job($other);
    my $before = strays();
    is +(JobAlerting::run_digest($other))[0]{outcome}, 'pending', 'the proxy refuses';
    is strays(), $before + 1, 'the proxy gets a request to the default';
    is_nowhere('what it sees' => join "\n", map { ($_->{line}, JSON::PP::encode_json($_->{headers}), $_->{body}) }
          $proxy->requests, $proxy->broken);
    $other->stop;
};

done_testing();
