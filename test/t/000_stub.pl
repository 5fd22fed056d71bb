# The stub stands in for SendGrid in all other tests: it records before it answers, validates as SendGrid
# does, and misbehaves as documented. This test uses plain sockets, because a client library would hide
# differences.

use strict;
use warnings;

use Errno qw(ECONNRESET);
use File::Path ();
use FindBin;
use IO::Select;
use IO::Socket::INET;
use JSON::PP ();
use POSIX ();
use Test::More;
use Time::HiRes ();

use lib "$FindBin::Bin/../support";
use JobAlerting::Stub;

my $stub = JobAlerting::Stub->start;
my $json = JSON::PP->new->utf8->canonical;

# ---------------------------------------------------------------- a client

sub mail {
    return {
        personalizations => [
            {
                to          => [ { email => 'ops@example.com', name => 'Ops' }, { email => 'b@example.com' } ],
                custom_args => { digest_id => '17' },
            }
        ],
        from              => { email => 'alerts@example.com', name => 'Job alerts' },
        subject           => '4 jobs failed [#17]',
        content           => [
            { type => 'text/plain', value => "caf\x{e9} \x{1f40c}" },
            { type => 'text/html',  value => '<p>x</p>' },
        ],
        headers           => { 'Message-ID' => '<17.x@example.com>', 'Auto-Submitted' => 'auto-generated' },
        categories        => ['job_alerting'],
        tracking_settings => { click_tracking => { enable => JSON::PP::false, enable_text => JSON::PP::false } },
    };
}

sub head {
    my ($length, %change) = @_;
    my %headers = (
        'Host'           => '127.0.0.1',
        'Authorization'  => 'Bearer SG.aaaa.bbbb',
        'Accept'         => 'application/json',
        'Content-Type'   => 'application/json',
        'Content-Length' => $length,
        %change,
    );
    my $line = delete $headers{line} // 'POST /v3/mail/send HTTP/1.1';
    return join "\r\n", $line, (map { "$_: $headers{$_}" } grep { defined $headers{$_} } sort keys %headers), '', '';
}

sub request {
    my ($body, %change) = @_;
    $body //= $json->encode(mail());
    return head(length $body, %change) . $body;
}

sub client {
    my (@bytes) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $stub->port, Proto => 'tcp')
      or die "cannot connect: $@";
    syswrite $socket, $_ for @bytes;
    return $socket;
}

# The bytes that the stub sends until it closes, and the error that ended the connection, if any.
sub reply {
    my ($socket) = @_;
    my $bytes = '';
    while (IO::Select->new($socket)->can_read(5)) {
        my $read = sysread $socket, $bytes, 65536, length $bytes;
        return ($bytes, $! + 0) if !defined $read;
        return ($bytes, 0) if !$read;
    }
    die "the stub neither answers nor closes; so far: $bytes";
}

sub talk {
    my ($mode, @bytes) = @_;
    $stub->mode($mode);
    my ($answer) = reply(client(@bytes ? @bytes : request()));
    return $answer;
}

sub silent {
    my ($socket) = @_;
    return !IO::Select->new($socket)->can_read(0.15);
}

sub poll_ok {
    my ($condition, $name) = @_;
    my $deadline = Time::HiRes::time() + 5;
    Time::HiRes::usleep(10_000) until $condition->() || Time::HiRes::time() > $deadline;
    return ok $condition->(), $name;
}

# ---------------------------------------------------------------- tests

subtest 'a good mail is recorded as it came and accepted' => sub {
    my ($answer) = reply(client(request()));
    like $answer, qr{\AHTTP/1\.1 202 Accepted\r\n}, 'status';
    like $answer, qr{\r\nX-Message-Id: stub-00000000000000001\r\n}, 'message id, 22 characters';
    like $answer, qr{\r\nConnection: close\r\n}, 'no second request on a connection';

    is $stub->count, 1, 'one request';
    my ($got) = $stub->wait_for(1, 5);
    is $got->{line}, 'POST /v3/mail/send HTTP/1.1', 'line';
    is $got->{headers}{authorization}, 'Bearer SG.aaaa.bbbb', 'headers';
    is $got->{body}, $json->encode(mail()), 'body, byte for byte';
    is_deeply $got->{json}, mail(), 'body, decoded';
    is $got->{verdict}, '202 ok', 'verdict';
    cmp_ok abs($got->{time} - time), '<', 5, 'time';
    is_deeply [ $stub->broken ], [], 'nothing broken';
};

subtest 'a request is recorded however it is cut into packets' => sub {
    my $body = $json->encode(mail());
    my $socket = client(substr(head(length $body), 0, 40));
    ok silent($socket), 'waits for the head';
    syswrite $socket, substr(head(length $body), 40) . substr($body, 0, 10);
    ok silent($socket), 'waits for the body';
    my $count = $stub->count;
    syswrite $socket, substr($body, 10);
    like((reply($socket))[0], qr/\AHTTP\/1\.1 202 /, 'accepted');
    is $stub->count, $count + 1, 'recorded once';
};

sub person {
    my ($mail) = @_;
    return $mail->{personalizations}[0];
}

# Mails that SendGrid refuses: name => status, pattern of the verdict, and the change to the good mail.
my %bad_mail = (
    'unknown property'       => [ 400, qr/unknown property to/,    sub { $_[0]{to} = [] } ],
    'top-level custom_args'  => [ 400, qr/property custom_args/,   sub { $_[0]{custom_args} = { a => 'b' } } ],
    'no personalizations'    => [ 400, qr/personalizations: /,     sub { $_[0]{personalizations} = [] } ],
    'no recipient'           => [ 400, qr/personalizations.0.to:/, sub { person($_[0])->{to} = [] } ],
    'recipient twice'        => [ 400, qr/more than once/,         sub { person($_[0])->{cc} = [ { email => 'OPS@example.com' } ] } ],
    'bad recipient'          => [ 400, qr/valid address/,          sub { person($_[0])->{to}[0]{email} = 'Ops <ops@example.com>' } ],
    'comma in a name'        => [ 400, qr/names may not/,          sub { person($_[0])->{to}[0]{name} = 'a, b' } ],
    'number in custom_args'  => [ 400, qr/Bad Request/,            sub { person($_[0])->{custom_args}{digest_id} = 17 } ],
    'long number, too'       => [ 400, qr/Bad Request/,            sub { person($_[0])->{custom_args}{digest_id} = 2**62 } ],
    'empty custom_args'      => [ 400, qr/custom_args/,            sub { person($_[0])->{custom_args} = {} } ],
    'no sender'              => [ 400, qr/from/,                   sub { delete $_[0]{from} } ],
    'bad sender'             => [ 400, qr/from.email/,             sub { $_[0]{from}{email} = 'alerts' } ],
    'no subject'             => [ 400, qr/subject/,                sub { delete $_[0]{subject} } ],
    'empty subject'          => [ 400, qr/subject/,                sub { $_[0]{subject} = '' } ],
    'subject of two lines'   => [ 400, qr/one line/,               sub { $_[0]{subject} = "a\nBcc: b" } ],
    'no content'             => [ 400, qr/content/,                sub { $_[0]{content} = [] } ],
    'HTML first'             => [ 400, qr/text\/plain must be/,    sub { @{ $_[0]{content} } = reverse @{ $_[0]{content} } } ],
    'HTML only'              => [ 400, qr/text\/plain is missing/, sub { shift @{ $_[0]{content} } } ],
    'empty part'             => [ 400, qr/content.value/,          sub { $_[0]{content}[1]{value} = '' } ],
    'type with charset'      => [ 400, qr/content.type/,           sub { $_[0]{content}[0]{type} = 'text/plain; charset=utf-8' } ],
    'reserved header'        => [ 400, qr/reserved/,               sub { $_[0]{headers}{subject} = 'x' } ],
    'header twice'           => [ 400, qr/twice/,                  sub { $_[0]{headers}{'message-id'} = 'x' } ],
    'header of two lines'    => [ 400, qr/header X must be/,       sub { $_[0]{headers}{X} = "a\r\nb" } ],
    'header not a string'    => [ 400, qr/header X must be/,       sub { $_[0]{headers}{X} = 1 } ],
    'space in a header name' => [ 400, qr/bad header name/,        sub { $_[0]{headers}{'X Y'} = 'a' } ],
    'category twice'         => [ 400, qr/categories: must be uni/, sub { $_[0]{categories} = [ 'a', 'a' ] } ],
    'eleven categories'      => [ 400, qr/at most 10/,             sub { $_[0]{categories} = [ 'a' .. 'k' ] } ],
    'category not ASCII'     => [ 400, qr/categories: must be an/, sub { $_[0]{categories} = ["\x{e9}"] } ],
    'category too long'      => [ 400, qr/categories: must be an/, sub { $_[0]{categories} = [ 'a' x 256 ] } ],
    'switch not a boolean'   => [ 400, qr/must be a boolean/,      sub { $_[0]{tracking_settings}{click_tracking}{enable} = 'false' } ],
    'sandbox'                => [ 200, qr/sandbox/,                sub { $_[0]{mail_settings}{sandbox_mode}{enable} = JSON::PP::true } ],
);

# The same for requests: status, verdict, body (undef: the good one), headers.
my %bad_request = (
    'wrong path'            => [ 404, qr/not found/,    undef, line => 'POST /v3/mail/sent HTTP/1.1' ],
    'wrong method'          => [ 405, qr/method/,       undef, line => 'PUT /v3/mail/send HTTP/1.1' ],
    'no key'                => [ 400, qr/authorization/, undef, 'Authorization' => undef ],
    'empty key'             => [ 401, qr/grant/,        undef, 'Authorization' => 'Bearer ' ],
    'key of another kind'   => [ 401, qr/grant/,        undef, 'Authorization' => 'Basic SG.a.b' ],
    'key with a line end'   => [ 401, qr/grant/,        undef, 'Authorization' => "Bearer SG.a\\n" ],
    'no Accept'             => [ 406, qr/Accept/,       undef, 'Accept' => undef ],
    'form data'             => [ 415, qr/Content-Type/, undef, 'Content-Type' => 'application/x-www-form-urlencoded' ],
    'compressed'            => [ 415, qr/Encoding/,     undef, 'Content-Encoding' => 'gzip' ],
    'not UTF-8'             => [ 415, qr/UTF8/,         qq({"subject":"\xe9"}) ],
    'surrogates as UTF-8'   => [ 415, qr/UTF8/,         qq({"subject":"\xed\xa0\x80"}) ],
    'not JSON'              => [ 400, qr/Bad Request/,  '{"a":' ],
    'lone surrogate'        => [ 400, qr/Bad Request/,  '{"subject":"\ud800"}' ],
    'not an object'         => [ 400, qr/Bad Request/,  '[]' ],
    'empty'                 => [ 400, qr/Bad Request/,  '' ],
    'too large'             => [ 413, qr/too large/,    'x' x (30 * 1024 * 1024) ],
);

subtest 'the stub refuses the requests that SendGrid refuses, with the reason' => sub {
    my $refused = sub {
        my ($name, $status, $reason, $bytes) = @_;
        my ($answer) = reply(client($bytes));
        my ($got) = ($stub->requests)[-1];
        like $answer, qr{\AHTTP/1\.1 $status }, "$name: $status";
        like $got->{verdict}, qr/\A$status .*$reason/, "$name: verdict";
        my ($body) = $answer =~ /\r\n\r\n(.*)\z/s;
        ok $status == 200 || $json->decode($body)->{errors}[0]{message}, "$name: error body";
    };
    for my $name (sort keys %bad_mail) {
        my ($status, $reason, $spoil) = @{ $bad_mail{$name} };
        my $mail = mail();
        $spoil->($mail);
        $refused->($name, $status, $reason, request($json->encode($mail)));
    }
    for my $name (sort keys %bad_request) {
        my ($status, $reason, $body, %headers) = @{ $bad_request{$name} };
        $refused->($name, $status, $reason, request($body, %headers));
    }
};

$stub = JobAlerting::Stub->start;

subtest 'a stalled request is recorded before it is answered, and blocks no other' => sub {
    $stub->modes('stall', '202');
    my $stalled = client(request());
    $stub->wait_for(1, 5);
    ok silent($stalled), 'held';
    is $stub->held, 1, 'the stub counts it as held';
    my ($answer) = reply(client(request()));
    like $answer, qr/ 202 Accepted/, 'another request is answered meanwhile';
    $stub->release;
    like((reply($stalled))[0], qr/ 202 Accepted.*stub-00000000000000001\r\n/s, 'answered after the release');

    $stub->mode('stall');
    my $next = client(request());
    $stub->wait_for(3, 5);
    ok silent($next), 'a release does not affect later connections';
    close $next;
    poll_ok sub { !$stub->held }, 'ends when the peer leaves';
};

subtest 'stall-read never reads' => sub {
    my $broken = $stub->broken;
    $stub->mode('stall-read');
    my $socket = client(request());
    poll_ok sub { $stub->broken > $broken }, 'recorded as broken';
    ok silent($socket), 'neither answered nor closed';
    close $socket;
    poll_ok sub { !$stub->held }, 'ends when the peer leaves';

    $socket = client(request());
    cmp_ok fill($socket), '<', 20_000_000, 'the buffers fill up, since the stub does not read';
    $stub->release;
    is((reply($socket))[0], '', 'closed by the release, without an answer');
};

subtest 'a narrow stub buffers little, and reads all of a large request' => sub {
    my $wide = $stub;
    $stub = JobAlerting::Stub->start(narrow => 1);
    $stub->modes('stall-read', '202');
    my $socket = client();
    cmp_ok fill($socket), '<', 150_000, 'the buffers hold little';
    my $body = ' ' x 500_000 . $json->encode(mail());
    like((reply(client(request($body))))[0], qr/ 202 Accepted/, 'the whole request arrives');
    $stub = $wide;
};

# Sends until the peer takes nothing more. Returns the number of bytes.
sub fill {
    my ($socket) = @_;
    $socket->blocking(0);
    my $sent = 0;
    while (IO::Select->new($socket)->can_write(0.15)) {
        $sent += syswrite($socket, 'x' x 65536) // last;
    }
    return $sent;
}

subtest 'connections that are closed without an answer' => sub {
    for my $case ([ 'close', 0, 1 ], [ 'close-after-head', 0, 1 ], [ 'close-after-read', 1, 0 ]) {
        my ($mode, $requests, $broken) = @$case;
        my @before = (scalar $stub->requests, scalar $stub->broken);
        is talk($mode), '', "$mode: no answer";
        is_deeply [ $stub->requests - $before[0], $stub->broken - $before[1] ], [ $requests, $broken ],
          "$mode: recorded";
    }
    my $count = $stub->count;
    $stub->mode('reset-after-read');
    is_deeply [ reply(client(request())) ], [ '', ECONNRESET ], 'reset-after-read: a reset';
    is $stub->count, $count + 1, 'reset-after-read: recorded';
    $stub->mode('close-after-head');
    my ($answer, $error) = reply(client(head(10)));
    is_deeply [ $answer, $error ], [ '', 0 ], 'close-after-head does not wait for the body';
};

subtest 'answers that are cut off or malformed' => sub {
    is talk('cut-after-status'), "HTTP/1.1 202 Accepted\r\n", 'cut-after-status';
    like talk('cut-body'), qr/ 202 .*Content-Length: 99\r\n.*\r\n\r\nx{9}\z/s, 'cut-body';
    unlike talk('garbage'), qr/HTTP\/1/, 'garbage';
    like talk('redirect http://127.0.0.1:9/x'), qr{ 307 .*\r\nLocation: http://127\.0\.0\.1:9/x\r\n}s, 'redirect';
    my ($head) = talk('huge-header') =~ /\A(HTTP\/1\.1 202 .*?)\r\n\r\n\z/s;
    cmp_ok length $head, '>=', 65536, 'huge-header';
    my ($body) = talk('huge-body 1000000') =~ /\AHTTP\/1\.1 202 .*?\r\n\r\n(.*)\z/s;
    is length $body, 1_000_000, 'huge-body';
};

subtest 'slow answers byte by byte' => sub {
    $stub->mode('slow');
    my $socket = client(request());
    my $bytes = '';
    IO::Select->new($socket)->can_read(5);
    my $start = Time::HiRes::time();
    while (length $bytes < 8) {
        is sysread($socket, $bytes, 100, length $bytes), 1, 'one byte';
    }
    cmp_ok Time::HiRes::time() - $start, '>', 0.3, 'slowly';
    is $bytes, 'HTTP/1.1', 'the beginning of the status line';
    like talk('slow 1'), qr/\AHTTP\/1\.1 202 .*\r\n\r\n\z/s, 'the whole answer, at a given pace';
};

subtest 'any status, headers and body' => sub {
    like talk('503'), qr/\AHTTP\/1\.1 503 .*"message":"Service Unavailable"/s, 'status and its usual body';
    like talk('600'), qr/\AHTTP\/1\.1 600 /, 'a status that HTTP does not define';
    unlike talk('429'), qr/Reset|Retry/i, '429 alone has no header with a time';
    my $earliest = time + 30;
    my ($reset) = talk('429 reset=+30') =~ /\r\nX-RateLimit-Reset: (\d+)\r\n/;
    ok $earliest <= $reset && $reset <= time + 30, 'reset=+30' or diag "$reset, at least $earliest";
    like talk('429 reset=soon retry-after=7'), qr/\r\nX-RateLimit-Reset: soon\r\nRetry-After: 7\r\n/, 'raw values';
    like talk('503 Retry-After: Wed, 21 Oct 2015 07:28:00 GMT X-A: b'),
      qr/\r\nRetry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\nX-A: b\r\n/, 'headers';
    like talk('401 {"errors":[{"message":"Maximum credits exceeded"}]}'),
      qr/ 401 .*\r\n\r\n\{"errors":\[\{"message":"Maximum credits exceeded"\}\]\}\z/s, 'body';
    like talk('200 body=ok'), qr/ 200 OK.*\r\n\r\nok\z/s, 'text body';
    my $answer = talk('202 X-Message-Id: mine');
    is_deeply [ $answer =~ /X-Message-Id: (.*)\r/g ], ['mine'], '202 with a given header';
    like talk('202 X-Message-Id: mine', request('{}')), qr/ 400 /, '202 still refuses a bad request';
    like talk('500', request('{}')), qr/ 500 /, 'other statuses do not depend on the request';
    like(($stub->requests)[-1]{verdict}, qr/\A400 /, 'but the verdict is recorded');
};

subtest 'a body can be announced by Expect, but not be chunked' => sub {
    $stub->mode('202');
    my $body = $json->encode(mail());
    my $socket = client(head(length $body, Expect => '100-continue'));
    sysread $socket, my $interim, 1000;
    is $interim, "HTTP/1.1 100 Continue\r\n\r\n", 'Expect is answered before the body';
    syswrite $socket, $body;
    like((reply($socket))[0], qr/\AHTTP\/1\.1 202 /, 'the request is answered after the body');

    my $count = $stub->count;
    my $chunked = head(undef, 'Transfer-Encoding' => 'chunked') . "2\r\n{}\r\n0\r\n\r\n";
    $socket = client($chunked);
    shutdown $socket, 1;
    like((reply($socket))[0], qr/\AHTTP\/1\.1 411 /, 'chunked: 411');
    is $stub->count, $count, 'no request is recorded';
};

subtest 'an upload that breaks off is not recorded as a request' => sub {
    my ($count, $broken) = ($stub->count, scalar $stub->broken);
    close client(substr request(), 0, -1);
    poll_ok sub { $stub->broken > $broken }, 'recorded as broken';
    is $stub->count, $count, 'not as a request';
    my $got = ($stub->broken)[-1];
    is $got->{verdict}, 'broke off in the body', 'the verdict says where it broke off';
    is $got->{body}, substr($json->encode(mail()), 0, -1), 'the bytes until then are recorded';
};

subtest 'each connection takes the next mode, and the last mode stays' => sub {
    my $count = $stub->count;
    $stub->modes(501 .. 520, 202);
    my @sockets = map { client(request()) } 1 .. 23;
    my @statuses = map { (reply($_))[0] =~ / (\d+)/ } @sockets;
    is_deeply \@statuses, [ 501 .. 520, 202, 202, 202 ], 'answers';
    my @new = grep { $_->{number} > $count } $stub->requests;
    is_deeply [ map { $_->{number} } @new ], [ $count + 1 .. $count + 23 ], 'numbered without gaps';
    is_deeply [ map { $_->{time} } @new ], [ sort { $a <=> $b } map { $_->{time} } @new ], 'in the order of arrival';
};

sub slack_message {
    my $text = sub { return { type => 'text', text => $_[0] } };
    my $plain = sub { return { type => 'plain_text', text => $_[0], emoji => JSON::PP::false } };
    return {
        text         => 'a &lt;b&gt; &amp; c',
        (map { $_ => JSON::PP::false } qw(mrkdwn unfurl_links unfurl_media)),
        blocks       => [
            { type => 'header', text => $plain->("caf\x{e9} \x{1f40c}") },
            { type => 'section', text => $plain->('x' x 3000) },
            { type => 'divider' },
            { type => 'rich_text', elements => [
                { type => 'rich_text_section', elements => [
                    { %{ $text->('b') }, style => { bold => JSON::PP::true } }, $text->('<!channel>'),
                    { type => 'link', url => 'https://x/1' } ] },
                { type => 'rich_text_preformatted', elements => [ $text->("a\nb") ] } ] },
            { type => 'context', elements => [ $plain->('f'), { type => 'mrkdwn', text => 'a &amp; b' } ] },
        ],
    };
}

# Messages that Slack refuses: name => its answer, pattern of the verdict, and the change to the good message.
my %bad_message = (
    'no text'              => [ 'no_text', qr//, sub { delete $_[0]{text} } ],
    'empty text'           => [ 'no_text', qr//, sub { $_[0]{text} = '' } ],
    'text of markup'       => [ 'invalid_payload', qr/text/, sub { $_[0]{text} = '<!channel>' } ],
    'text not escaped'     => [ 'invalid_payload', qr/text/, sub { $_[0]{text} = 'a & b' } ],
    'text too long'        => [ 'invalid_payload', qr/text/, sub { $_[0]{text} = 'x' x 4001 } ],
    'unknown property'     => [ 'invalid_blocks', qr/property attachments/, sub { $_[0]{attachments} = [] } ],
    'previews'             => [ 'invalid_payload', qr/unfurl_links/, sub { $_[0]{unfurl_links} = JSON::PP::true } ],
    'switch not a boolean' => [ 'invalid_payload', qr/unfurl_media/, sub { $_[0]{unfurl_media} = 0 } ],
    'blocks not a list'    => [ 'invalid_blocks_format', qr//, sub { $_[0]{blocks} = {} } ],
    'no blocks'            => [ 'invalid_blocks', qr/blocks/, sub { $_[0]{blocks} = [] } ],
    'too many blocks'      => [ 'invalid_blocks', qr/blocks/, sub { $_[0]{blocks} = [ ({ type => 'divider' }) x 51 ] } ],
    'unknown block'        => [ 'invalid_blocks', qr/heading/, sub { $_[0]{blocks}[0]{type} = 'heading' } ],
    'block without type'   => [ 'invalid_blocks', qr/no type/, sub { delete $_[0]{blocks}[0]{type} } ],
    'divider with text'    => [ 'invalid_blocks', qr/property text/, sub { $_[0]{blocks}[2]{text} = 'x' } ],
    'long header'          => [ 'invalid_blocks', qr/too long/, sub { $_[0]{blocks}[0]{text}{text} = 'x' x 151 } ],
    'header of markup'     => [ 'invalid_blocks', qr/mrkdwn/, sub { $_[0]{blocks}[0]{text}{type} = 'mrkdwn' } ],
    'long section'         => [ 'invalid_blocks', qr/too long/, sub { $_[0]{blocks}[1]{text}{text} = 'x' x 3001 } ],
    'empty section'        => [ 'invalid_blocks', qr/too long/, sub { $_[0]{blocks}[1]{text}{text} = '' } ],
    'mrkdwn not escaped'   => [ 'invalid_blocks', qr/not escaped/, sub { $_[0]{blocks}[4]{elements}[1]{text} = '<!here>' } ],
    'eleven elements'      => [ 'invalid_blocks', qr/context/, sub { $_[0]{blocks}[4]{elements} = [ ($_[0]{blocks}[1]{text}) x 11 ] } ],
    'empty rich text'      => [ 'invalid_blocks', qr/rich_text/, sub { $_[0]{blocks}[3]{elements} = [] } ],
    'empty paragraph'      => [ 'invalid_blocks', qr/rich_text_section/, sub { $_[0]{blocks}[3]{elements}[0]{elements} = [] } ],
    'empty element'        => [ 'invalid_blocks', qr/text/, sub { $_[0]{blocks}[3]{elements}[1]{elements}[0]{text} = '' } ],
    'mention'              => [ 'invalid_blocks', qr/broadcast/, sub { $_[0]{blocks}[3]{elements}[0]{elements}[0] = { type => 'broadcast', range => 'channel' } } ],
    'link elsewhere'       => [ 'invalid_blocks', qr/url/, sub { $_[0]{blocks}[3]{elements}[0]{elements}[2]{url} = 'javascript:x' } ],
    'style not a boolean'  => [ 'invalid_blocks', qr/style/, sub { $_[0]{blocks}[3]{elements}[0]{elements}[0]{style}{bold} = 1 } ],
    'too much in all'      => [ 'msg_blocks_too_long', qr//, sub { push @{ $_[0]{blocks} }, ($_[0]{blocks}[1]) x 4 } ],
);

subtest 'a Slack webhook accepts a good message, and refuses others with one word as Slack does' => sub {
    my %slack = (line => 'POST /services/T0/B0/x HTTP/1.1', Authorization => undef);
    my $good = $json->encode(slack_message());
    like talk('202', request($good, %slack)), qr{ 200 OK.*\r\nContent-Type: text/plain\r\n.*\r\n\r\nok\z}s, 'ok';
    is(($stub->requests)[-1]{verdict}, '200 ok', 'verdict');
    for my $name (sort keys %bad_message) {
        my ($word, $reason, $spoil) = @{ $bad_message{$name} };
        my $message = slack_message();
        $spoil->($message);
        like talk('202', request($json->encode($message), %slack)), qr/ 400 .*\r\n\r\n$word\z/s, "$name: $word";
        like(($stub->requests)[-1]{verdict}, $reason, "$name: verdict");
    }
    like talk('202', request('x', %slack)), qr/ 400 .*\r\n\r\ninvalid_payload\z/s, 'not JSON';
    like talk('202', request($good, %slack, 'Content-Type' => 'text/plain')), qr/ 400 .*invalid_payload\z/s, 'not announced as JSON';
    like talk('202', request($good, %slack, 'Authorization' => 'Bearer x')), qr/ 400 .*invalid_payload\z/s, 'with a key';
    like talk('202', request($good, %slack, line => 'POST /services/T0/B0 HTTP/1.1')), qr/ 404 .*no_service\z/s, 'no webhook';
    like talk('202', request($good, %slack, line => 'PUT /services/T0/B0/x HTTP/1.1')), qr/ 405 /, 'not a POST';
};

subtest 'a watchdog accepts a plain GET' => sub {
    my %ask = (line => 'GET /ping/x HTTP/1.1', Authorization => undef);
    like talk('202', request('', %ask)), qr{ 200 OK.*\r\n\r\nOK\z}s, 'OK';
    is(($stub->requests)[-1]{verdict}, '200 OK', 'verdict');
    like talk('202', request('', %ask, line => 'POST /ping/x HTTP/1.1')), qr/ 400 /, 'not a POST';
    like talk('202', request('x', %ask)), qr/ 400 /, 'a body is refused';
    like talk('202', request('', %ask, Authorization => 'Bearer x')), qr/ 400 /, 'a key is refused';
};

subtest 'wait_for() dies with a list of the requests that came' => sub {
    eval { $stub->wait_for($stub->count + 1, 0.1) };
    like $@, qr/waited in vain.*request \d+: POST .* \(mode 202\)/s, 'diagnosis';
};

subtest 'an unknown mode is an error of the test, not an answer' => sub {
    my $other = JobAlerting::Stub->start;
    ($stub, $other) = ($other, $stub);
    is talk('stal'), '', 'no answer';
    poll_ok sub { !eval { $stub->count; 1 } && $@ =~ /unknown mode: stal/ }, 'the next access to the records dies';
    ($stub, $other) = ($other, $stub);
};

subtest 'stop() ends the stub and the connections that it holds' => sub {
    $stub->mode('stall');
    my $count = $stub->count;
    my $held = client(request());
    $stub->wait_for($count + 1, 5);
    my $port = $stub->port;
    $stub->stop;
    is((reply($held))[0], '', 'the held connection is closed');
    ok !IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port), 'connections are refused';
    my $again = JobAlerting::Stub->start(port => $port);
    is $again->port, $port, 'another stub can use the same port';
    is $again->count, 0, 'its records are new';
};

subtest 'a stub ends with the test that started it' => sub {
    pipe my $read, my $write or die "pipe: $!";
    my $test = fork // die "fork: $!";
    if (!$test) {
        my $orphan = JobAlerting::Stub->start;
        syswrite $write, join ' ', $orphan->port, $orphan->dir;
        POSIX::_exit(0);
    }
    close $write;
    my ($port, $dir) = split / /, readline $read;
    waitpid $test, 0;
    poll_ok sub { !IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) }, 'the stub is gone';
    File::Path::remove_tree($dir);
};

done_testing();
