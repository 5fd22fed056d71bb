package MailSendRules;

# The checks of SendGrid before it answers 202. The stub applies these rules to every request, so that no test
# passes with a mail that the real service would refuse. They follow SendGrid's API reference and its list of
# errors by parameter.

use strict;
use warnings;

use Encode ();
use JSON::PP ();

use constant {
    MAX_BYTES       => 30 * 1024 * 1024,
    MAX_RECIPIENTS  => 1000,
    MAX_CUSTOM_ARGS => 10_000,
};

my %MAIL_PROPERTIES = map { $_ => 1 } qw(
  personalizations from reply_to reply_to_list subject content attachments template_id headers
  categories send_at batch_id asm ip_pool_name mail_settings tracking_settings);

my %PERSONALIZATION_PROPERTIES = map { $_ => 1 } qw(
  to cc bcc from subject headers substitutions dynamic_template_data custom_args send_at);

my %RESERVED_HEADERS = map { $_ => 1 } qw(
  x-sg-id x-sg-eid received dkim-signature content-type content-transfer-encoding to from subject
  reply-to cc bcc);

my $ADDRESS = qr/\A[A-Za-z0-9.!#\$%&'*+\/=?^_`{|}~-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+\z/;

# The service's answer to a request {line, fields => {name => [values]}, body}: a hash of status,
# message and field.
sub judge {
    my ($request) = @_;
    my $verdict = eval { mail($request) };
    return $verdict if $verdict;
    die $@ if ref $@ ne 'HASH';
    return $@;
}

sub refuse {
    my ($status, $message, $field) = @_;
    die { status => $status, message => $message, field => $field };
}

sub path {
    my ($request) = @_;
    return $request->{line} =~ /\A\S+ (\S+) HTTP\/1\.[01]\z/ ? $1 : '';
}

# ---------------------------------------------------------------- SendGrid

sub mail {
    my ($request) = @_;
    check_envelope($request);
    my $mail = decode($request->{body});
    check_properties($mail, \%MAIL_PROPERTIES, '');
    check_personalizations($mail);
    check_address($mail->{from}, 'from');
    check_subject($mail);
    check_content($mail->{content});
    check_headers($mail->{headers}, 'headers');
    check_categories($mail->{categories});
    check_switches($mail->{$_}, $_) for qw(tracking_settings mail_settings);
    return { status => 200, message => 'sandbox: valid, not queued' } if is_sandboxed($mail);
    return { status => 202, message => 'ok' };
}

# The checks of the request line, the headers and the size.
sub check_envelope {
    my ($request) = @_;
    my $fields = $request->{fields};
    refuse(404, 'not found') if path($request) ne '/v3/mail/send';
    refuse(405, 'method not allowed') if $request->{line} !~ /\APOST /;
    for my $name (qw(authorization content-type content-length host)) {
        refuse(400, "header $name must be given once") if @{ $fields->{$name} // [] } != 1;
    }
    refuse(401, 'The provided authorization grant is invalid, expired, or revoked')
      if $fields->{authorization}[0] !~ /\ABearer SG\.[A-Za-z0-9._-]+\z/;
    refuse(406, 'missing Accept header') if !$fields->{accept};
    refuse(415, 'Content-Type should be application/json')
      if $fields->{'content-type'}[0] !~ m{\Aapplication/json(?:\s*;\s*charset="?utf-8"?)?\z}i;
    refuse(415, 'Content-Encoding is not enabled for this account')
      if $fields->{'content-encoding'};
    refuse(413, 'The JSON payload you have included in your request is too large.')
      if length $request->{body} >= MAX_BYTES;
    return;
}

sub decode {
    my ($bytes) = @_;
    refuse(415, 'Invalid UTF8 in request')
      if !eval { Encode::decode('UTF-8', my $copy = $bytes, Encode::FB_CROAK); 1 };
    # allow_bignum: otherwise a number of more than 15 digits would pass for a string.
    my $mail = eval { JSON::PP->new->utf8->allow_bignum->decode($bytes) };
    refuse(400, 'Bad Request') if ref $mail ne 'HASH';
    return $mail;
}

sub check_personalizations {
    my ($mail) = @_;
    my $all = list($mail->{personalizations}, 'personalizations');
    refuse(400, 'at most 1000', 'personalizations') if @$all > 1000;
    my %seen;
    for my $i (0 .. $#$all) {
        my $where = "personalizations.$i";
        check_properties($all->[$i], \%PERSONALIZATION_PROPERTIES, $where);
        check_recipients($all->[$i], $where, \%seen);
        check_headers($all->[$i]{headers}, "$where.headers");
        check_custom_args($all->[$i], "$where.custom_args");
    }
    refuse(400, 'too many recipients', 'personalizations') if keys %seen > MAX_RECIPIENTS;
    return;
}

sub check_recipients {
    my ($personalization, $where, $seen) = @_;
    list($personalization->{to}, "$where.to");
    for my $kind (grep { exists $personalization->{$_} } qw(to cc bcc)) {
        for my $address (@{ list($personalization->{$kind}, "$where.$kind") }) {
            check_address($address, "$where.$kind");
            # They may in quotes, as SendGrid's own libraries send them.
            refuse(400, "names may not contain ';' or ','", "$where.$kind.name")
              if ($address->{name} // '') =~ /[;,]/ && $address->{name} !~ /\A"[^"]*"\z/;
            refuse(400, "You have included [$address->{email}] more than once", "$where.$kind")
              if $seen->{ lc $address->{email} }++;
        }
    }
    return;
}

sub check_address {
    my ($address, $where) = @_;
    check_properties($address, { email => 1, name => 1 }, $where);
    my $email = $address->{email};
    refuse(400, 'Does not contain a valid address.', "$where.email")
      if !is_string($email) || length $email > 320 || $email !~ $ADDRESS;
    refuse(400, 'The name must be one line of text', "$where.name")
      if exists $address->{name} && !is_line($address->{name});
    return;
}

sub check_subject {
    my ($mail) = @_;
    my @given = grep { exists $_->{subject} } $mail, @{ $mail->{personalizations} };
    refuse(400, 'The subject is required.', 'subject')
      if !exists $mail->{subject} && @given < @{ $mail->{personalizations} };
    for my $subject (map { $_->{subject} } @given) {
        refuse(400, 'The subject must be one line of text', 'subject')
          if !is_line($subject) || $subject eq '';
    }
    return;
}

sub check_content {
    my ($content) = @_;
    my %rank = ('text/plain' => 0, 'text/html' => 1);
    my $last = 0;
    for my $part (@{ list($content, 'content') }) {
        check_properties($part, { type => 1, value => 1 }, 'content');
        for my $name (qw(type value)) {
            refuse(400, 'must be a string of at least one character', "content.$name")
              if !is_string($part->{$name}) || $part->{$name} eq '';
        }
        refuse(400, "may not contain ';', ',' or line ends", 'content.type')
          if $part->{type} =~ /[;,\r\n]/;
        my $rank = $rank{ $part->{type} } // 2;
        refuse(400, 'text/plain must be first, then text/html, then others', 'content')
          if $rank < $last;
        $last = $rank;
    }
    # SendGrid accepts a mail with HTML only; this product promises a text part.
    refuse(400, 'text/plain is missing', 'content') if $content->[0]{type} ne 'text/plain';
    return;
}

sub check_headers {
    my ($headers, $where) = @_;
    return if !defined $headers;
    refuse(400, 'must be an object', $where) if ref $headers ne 'HASH';
    my %seen;
    for my $name (sort keys %$headers) {
        refuse(400, "bad header name $name", $where) if $name !~ /\A[\x21-\x39\x3b-\x7e]+\z/;
        refuse(400, "header $name is reserved", $where) if $RESERVED_HEADERS{ lc $name };
        refuse(400, "header $name is there twice", $where) if $seen{ lc $name }++;
        refuse(400, "header $name must be a string of one line", $where)
          if !is_line($headers->{$name});
    }
    return;
}

sub check_custom_args {
    my ($personalization, $where) = @_;
    return if !exists $personalization->{custom_args};
    my $arguments = $personalization->{custom_args};
    refuse(400, 'must be an object with at least one entry', $where)
      if ref $arguments ne 'HASH' || !%$arguments;
    # SendGrid names neither the value nor the reason.
    refuse(400, 'Bad Request') if grep { !is_string($_) } values %$arguments;
    refuse(400, 'too long', $where)
      if length(JSON::PP->new->utf8->encode($arguments)) >= MAX_CUSTOM_ARGS;
    return;
}

sub check_categories {
    my ($categories) = @_;
    return if !defined $categories;
    my %seen;
    for my $category (@{ list($categories, 'categories') }) {
        refuse(400, 'must be an ASCII string of 1 to 255 characters', 'categories')
          if !is_string($category) || $category !~ /\A[\x20-\x7e]{1,255}\z/;
        refuse(400, 'must be unique', 'categories') if $seen{$category}++;
    }
    refuse(400, 'at most 10', 'categories') if keys %seen > 10;
    return;
}

# The settings are objects of objects, and switches must be real booleans.
sub check_switches {
    my ($settings, $where) = @_;
    return if !defined $settings;
    refuse(400, 'must be an object', $where) if ref $settings ne 'HASH';
    for my $name (sort keys %$settings) {
        refuse(400, 'must be an object', "$where.$name") if ref $settings->{$name} ne 'HASH';
        for my $switch (grep { /\Aenable/ } keys %{ $settings->{$name} }) {
            refuse(400, 'must be a boolean', "$where.$name.$switch")
              if !JSON::PP::is_bool($settings->{$name}{$switch});
        }
    }
    return;
}

sub is_sandboxed {
    my ($mail) = @_;
    return (($mail->{mail_settings} // {})->{sandbox_mode} // {})->{enable};
}

# ---------------------------------------------------------------- values

sub list {
    my ($value, $where) = @_;
    refuse(400, 'must be a list with at least one entry', $where)
      if ref $value ne 'ARRAY' || !@$value;
    return $value;
}

sub check_properties {
    my ($object, $known, $where) = @_;
    refuse(400, 'must be an object', $where) if ref $object ne 'HASH';
    for my $name (sort keys %$object) {
        refuse(400, "unknown property $name", $where) if !$known->{$name};
    }
    return;
}

# Perl hardly distinguishes 17 from "17", but the encoder does.
sub is_string {
    my ($value) = @_;
    return defined $value && !ref $value && JSON::PP->new->allow_nonref->encode($value) =~ /\A"/;
}

sub is_line {
    my ($value) = @_;
    return is_string($value) && $value !~ /[\r\n\0]/;
}

1;
