# Wrong and hidden settings. A mistyped value never silently becomes the default, and a safe value applies
# meanwhile. Paths of files, addresses and the proxy are shown to few roles, and no message shows them to
# others.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting qw(log_from_now status);

# By name: the value at server start, the allowed values, and the behaviour meanwhile.
my %MISTYPED = (
    interval     => [ '5 minutes', qr/not a time from 1s to 7d/, qr/a round runs every hour/ ],
    max_listed   => [ '5000',      qr/not a whole number from 0 to 1000/, qr/at most 50 jobs are listed/ ],
    http_timeout => [ '30 sec',    qr/not a time from 1s to 10min/, qr/the limit is 30s/ ],
    lock_timeout => [ '-1',        qr/not a time from 1ms to 10min/, qr/the limit is 5s/ ],
    scan_timeout => [ "5m\xc3\xadn", qr/not a time from 1ms to 1d/, qr/the limit is 5min/ ],
    on_in_doubt  => [ 'hald',      qr/neither resend nor hold/, qr/no digest in doubt is sent again/ ],
    retention    => [ '90 days',   qr/not a time from 0 to 24855d/, qr/no failure is deleted/ ],
);
my $MISTYPED = join "\n", map { "job_alerting.$_ = '$MISTYPED{$_}[0]'" } sort keys %MISTYPED;

my $stub = JobAlerting::Stub->start;
my $node = JobAlerting::node('main', stub => $stub, conf => $MISTYPED);
JobAlerting::create_jobs($node);

sub sql {
    my ($statement, $role) = @_;
    return $node->safe_psql('postgres', ($role ? "SET ROLE $role; " : '') . $statement);
}

# The error of a statement.
sub refusal {
    my ($statement, $role) = @_;
    my (undef, undef, $error) = $node->psql('postgres', ($role ? "SET ROLE $role; " : '') . $statement);
    return $error;
}

# The findings of check(), by item.
sub findings {
    my ($database) = @_;
    return { map { $_->{item} => $_ } JobAlerting::rows($node, $database, 'SELECT * FROM job_alerting.check()') };
}

sub forget {
    sql('DELETE FROM research_jobs; SELECT * FROM job_alerting.run_digest()');
    return;
}

# ---------------------------------------------------------------- wrong values

subtest 'a mistyped value found at server start is kept and reported' => sub {
    my ($row) = JobAlerting::run_digest($node);
    my $status = status();
    my $found = findings();
    ok !$status->{healthy}, 'not healthy';
    for my $name (sort keys %MISTYPED) {
        my ($value, $allowed, $meanwhile) = @{ $MISTYPED{$name} };
        is sql("SHOW job_alerting.$name"), $value, "$name: the value is kept";
        my $ascii = $value =~ s/[^ -~]+/./gr;
        my $said = qr/job_alerting\.$name is "$ascii", which is $allowed; until it is fixed, $meanwhile/;
        like $row->{detail}, $said, 'run_digest() reports it';
        like $status->{reason}, $said, 'the status reports it' if $name =~ /\A[hi]/;    # the others do not fit
        my $finding = $found->{"setting $name"};
        is $finding->{state}, 'error', 'check() has an error';
        like $finding->{detail}, $said, 'check() reports it';
        like $finding->{hint}, qr/\AALTER SYSTEM SET job_alerting\.$name = /, 'the hint has the statement that fixes it';
    }
    is sql('SELECT round_interval FROM job_alerting.server_state()'), '01:00:00', 'rounds come each hour';
};

subtest 'meanwhile failures are reported' => sub {
    my $job = JobAlerting::fail_job($node);
    is_deeply [ JobAlerting::reported($node, $stub) ], [$job], 'in a mail';
};

subtest 'meanwhile no digest in doubt is sent again, and no failure is pruned' => sub {
    $stub->modes('close-after-read', '202');
    JobAlerting::fail_job($node);
    my ($row) = JobAlerting::run_digest($node);
    is $row->{outcome}, 'in_doubt', 'in doubt';
    my $before = $stub->count;
    JobAlerting::run_digest($node);
    is $stub->count, $before, 'it is held';
    sql("SELECT job_alerting.settle($row->{digest_id}, true)");
    sql('DELETE FROM research_jobs');
    JobAlerting::run_digest($node);
    sql(q(UPDATE job_alerting.failure SET cleared_at = now() - interval '10 years'));
    JobAlerting::run_digest($node);
    is sql('SELECT count(*) FROM job_alerting.failure'), 2, 'the ledger keeps the failures';
};

subtest 'parallel queries work' => sub {
    is sql("SET $JobAlerting::Server::PARALLEL = on; SELECT count(*) > 0 FROM pg_class"), 't', 'a query of a superuser';
    sql('CREATE ROLE ordinary');
    is sql("SET $JobAlerting::Server::PARALLEL = on; SELECT count(*) > 0 FROM pg_class", 'ordinary'), 't', 'a query of an ordinary role';
};

subtest 'the statements of check() fix all settings' => sub {
    my $found = findings();
    sql($found->{"setting $_"}{hint}) for sort keys %MISTYPED;
    JobAlerting::configure($node, interval => '2h');
    is_deeply [ grep { /setting / } keys %{ findings() } ], [], 'no setting is wrong';
    is findings()->{settings}{state}, 'ok', 'check() says so';
    is +(JobAlerting::run_digest($node))[0]{detail}, undef, 'a round reports none';
    ok status()->{healthy}, 'healthy' or diag status()->{reason};
};

subtest 'setting a wrong value is refused' => sub {
    for my $case (
        [ interval    => '5 minutes', qr/DETAIL:  The value must be a time from 1s to 7d\.\nHINT:  Write a number and one of the units/ ],
        [ interval    => '0',         qr/DETAIL:  The value must be a time from 1s to 7d\./ ],
        [ retention   => '-1',        qr/DETAIL:  The value must be a time from 0 to 24855d\./ ],
        [ max_listed  => '1001',       qr/DETAIL:  The value must be a whole number from 0 to 1000\.\nHINT:  Write a whole number\./ ],
        [ max_listed  => 'many',      qr/HINT:  Write a whole number\./ ],
        [ on_in_doubt => 'hald',      qr/DETAIL:  Available values: resend, hold\./ ],
        [ mail_to     => 'ops@example.com, nobody', qr/DETAIL:  "nobody" is not a mail address: it must have exactly one @\./ ],
        [ mail_to     => "M\xc3\xbcller", qr/DETAIL:  "M\xc3\xbcller" is not a mail address: it is not ASCII/ ],
        [ mail_to     => join(',', map { "a$_\@example.com" } 1 .. 1001), qr/DETAIL:  A mail can have at most 1000 recipients\./ ],
        [ mail_from   => 'a@example.com, b@example.com', qr/DETAIL:  A mail can have only one sender\./ ],
      )
    {
        my ($name, $value, $why) = @$case;
        my @ways = ('ALTER SYSTEM SET', $name eq 'interval' ? () : ('SET', 'ALTER DATABASE postgres SET', 'ALTER ROLE ordinary SET'));
        local $ENV{PGCLIENTENCODING} = 'UTF8';
        my $shown = length $value > 30 ? 'too many' : $value;
        for my $way (@ways) {
            my $refusal = refusal("$way job_alerting.$name = '$value'");
            like $refusal, qr/invalid value for parameter "job_alerting\.$name": /, "$way $name = '$shown': refused";
            like $refusal, $why, 'the detail has the allowed values';
        }
    }
    my $before = sql('SHOW job_alerting.retention');
    my $logged = log_from_now();
    $node->append_conf('postgresql.conf', q(job_alerting.retention = '90 days'));
    sql('ALTER SYSTEM RESET job_alerting.retention');
    $node->reload;
    JobAlerting::poll(sub { $logged->() =~ /invalid value for parameter "job_alerting\.retention"/ },
        20, 'the refusal at a reload');
    is sql('SHOW job_alerting.retention'), $before, 'a reload keeps the previous value';
    JobAlerting::configure($node, retention => '90d');
};

subtest 'a thousand recipients can be set' => sub {
    my $list = join ',', map { ("a$_\@example.com", "A$_\@example.com") } 1 .. 1000;
    is refusal("ALTER DATABASE postgres SET job_alerting.mail_to = '$list'"), '', 'each of them given twice';
    sql('ALTER DATABASE postgres RESET job_alerting.mail_to');
    JobAlerting::store_setting($node, mail_to => "$list,one\@example.com");
    like findings()->{'channel sendgrid'}{detail}, qr/mail_to names 1001 recipients, but SendGrid accepts at most 1000/,
      'check() reports one recipient more';
    sql('ALTER DATABASE postgres RESET job_alerting.mail_to');
};

subtest 'a wrong value that is stored with a database is reported there' => sub {
    JobAlerting::store_setting($node, max_listed => 'many');
    JobAlerting::store_setting($node, on_in_doubt => 'hald');
    my ($row) = JobAlerting::run_digest($node);
    like $row->{detail}, qr/job_alerting\.max_listed is "many".*job_alerting\.on_in_doubt is "hald"/, 'by a round';
    ok !status()->{healthy}, 'not healthy';
    my $found = findings();
    like $found->{"setting $_"}{hint}, qr/\AALTER DATABASE postgres SET job_alerting\.$_ = /, "$_: check() has the statement that fixes it"
      for qw(max_listed on_in_doubt);
    sql($found->{"setting $_"}{hint}) for qw(max_listed on_in_doubt);
    is +(JobAlerting::run_digest($node))[0]{detail}, undef, 'fixed';
    sql("ALTER DATABASE postgres RESET job_alerting.$_") for qw(max_listed on_in_doubt);
};

subtest "values are shown in the server's format" => sub {
    for my $case (
        [ retention    => '3600'   => '1h' ],    [ retention    => '86400s'  => '1d' ], [ retention => '0.5 h' => '30min' ],
        [ retention    => '0'      => '0' ],     [ retention    => '61'      => '61s' ],
        [ max_listed   => ' 0x10 ' => '16' ],    [ on_in_doubt  => 'HOLD'    => 'hold' ],
      )
    {
        my ($name, $value, $shown) = @$case;
        is sql("SET job_alerting.$name = '$value'; SHOW job_alerting.$name"), $shown, "$name = '$value'";
    }
    is sql('SHOW job_alerting.scan_timeout'), '5min', 'scan_timeout';
    is sql('SET job_alerting.max_listed = 7; SHOW job_alerting.max_listed'), '7', 'a number without quotes';
};

# ---------------------------------------------------------------- hidden settings

my @RESTRICTED = qw(ca_file heartbeat_url_file mail_from mail_to proxy sendgrid_api_key_file slack_webhook_url_file
  webhook_secret_file webhook_url_file);

subtest 'paths, addresses and the proxy are shown to few roles' => sub {
    sql('CREATE ROLE reader IN ROLE pg_read_all_settings; CREATE ROLE monitor IN ROLE pg_monitor');
    my $listed = sub {
        my ($role) = @_;
        my $names = join ',', map { "'job_alerting.$_'" } @RESTRICTED;
        return sql("SELECT string_agg(name, ' ' ORDER BY name) FROM pg_settings WHERE name IN ($names)", $role);
    };
    my $all = join ' ', map { "job_alerting.$_" } @RESTRICTED;
    is $listed->('ordinary'), '', 'pg_settings: an ordinary role sees none';
    is $listed->($_), $all, "$_ sees all" for qw(reader monitor);
    for my $name (@RESTRICTED) {
        like refusal("SHOW job_alerting.$name", 'ordinary'), qr/ERROR:  $JobAlerting::Server::HIDDEN_SETTING/, "SHOW $name";
        like refusal("SELECT current_setting('job_alerting.$name')", 'ordinary'), qr/ERROR:  $JobAlerting::Server::HIDDEN_SETTING/, "current_setting('$name')";
        is refusal("SHOW job_alerting.$name", 'reader'), '', 'a member of pg_read_all_settings may';
    }
    is sql('SHOW job_alerting.sendgrid_url', 'ordinary'), $stub->url, 'an endpoint is not hidden';
    is sql('SELECT count(*) FROM job_alerting.status', 'monitor'), 1, 'the status can be read';
    is sql("SET $JobAlerting::Server::PARALLEL = on; SELECT count(*) > 0 FROM pg_class", 'ordinary'), 't', 'a parallel query works';
};

subtest 'a failure query of an ordinary role cannot read them' => sub {
    sql('GRANT USAGE ON SCHEMA job_alerting TO ordinary; GRANT EXECUTE ON FUNCTION job_alerting.watch_query TO ordinary');
    like refusal(q(SELECT job_alerting.watch_query('spy', 'SELECT current_setting(''job_alerting.mail_to'') AS job_id, NULL::timestamptz AS failed_at')), 'ordinary'),
      qr/$JobAlerting::Server::HIDDEN_SETTING/, 'it is refused';
};

subtest 'no message shows them to a role that may not read them' => sub {
    sql('GRANT EXECUTE ON FUNCTION job_alerting.check(), job_alerting.run_digest(), job_alerting.send_test() TO ordinary');
    my %secret = (
        sendgrid_api_key_file => '/nowhere/of-the-key',
        heartbeat_url_file    => '/nowhere/of-the-watchdog',
        ca_file               => '/nowhere/of-authorities',
        mail_to               => 'ops@example.com,boss-of-all',
        mail_from             => 'sender-of-all',
        proxy                 => 'http://proxy-of-all.invalid:3128',
    );
    my $told = qr/nowhere|of-the-|of-all|authorities/;
    for my $name (sort keys %secret) {
        JobAlerting::fail_job($node);
        my $is_address = $name =~ /mail/;
        $is_address ? JobAlerting::store_setting($node, $name, $secret{$name}) : JobAlerting::configure($node, $name => $secret{$name});
        JobAlerting::configure($node, sendgrid_url => 'https://api.sendgrid.invalid') if $name eq 'proxy';
        for my $call ($name =~ /heartbeat/ ? 'check' : qw(run_digest check send_test)) {
            my $said = sql("SELECT string_agg(r::text, chr(10)) FROM job_alerting.$call() r", 'ordinary');
            like $said, $name eq 'proxy' ? $call eq 'check' ? qr/ok/ : qr/\(proxy\)/ : qr/job_alerting\.$name/, "$name: $call() reports the problem";
            unlike $said, $told, 'it does not show the value';
        }
        unlike sql('SELECT s FROM job_alerting.status s'), $told, 'the status does not show it';
        unlike sql('SELECT d.error FROM job_alerting.digest d ORDER BY id DESC LIMIT 1'), $told, 'the digest does not have it';
        $is_address ? sql("ALTER DATABASE postgres RESET job_alerting.$name") : sql("ALTER SYSTEM RESET job_alerting.$name");
        $node->reload if !$is_address;
    }
    JobAlerting::configure($node, sendgrid_url => $stub->url);
    forget();
};

$node->stop;

# ---------------------------------------------------------------- not preloaded

subtest 'a mistyped value is reported without preloading, too' => sub {
    my $other = JobAlerting::node('other', stub => $stub, preload => 0, conf => $MISTYPED);
    JobAlerting::create_jobs($other);
    JobAlerting::fail_job($other);
    my ($row) = JobAlerting::run_digest($other);
    like $row->{detail}, qr/job_alerting\.$_ is /, $_ for sort keys %MISTYPED;
    is $row->{outcome}, 'accepted', 'the failure is reported';
    is $other->safe_psql('postgres', q(LOAD 'job_alerting'; SHOW job_alerting.interval)), '5 minutes', 'the value is kept';
    $other->stop;
};

done_testing();
