# The settings of the mail, above all the key. A wrong setting is reported and nothing is sent; failures are
# sent once the setting is fixed. Only the receiver sees the key, whatever the environment and the log level.

use strict;
use warnings;

use FindBin;
use POSIX ();
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting qw(sql stall);

my $ENVIRONMENT_KEY = 'SG.canary-key-of-the-environment.CCCCCCCCCCCCCCCCCCCCCCCC';

my $stub = JobAlerting::Stub->start;
my $proxy = JobAlerting::Stub->start;

# The postmaster's environment has the variables that curl would obey.
my $node = do {
    local @ENV{qw(http_proxy HTTP_PROXY https_proxy HTTPS_PROXY ALL_PROXY all_proxy)} = ($proxy->url) x 6;
    local @ENV{qw(NO_PROXY no_proxy)} = ('', '');
    local $ENV{SENDGRID_API_KEY} = $ENVIRONMENT_KEY;
    JobAlerting::node('main', stub => $stub, conf => <<'CONF');
log_min_messages = debug5
log_statement = all
log_error_verbosity = verbose
debug_print_parse = on
track_activity_query_size = 100kB
CONF
};
JobAlerting::create_jobs($node);
my $key_file = $node->safe_psql('postgres', 'SHOW job_alerting.sendgrid_api_key_file');

sub put_key {
    my ($content, $permissions) = @_;
    return JobAlerting::put_secret($key_file, $content, $permissions);
}

sub remove_key {
    return -d $key_file ? rmdir $key_file : unlink $key_file;
}

# Sets it for the database; undef resets it.
sub set_in_database {
    my ($name, $value) = @_;
    return sql("ALTER DATABASE postgres RESET job_alerting.$name") if !defined $value;
    return JobAlerting::store_setting($node, $name, $value);
}

# A round leaves the failure waiting, with this reason.
sub is_refused {
    my ($why, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $before = $stub->count;
    my $call = JobAlerting::begin_digest($node);
    my ($row) = $call->rows;
    subtest $name => sub {
        is $row->{outcome}, 'pending', 'pending';
        like $row->{detail}, $why, 'the detail says why';
        is $stub->count, $before, 'nothing is sent';
        is scalar $stub->broken, 0, 'no request is begun';
        is sql("SELECT error FROM job_alerting.digest WHERE id = $row->{digest_id}"), $row->{detail},
          'the digest has the same reason';
        cmp_ok $call->seconds, '<', 15, 'without waiting';
    };
    return;
}

sub is_delivered {
    my ($jobs, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $before = $stub->count;
    my ($row) = JobAlerting::run_digest($node);
    is $row->{outcome}, 'accepted', "$name: accepted" or diag explain $row;
    is $stub->count, $before + 1, "$name: one request";
    my $request = ($stub->requests)[$before];
    is_deeply [ sort { $a <=> $b } JobAlerting::named_jobs($request) ], $jobs, "$name: the mail lists the failures";
    return $request;
}

subtest 'with a bad address nothing is sent until it is fixed' => sub {
    my $job = JobAlerting::fail_job($node);
    for my $name (qw(mail_from mail_to)) {
        for my $value ('', 'nobody', 'a@b@c', 'Name <a@example.com', "x\@example.com\nBcc: y\@example.com") {
            set_in_database($name, $value);
            is_refused(qr/job_alerting\.$name is (?:not set|malformed)/, "$name = '" . $value =~ s/\n/\\n/r . q('));
        }
        set_in_database($name, undef);
    }
    set_in_database('mail_from', 'a@example.com, b@example.com');
    is_refused(qr/job_alerting\.mail_from names more than one sender/, 'two senders');
    set_in_database('mail_from', undef);
    is_delivered([$job], 'fixed');
};

subtest 'a mail goes to all of several recipients with names' => sub {
    set_in_database('mail_to', 'Ops <ops@example.com>, "Night, Shift" <night@example.com>,b@example.com');
    my $job = JobAlerting::fail_job($node);
    my $request = is_delivered([$job], 'three recipients');
    my @to = @{ $request->{json}{personalizations}[0]{to} };
    is_deeply [ map { $_->{email} } @to ], [qw(ops@example.com night@example.com b@example.com)], 'in their order';
    is $to[1]{name}, '"Night, Shift"', 'a name may have a comma';
    set_in_database('mail_to', undef);
};

subtest 'with an unusable key file nothing is sent until it is fixed' => sub {
    my @jobs = JobAlerting::fail_job($node);
    my $key = $JobAlerting::KEY;
    remove_key();
    is_refused(qr/\Akey file of job_alerting\.sendgrid_api_key_file cannot be opened: No such file/, 'missing');
    put_key("$key\n", 0644);
    is_refused(qr/is open to others/, 'readable by all');
    put_key("$key\n", 0640);
    is_refused(qr/is open to others/, 'readable by the group');
    put_key("$key\n", 0602);
    is_refused(qr/is open to others/, 'writable by others');
    put_key("$key\n", 0200);
    is_refused(qr/cannot be opened: Permission denied/, 'not readable');
    remove_key();
    POSIX::mkfifo($key_file, 0600) or die "cannot make a FIFO: $!";
    is_refused(qr/is not a regular file/, 'a FIFO');
    remove_key();
    mkdir $key_file, 0700 or die "cannot make a directory: $!";
    is_refused(qr/is not a regular file/, 'a directory');
    put_key('');
    is_refused(qr/is empty/, 'empty');
    put_key("\n");
    is_refused(qr/is empty/, 'an empty line');
    put_key("$key\0tail\n");
    is_refused(qr/control character/, 'with a NUL');
    put_key("$key\nX-Injected: yes\n");
    is_refused(qr/control character or a second line/, 'of two lines');
    put_key("$key\r\nX-Injected: yes\r\n");
    is_refused(qr/control character or a second line/, 'of two lines, as Windows writes them');
    put_key('K' x 5000);
    is_refused(qr/larger than 4 KiB/, 'of more than 4 KiB');
    put_key(qq("$key"\n));
    is_refused(qr/has quotes around it/, 'in quotes');
    put_key("Bearer $key\n");
    is_refused(qr/begins with "Bearer"/, 'with "Bearer" before it');
    put_key("SENDGRID_API_KEY=$key\n");
    is_refused(qr/begins with a name and "="/, 'with a variable before it');
    put_key("\xEF\xBB\xBF$key \n");
    is_refused(qr/contains a space/, 'with a blank behind it');
    put_key("$key\xC2\xA0\n");
    is_refused(qr/is not ASCII/, 'with a no-break space');
    push @jobs, JobAlerting::fail_job($node);

    put_key("\xEF\xBB\xBF$key");
    my $request = is_delivered(\@jobs, 'fixed, with a byte order mark and without a line end');
    is $request->{headers}{authorization}, "Bearer $key", 'the request has the key';
};

subtest 'a new key is used at once, without a restart' => sub {
    my $job = JobAlerting::fail_job($node);
    put_key("SG.rotated.one\r\n");
    is is_delivered([$job], 'rotated')->{headers}{authorization}, 'Bearer SG.rotated.one', 'the new key';
    put_key("$JobAlerting::KEY\n");
    $job = JobAlerting::fail_job($node);
    is is_delivered([$job], 'rotated back')->{headers}{authorization}, "Bearer $JobAlerting::KEY", 'the old key';
};

subtest "without a key file, the key is that of the server's environment" => sub {
    JobAlerting::configure($node, sendgrid_api_key_file => '');
    my $job = JobAlerting::fail_job($node);
    is is_delivered([$job], 'by the environment')->{headers}{authorization}, "Bearer $ENVIRONMENT_KEY", 'the request has that key';
    JobAlerting::configure($node, sendgrid_api_key_file => $key_file);
};

subtest 'without any key, the detail names the places of a key' => sub {
    my $bare = JobAlerting::node('bare', stub => $stub, conf => "job_alerting.sendgrid_api_key_file = ''");
    JobAlerting::create_jobs($bare);
    JobAlerting::fail_job($bare);
    my ($row) = JobAlerting::run_digest($bare);
    is $row->{outcome}, 'pending', 'pending';
    like $row->{detail}, qr/there is no key.*SENDGRID_API_KEY/, 'it names the variable';
    $bare->stop;
};

subtest 'a bad sendgrid_url found at server start is never replaced by the default' => sub {
    for my $url ('htps://localhost', 'http://example.com', 'https://user:secret@localhost', 'ftp://127.0.0.1') {
        JobAlerting::configure($node, sendgrid_url => $stub->url);
        $node->adjust_conf('postgresql.conf', 'job_alerting.sendgrid_url', "'$url'");
        sql('ALTER SYSTEM RESET job_alerting.sendgrid_url');
        $node->restart;
        is sql('SHOW job_alerting.sendgrid_url'), $url, "$url: it is kept";
        my $job = JobAlerting::fail_job($node);
        is_refused(qr/job_alerting\.sendgrid_url cannot be used/, "$url: and refused when something is to be sent");
        sql("DELETE FROM research_jobs WHERE id = $job");
    }
    JobAlerting::configure($node, sendgrid_url => $stub->url);
    my ($row) = JobAlerting::run_digest($node);
    is $row->{outcome}, 'accepted', 'accepted when it is fixed';
};

subtest 'only the request has the key' => sub {
    my $stalled = stall($stub);
    my %place = (
        'the process title' => PostgreSQL::Test::Utils::slurp_file("/proc/$stalled->{worker}/cmdline"),
        'pg_stat_activity'  => sql('SELECT string_agg(a::text, chr(10)) FROM pg_stat_activity a'),
    );
    $stub->release;
    is(($stalled->{call}->rows)[0]{outcome}, 'accepted', 'accepted');

    # Answers are stored and logged, and an answer can quote its request.
    $stub->modes("401 X-Message-Id: $JobAlerting::KEY {\"errors\":[{\"message\":\"key $JobAlerting::KEY is unknown\"}]}", '202');
    JobAlerting::fail_job($node);
    my ($echoed) = JobAlerting::run_digest($node);
    like $echoed->{detail}, qr/key \(key\) is unknown/, 'the detail masks the key that an answer quotes';
    $place{'the tables'} = sql('SELECT string_agg(d::text, chr(10)) FROM job_alerting.digest d');
    is((JobAlerting::run_digest($node))[0]{outcome}, 'accepted', 'accepted again');

    my ($dump) = PostgreSQL::Test::Utils::run_command([ 'pg_dump', '-d', $node->connstr('postgres') ]);
    $place{'a dump'} = $dump;
    $place{pg_settings} = sql('SELECT string_agg(s::text, chr(10)) FROM pg_settings s');
    $node->stop;
    # At this level the postmaster logs its environment at each start.
    $place{"the server's log"} = PostgreSQL::Test::Utils::slurp_file($node->logfile) =~ s/^.*\tSENDGRID_API_KEY=.*\n//mgr;

    cmp_ok length $place{"the server's log"}, '>', 100_000, 'the log is one of debug5';
    for my $name (sort keys %place) {
        ok length $place{$name}, "$name is not empty";
        is(index($place{$name}, $_), -1, "$name does not hold it") for $JobAlerting::KEY, $ENVIRONMENT_KEY;
    }
};

subtest "the environment's proxies were not used" => sub {
    is $proxy->count, 0, 'no request at the proxy';
    is scalar $proxy->broken, 0, 'no connection at the proxy';
    is scalar(grep { $_->{line} !~ m{\APOST /v3/mail/send } } $stub->requests), 0, 'the stub got only POST requests to its path';
};

done_testing();
