package SlackRules;

# The checks of Slack before it answers "ok" to an incoming webhook, and this product's own promises: no
# unescaped markup, no link previews. They follow Slack's reference of Block Kit. Slack does not document how
# it measures a whole message, so the size of the JSON counts.

use strict;
use warnings;

use JSON::PP ();

use MailSendRules;

use constant {
    MAX_BLOCKS => 50,
    MAX_TEXT   => 4000,      # a longer one is split
    MAX_ALL    => 13_000,
};

my %MESSAGE = map { $_ => 1 } qw(text mrkdwn blocks unfurl_links unfurl_media);

# Each kind of block: its properties, and how they are checked.
my %BLOCK = (
    divider   => [ [], sub { } ],
    header    => [ ['text'], sub { check_text($_[0]{text}, 150, 'plain_text') } ],
    section   => [ ['text'], sub { check_text($_[0]{text}, 3000, 'plain_text', 'mrkdwn') } ],
    context   => [ ['elements'], \&check_context ],
    rich_text => [ ['elements'], \&check_rich_text ],
);

sub is_webhook {
    my ($request) = @_;
    return MailSendRules::path($request) =~ m{\A/services/};
}

# Slack's answer to a request {line, fields => {name => [values]}, body}: a hash of status and
# message, where `plain` says that the body is bare text. `field` tells a test what is wrong.
sub judge {
    my ($request) = @_;
    my $verdict = eval {
        check_envelope($request);
        check_message(decode($request->{body}));
        { status => 200, message => 'ok', plain => 1 };
    };
    return $verdict if $verdict;
    die $@ if ref $@ ne 'HASH';
    return $@;
}

sub refuse {
    my ($status, $word, $field) = @_;
    die { status => $status, message => $word, field => $field, plain => 1 };
}

sub check_envelope {
    my ($request) = @_;
    my $fields = $request->{fields};
    refuse(404, 'no_service') if MailSendRules::path($request) !~ m{\A/services/T\w+/B\w+/\w+\z};
    refuse(405, 'method_not_allowed') if $request->{line} !~ /\APOST /;
    refuse(400, 'invalid_payload', 'Authorization') if $fields->{authorization};
    refuse(400, 'invalid_payload', 'Content-Type')
      if ($fields->{'content-type'} // [''])->[0] !~ m{\Aapplication/json\z};
    return;
}

sub decode {
    my ($bytes) = @_;
    my $message = eval { JSON::PP->new->utf8->decode($bytes) };
    refuse(400, 'invalid_payload') if ref $message ne 'HASH';
    return $message;
}

sub check_message {
    my ($message) = @_;
    check_properties($message, \%MESSAGE, 'message');
    my $text = $message->{text};
    refuse(400, 'no_text') if !MailSendRules::is_string($text) || $text eq '';
    refuse(400, 'invalid_payload', 'text') if length $text > MAX_TEXT || !is_escaped($text);
    for my $switch (qw(mrkdwn unfurl_links unfurl_media)) {
        refuse(400, 'invalid_payload', $switch)
          if !JSON::PP::is_bool($message->{$switch}) || $message->{$switch};
    }
    check_blocks($message->{blocks});
    return;
}

sub check_blocks {
    my ($blocks) = @_;
    refuse(400, 'invalid_blocks_format') if ref $blocks ne 'ARRAY';
    refuse(400, 'invalid_blocks', 'blocks') if !@$blocks || @$blocks > MAX_BLOCKS;
    for my $block (@$blocks) {
        my $kind = $BLOCK{ type_of($block) } or refuse(400, 'invalid_blocks', type_of($block));
        my ($properties, $check) = @$kind;
        check_properties($block, { map { $_ => 1 } 'type', @$properties }, $block->{type});
        $check->($block);
    }
    refuse(400, 'msg_blocks_too_long') if length JSON::PP->new->encode($blocks) > MAX_ALL;
    return;
}

sub check_context {
    my ($block) = @_;
    my $elements = list($block->{elements}, 'context');
    refuse(400, 'invalid_blocks', 'context') if @$elements > 10;
    check_text($_, 3000, 'plain_text', 'mrkdwn') for @$elements;
    return;
}

sub check_rich_text {
    my ($block) = @_;
    for my $part (@{ list($block->{elements}, 'rich_text') }) {
        check_properties($part, { type => 1, elements => 1 }, type_of($part));
        refuse(400, 'invalid_blocks', type_of($part)) if type_of($part) !~ /\Arich_text_(?:section|preformatted|quote)\z/;
        check_rich_element($_) for @{ list($part->{elements}, $part->{type}) };
    }
    return;
}

# No mentions, emoji or colours: this product adds none, and passes none on.
sub check_rich_element {
    my ($element) = @_;
    my $type = type_of($element);
    if ($type eq 'text') {
        check_properties($element, { type => 1, text => 1, style => 1 }, 'text');
        refuse(400, 'invalid_blocks', 'text') if !is_filled($element->{text});
        check_style($element->{style}) if exists $element->{style};
    } elsif ($type eq 'link') {
        check_properties($element, { type => 1, url => 1, text => 1 }, 'link');
        refuse(400, 'invalid_blocks', 'url')
          if !is_filled($element->{url}) || $element->{url} !~ m{\Ahttps?://[\x21-\x7e]{1,2990}\z};
    } else {
        refuse(400, 'invalid_blocks', $type);
    }
    return;
}

sub check_style {
    my ($style) = @_;
    check_properties($style, { map { $_ => 1 } qw(bold italic strike code) }, 'style');
    refuse(400, 'invalid_blocks', 'style') if grep { !JSON::PP::is_bool($_) } values %$style;
    return;
}

sub check_text {
    my ($text, $most, @types) = @_;
    my $type = type_of($text);
    refuse(400, 'invalid_blocks', $type) if !grep { $_ eq $type } @types;
    my $option = $type eq 'plain_text' ? 'emoji' : 'verbatim';
    check_properties($text, { type => 1, text => 1, $option => 1 }, $type);
    refuse(400, 'invalid_blocks', $option) if exists $text->{$option} && !JSON::PP::is_bool($text->{$option});
    refuse(400, 'invalid_blocks', "$type too long") if !is_filled($text->{text}) || length $text->{text} > $most;
    refuse(400, 'invalid_blocks', 'not escaped') if $type eq 'mrkdwn' && !is_escaped($text->{text});
    return;
}

sub is_escaped {
    my ($text) = @_;
    return $text !~ /[<>]|&(?!amp;|lt;|gt;)/;
}

sub is_filled {
    my ($text) = @_;
    return MailSendRules::is_string($text) && $text ne '';
}

sub type_of {
    my ($object) = @_;
    refuse(400, 'invalid_blocks', 'not an object') if ref $object ne 'HASH';
    refuse(400, 'invalid_blocks', 'no type') if !is_filled($object->{type});
    return $object->{type};
}

sub list {
    my ($value, $where) = @_;
    refuse(400, 'invalid_blocks', $where) if ref $value ne 'ARRAY' || !@$value;
    return $value;
}

sub check_properties {
    my ($object, $known, $where) = @_;
    refuse(400, 'invalid_blocks', $where) if ref $object ne 'HASH';
    my @unknown = grep { !$known->{$_} } sort keys %$object;
    refuse(400, 'invalid_blocks', "unknown property $unknown[0]") if @unknown;
    return;
}

1;
