# Each channel reports each failure once, whatever happens to queues, channels and the ledger. The test has
# a few named cases, then random steps with checks after each round, and compares the receiver's records at
# the end.
#
#   STEPS=200000   takes 200,000 steps instead of 20,000
#   SEED=17        repeats the steps of an earlier run

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/../support";
use JobAlerting;

my $steps = $ENV{STEPS} || 20_000;
my $seed = $ENV{SEED} || 1 + int rand 2**31;
diag "$steps random steps; SEED=$seed takes them again";

my $stub = JobAlerting::Stub->start;
# Not preloaded, so that only the test makes rounds.
my $node = JobAlerting::node('main', stub => $stub, slack => $stub, preload => 0, conf => <<'CONF');
job_alerting.max_listed = 1000
CONF
$node->safe_psql('postgres', 'CREATE DATABASE cases');

# ---------------------------------------------------------------- cases

sub sql {
    my ($statement) = @_;
    return $node->safe_psql('cases', $statement);
}

sub channels {
    my ($list) = @_;
    sql("ALTER DATABASE cases SET job_alerting.channels = '$list'");
    return;
}

# One round. Returns the channel and the jobs of each message.
sub told {
    my $came = $stub->from_now;
    JobAlerting::run_digest($node, 'cases');
    return map { [ channel_of($_), join ' ', jobs_of($_) ] } $came->();
}

sub channel_of {
    my ($request) = @_;
    return $request->{line} =~ m{ /services/} ? 'slack' : 'sendgrid';
}

sub text_of {
    my ($request) = @_;
    return JobAlerting::text_part($request) if channel_of($request) eq 'sendgrid';
    return join "\n", strings($request->{json}{blocks});
}

sub strings {
    my ($value) = @_;
    return map { strings($_) } @$value if ref $value eq 'ARRAY';
    return map { strings($value->{$_}) } sort keys %$value if ref $value eq 'HASH';
    return $value // '';
}

sub jobs_of {
    my ($request) = @_;
    return sort(text_of($request) =~ /^ *job (\S+) in /mg);
}

my $watch = q(SELECT job_alerting.watch_query('q', 'SELECT id AS job_id, failed_at FROM public.jobs WHERE failed'));
sql(<<'SQL');
    CREATE EXTENSION job_alerting;
    CREATE TABLE jobs (id text PRIMARY KEY, failed boolean, failed_at timestamptz DEFAULT now());
SQL
sql($watch);

subtest 'a failure that was reported through one channel is reported through another when it stands again' => sub {
    channels('sendgrid');
    sql(q(INSERT INTO jobs VALUES ('a', true)));
    is_deeply [ told() ], [ [ sendgrid => 'a' ] ], 'reported through the first channel';
    sql(q(SELECT job_alerting.unwatch('q')));
    sql(q(INSERT INTO jobs VALUES ('b', true)));
    sql(q(SELECT job_alerting.watch_query('other', 'SELECT id AS job_id, failed_at FROM public.jobs WHERE id = ''b''')));
    channels('sendgrid,slack');
    is_deeply [ told() ], [ [ sendgrid => 'b' ], [ slack => 'b' ] ], 'the next failure is reported through both';
    sql($watch);
    sql(q(SELECT job_alerting.unwatch('other', forget => true)));
    sql(q(DELETE FROM jobs WHERE id = 'b'));
    is_deeply [ told() ], [ [ slack => 'a' ] ], 'standing again, the failure is reported through the other, too';
    is_deeply [ told() ], [], 'only once';
    is sql(q(SELECT id FROM job_alerting.failure WHERE job_id = 'a')), 1, 'under its ledger id';
};

subtest 'a channel that was away reports the missed failures' => sub {
    sql(q(SELECT job_alerting.unwatch('q')));
    channels('sendgrid');
    sql(q(INSERT INTO jobs VALUES ('c', true), ('d', true)));
    sql($watch);
    is_deeply [ told() ], [ [ sendgrid => 'c d' ] ], 'two failures are reported through one channel';
    sql(q(UPDATE jobs SET failed = false));
    is_deeply [ told() ], [], 'they are cleared';
    channels('slack');
    sql(q(INSERT INTO jobs VALUES ('e', true)));
    is_deeply [ told() ], [ [ slack => 'c d e' ] ], 'the other channel reports the missed and the new failures';
    channels('sendgrid');
    is_deeply [ told() ], [ [ sendgrid => 'e' ] ], 'the first channel reports only new failures';
};

subtest 'status, preview() and a copy count missed failures' => sub {
    sql('DROP EXTENSION job_alerting; CREATE EXTENSION job_alerting; UPDATE jobs SET failed = false');
    sql($watch);
    channels('sendgrid');
    sql(q(UPDATE jobs SET failed = true WHERE id IN ('a', 'b', 'c')));
    is_deeply [ told() ], [ [ sendgrid => 'a c' ] ], 'two are reported';
    sql(q(UPDATE jobs SET failed = false));
    told();
    channels('slack');
    sql(q(INSERT INTO jobs VALUES ('f', true)));
    is_deeply [ told() ], [ [ slack => 'f' ] ], 'a later failure is reported through another channel';
    channels('');
    sql(q(UPDATE jobs SET failed = true WHERE id IN ('a', 'c')));
    told();
    channels('slack');
    my ($status) = JobAlerting::rows($node, 'cases', 'SELECT * FROM job_alerting.status');
    is $status->{failures_waiting}, 2, 'status counts the two missed failures';
    my ($preview) = JobAlerting::rows($node, 'cases', 'SELECT * FROM job_alerting.preview()');
    is_deeply [ sort($preview->{body_text} =~ /^ *job (\S+) in /mg) ], [ 'a', 'c' ], 'preview() lists them';
    like $preview->{body_text}, qr/reported earlier/, 'preview() has all parts';
    $node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE cases');
    $node->safe_psql('postgres', q(ALTER DATABASE copy SET job_alerting.channels = 'slack'));
    JobAlerting::run_digest($node, 'copy');
    is $node->safe_psql('copy', q(SELECT array_agg(job_id ORDER BY job_id) FROM job_alerting.digest_failure f
        JOIN job_alerting.digest d ON d.id = f.digest_id WHERE held = 'copy' AND d.channel = 'slack')), '{a,c}', 'a copy holds them back';
    my @rows = JobAlerting::run_digest($node, 'cases');
    is "$rows[0]{outcome} $rows[0]{failures}", 'accepted 2', 'the original reports them';
    sql('UPDATE jobs SET failed = false');
    told();
};

# ---------------------------------------------------------------- random steps

srand $seed;

sub pick {
    my (@choices) = @_;
    return $choices[ rand @choices ];
}

# False while no receiver listens.
my $may_be_quiet = 'true';

# The steps: the weight of each, and its input for psql.
my @step = (
    [ 60, sub { sprintf q(UPDATE job SET failed = true WHERE queue = '%s' AND n %% 8 = %d), queue(), rand 8 } ],
    [ 60, sub { sprintf q(UPDATE job SET failed = false WHERE queue = '%s' AND n %% 8 = %d), queue(), rand 8 } ],
    [ 60, sub { sprintf q(UPDATE job SET failed = true, failed_at = clock_timestamp() WHERE queue = '%s' AND n = %d), queue(), rand 24 } ],
    [ 30, sub { sprintf q(UPDATE job SET failed = false WHERE queue = '%s'), queue() } ],
    [ 8, sub { sprintf q(SELECT watch('%s')), queue() } ],
    [ 4, sub { sprintf q(SELECT job_alerting.unwatch('%s', forget => %s)), queue(), pick('false', 'false', 'true') } ],
    [ 5, sub { sprintf q(SELECT set_here('channels', '%s')), join ',', grep { rand() < 0.6 } qw(log sendgrid slack) } ],
    [ 3, sub { sprintf q(SELECT set_here('on_in_doubt', '%s')), pick('hold', 'resend') } ],
    [ 2, sub { sprintf q(SELECT set_here('retention', '%s')), pick('0', '90d', '90d') } ],
    [ 4, sub { q(SELECT grow_old()) } ],
    [ 4, sub { sprintf q(SELECT settle_one(%s, %f)), pick('true', 'false'), rand } ],
    [ 6, sub { q(SELECT let_time_pass()) } ],
    [ 1, sub { q(UPDATE job_alerting.installation SET place = 'elsewhere') } ],
    [ 6, sub { mode(pick('503', '429', "400\n202", "400\n400\n202", '401', "503\n202", '202')) } ],
    [ 4, sub { q(SELECT make_round(quiet => false)) } ],
    [ 4, sub { mode('202') . qq(\nSELECT let_time_pass();\nSELECT make_round(quiet => $may_be_quiet)) } ],
);
my @bag = map { ($_->[1]) x $_->[0] } @step;

sub queue { return pick('p', 'q', 'r') }

# Sets the mode while no request is under way.
sub mode {
    my ($mode) = @_;
    return join '', '\\! ', sprintf(q(printf '%%s\n' %s), join ' ', split /\n/, $mode), ' >', $stub->dir, '/mode';
}

my $schema = <<'SQL';
CREATE EXTENSION job_alerting;
CREATE TABLE job (
    queue text, n int, failed boolean DEFAULT false, failed_at timestamptz DEFAULT clock_timestamp(),
    PRIMARY KEY (queue, n)
);
INSERT INTO job SELECT queue, n FROM unnest('{p,q,r}'::text[]) queue, generate_series(0, 23) n;

CREATE FUNCTION watch(queue text) RETURNS text LANGUAGE sql
RETURN job_alerting.watch_query(queue,
    format('SELECT queue || n AS job_id, failed_at FROM public.job WHERE failed AND queue = %L', queue));

-- For the rounds, and for status in this session.
CREATE FUNCTION set_here(setting text, value text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER DATABASE %I SET job_alerting.%I = %L', current_database(), setting, value);
    PERFORM set_config('job_alerting.' || setting, value, false);
END
$$;

CREATE FUNCTION grow_old() RETURNS void BEGIN ATOMIC
    UPDATE job_alerting.failure SET cleared_at = cleared_at - interval '100 d' WHERE cleared_at IS NOT NULL;
    UPDATE job_alerting.digest SET updated_at = updated_at - interval '100 d' WHERE state = 'accepted';
END;

CREATE FUNCTION let_time_pass() RETURNS void BEGIN ATOMIC
    UPDATE job_alerting.digest SET next_attempt_at = now() - interval '1 s',
        first_attempt_at = first_attempt_at - interval '1 h' WHERE state IN ('pending', 'in_doubt');
END;

-- `place`, from 0 to 1: which of those in doubt.
CREATE FUNCTION settle_one(arrived boolean, place float8) RETURNS text LANGUAGE sql AS $$
    SELECT job_alerting.settle(id, arrived) FROM (
        SELECT id, row_number() OVER (ORDER BY id) - 1 AS before, count(*) OVER () AS doubtful
        FROM job_alerting.digest WHERE state = 'in_doubt') d
    WHERE before = floor(place * doubtful)
$$;

-- What each request tells, as its round has it. One that met nobody may be sent again as it is.
CREATE TABLE sent (
    request bigint GENERATED ALWAYS AS IDENTITY, digest bigint, channel text,
    failures bigint[], jobs text[], arrived boolean DEFAULT true, accepted boolean DEFAULT false
);
CREATE FUNCTION note_sending() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state = 'sending' AND NEW.request <> '' AND NEW.channel <> 'log' THEN
        IF OLD.request = NEW.request THEN -- of which the ledger may have forgotten something
            INSERT INTO public.sent (digest, channel, failures, jobs)
            SELECT digest, channel, failures, jobs FROM public.sent WHERE digest = NEW.id ORDER BY request DESC LIMIT 1;
        ELSE
            INSERT INTO public.sent (digest, channel, failures, jobs)
            SELECT NEW.id, NEW.channel, array_agg(f.id), array_agg(f.job_id)
            FROM job_alerting.failure f WHERE f.id BETWEEN NEW.first_failure AND NEW.last_failure;
        END IF;
    ELSIF OLD.state = 'sending' AND NEW.state = 'accepted' THEN
        UPDATE public.sent SET accepted = true
        WHERE request = (SELECT max(request) FROM public.sent WHERE digest = NEW.id);
    ELSIF OLD.state = 'sending' AND NEW.http_status IS NULL AND NEW.error ~* 'connect' THEN
        UPDATE public.sent SET arrived = false WHERE request = (SELECT max(request) FROM public.sent WHERE digest = NEW.id);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER note_sending AFTER UPDATE ON job_alerting.digest FOR EACH ROW EXECUTE FUNCTION note_sending();

-- What must hold after every round; and after a quiet one, for which the receiver was well.
CREATE FUNCTION faults(channels text[], quiet boolean, waiting bigint) RETURNS SETOF text BEGIN ATOMIC
    SELECT format('digests %s and %s of %s are not disjoint', d.before, d.id, d.channel)
    FROM (SELECT *, lag(id) OVER w AS before, lag(last_failure) OVER w AS told
          FROM job_alerting.digest WINDOW w AS (PARTITION BY channel ORDER BY last_failure)) d
    WHERE d.first_failure <= d.told
    UNION ALL
    SELECT format('failure %s stands, is in no digest of %s, and %s wait', f.id, c.channel, waiting)
    FROM job_alerting.failure f CROSS JOIN unnest(channels) c(channel)
    WHERE quiet AND f.cleared_at IS NULL
      AND NOT EXISTS (SELECT FROM job_alerting.digest d WHERE d.channel = c.channel
                      AND f.id BETWEEN d.first_failure AND d.last_failure)
    UNION ALL
    SELECT format('%s wait, and %s are counted', count(DISTINCT f.id), waiting)
    FROM job_alerting.failure f CROSS JOIN unnest(channels) c(channel)
    LEFT JOIN job_alerting.digest d ON d.channel = c.channel AND f.id BETWEEN d.first_failure AND d.last_failure
    WHERE f.cleared_at IS NULL AND d.id IS NULL OR d.state <> 'accepted'
    HAVING count(DISTINCT f.id) > waiting
    UNION ALL
    SELECT format('nothing waits, and %s are counted', waiting)
    WHERE quiet AND waiting > 0
      AND NOT EXISTS (SELECT FROM job_alerting.digest d WHERE d.channel = ANY (channels) AND d.state <> 'accepted')
    UNION ALL
    SELECT format('digest %s of %s is %s', d.id, d.channel, d.state)
    FROM job_alerting.digest d WHERE quiet AND d.channel = ANY (channels) AND d.state <> 'accepted' AND d.held IS NULL
    UNION ALL
    SELECT format('job %s%s stands failed, and the ledger does not say so', j.queue, j.n)
    FROM public.job j JOIN job_alerting.queue q ON q.name = j.queue
    WHERE j.failed AND NOT EXISTS (SELECT FROM job_alerting.failure f WHERE f.queue = j.queue
        AND f.job_id = j.queue || j.n AND f.failed_at = j.failed_at AND f.cleared_at IS NULL);
END;
CREATE FUNCTION make_round(quiet boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    found text[];
BEGIN
    BEGIN
        PERFORM job_alerting.run_digest();
    EXCEPTION WHEN object_not_in_prerequisite_state THEN
        PERFORM FROM job_alerting.queue;
        IF FOUND THEN
            RAISE;
        END IF;
        RETURN; -- no queue is watched
    END;
    SELECT array_agg(f) INTO found
    FROM public.faults(string_to_array(current_setting('job_alerting.channels'), ','), quiet,
                       (SELECT failures_waiting FROM job_alerting.status)) f;
    IF found IS NOT NULL THEN
        RAISE EXCEPTION '%', array_to_string(found, '; ');
    END IF;
END
$$;
SQL

# Compares each received message with its round: the same jobs or, in a minimal form, the same number.
sub wrong_requests {
    my ($sent, @requests) = @_;
    my @faults;
    push @faults, scalar(@requests) . ' requests came, and ' . @$sent . ' were sent' if @requests != @$sent;
    my (%before, %told);
    for my $i (0 .. $#requests) {
        my ($request, $sent) = ($requests[$i], $sent->[$i] // last);
        my $name = "request $request->{number}, digest $sent->{digest} of $sent->{channel}";
        my $fault = sub { push @faults, "$name: $_[0]" };
        my ($count, $number) = ($request->{json}{subject} // $request->{json}{text}) =~ /\A(\d+) jobs? failed .*\[#(\d+)\]\z/;
        my @jobs = sort @{ $sent->{jobs} };
        $fault->('it came through ' . channel_of($request)) if channel_of($request) ne $sent->{channel};
        $fault->($request->{verdict}) if $request->{verdict} !~ /\A20[02] /;
        $fault->("its number is $number") if $number != $sent->{digest};
        $fault->("it counts $count, and not " . @jobs) if $count != @jobs;
        my @named = jobs_of($request);
        $fault->("it tells @named, and not @jobs") if !is_told($request, \@named, \@jobs);
        $fault->("accepted, and answered by $request->{mode}") if $sent->{accepted} && $request->{mode} ne '202';
        next if $request->{mode} =~ /\A4/; # refused: the next one may be another

        my $before = $before{ $sent->{digest} } //= $request;
        $fault->('it is another message than before') if $before->{body} ne $request->{body};
        for my $failure (@{ $sent->{failures} }) {
            my $told = $told{ $sent->{channel} }{$failure} //= $sent->{digest};
            $fault->("digest $told has told failure $failure") if $told != $sent->{digest};
        }
    }
    return @faults;
}

# A minimal form names no job, and a Slack message lists only some.
sub is_told {
    my ($request, $named, $jobs) = @_;
    return !@$named if text_of($request) =~ /full\s+digest\s+was\s+refused/;
    return "@$named" eq "@$jobs" if channel_of($request) eq 'sendgrid';
    my %left;
    $left{$_}++ for @$jobs;
    return @$named && !grep { --$left{$_} < 0 } @$named;
}

# A copy of the database takes its place.
sub copy {
    my ($db, $name) = @_;
    $node->safe_psql('postgres', "CREATE DATABASE $name TEMPLATE $db");
    return $name;
}

subtest 'random steps' => sub {
    my $batch = 250;
    my $db = 'walk';
    $node->safe_psql('postgres', "CREATE DATABASE $db");
    $node->safe_psql($db, $schema);
    my $begun = $stub->count;
    my ($taken, $rounds) = (0, 0);
    while ($taken < $steps) {
        my $nobody = rand() < 0.1;
        $may_be_quiet = $nobody ? 'false' : 'true';
        JobAlerting::configure($node, sendgrid_url => $nobody ? 'http://127.0.0.1:1' : $stub->url)
          if $nobody || $taken % (10 * $batch) == 0;
        $db = copy($db, "copy_$taken") if rand() < 0.05;
        my @script = map { $bag[ rand @bag ]->() } 1 .. $batch;
        my ($status, undef, $error) = $node->psql($db, join ";\n", @script);
        $taken += $batch;
        $rounds += grep { /make_round/ } @script;
        is($status, 0, "steps up to $taken") or diag $error or return;
        JobAlerting::configure($node, sendgrid_url => $stub->url) if $nobody;
    }
    note "$rounds rounds";
    cmp_ok $rounds, '>', $steps / 60, 'there were enough rounds';

    my @sent = JobAlerting::rows($node, $db, 'SELECT * FROM sent WHERE arrived ORDER BY request');
    my @requests = ($stub->requests)[ $begun .. $stub->count - 1 ];
    cmp_ok scalar @requests, '>', $steps / 100, scalar(@requests) . ' messages';
    my @faults = wrong_requests(\@sent, @requests);
    is join("\n", @faults[ 0 .. ($#faults > 9 ? 9 : $#faults) ]), '', 'each message has the expected failures, and no failure is reported twice';
};

$node->stop;
done_testing();
