package Test::Nginx::PushStream::WebSocket;

# The client's end of a WebSocket (RFC 6455). It can send wrong frames as well as right ones.

use strict;
use warnings;

use Digest::SHA qw(sha1_base64);

# exchange: the upgrade request and its answer; key: the Sec-WebSocket-Key of the request.
sub new {
    my ($class, %o) = @_;
    return bless { exchange => $o{exchange}, client => $o{exchange}->client, key => $o{key} }, $class;
}

sub exchange { return $_[0]{exchange} }
sub client   { return $_[0]{client} }
sub status   { return $_[0]{exchange}->status }
sub header   { my ($self, @rest) = @_; return $self->{exchange}->header(@rest) }
sub closed   { my ($self, @rest) = @_; return $self->{client}->wait_closed(@rest) }
sub close    { $_[0]{client}->close; return }

sub wait_subscribed { my ($self, @rest) = @_; $self->{exchange}->wait_head(@rest); return $self }

# The right Sec-WebSocket-Accept for our key.
sub expected_accept {
    my ($self) = @_;
    my $digest = sha1_base64($self->{key} . '258EAFA5-E914-47DA-95CA-C5AB0DC85B11');
    return $digest . '=' x (-length($digest) % 4);
}

# The bytes of one frame. fin, rsv, mask (4 bytes; absent: not masked), length_of (another length to announce).
sub frame_bytes {
    my ($opcode, $payload, %o) = @_;
    my $length = $o{length_of} // length $payload;
    my $masked = defined $o{mask} ? 0x80 : 0;
    my $bytes  = pack 'C', (($o{fin} // 1) ? 0x80 : 0) | (($o{rsv} // 0) << 4) | $opcode;
    $bytes .= $length <= 125   ? pack('C',  $masked | $length)
            : $length <= 65535 ? pack('Cn', $masked | 126, $length)
            :                    pack('CQ>', $masked | 127, $length);
    return $bytes . $payload unless $masked;
    my $pad = $o{mask} x (1 + length($payload) / 4);
    return $bytes . $o{mask} . ($payload ^ substr $pad, 0, length $payload);
}

sub send_frame { my ($self, @rest) = @_; $self->{client}->send(frame_bytes(@rest)); return $self }
sub send_raw   { my ($self, $bytes) = @_; $self->{client}->send($bytes); return $self }

# A text frame, masked as browsers do it unless `mask => undef` is given.
sub send_text {
    my ($self, $text, %o) = @_;
    return $self->send_frame(1, $text, mask => "\x11\x22\x33\x44", %o);
}

# The next frame: { fin, rsv, opcode, masked, payload, raw }; undef if the connection ends or the
# time is over.
sub frame {
    my ($self, $seconds) = @_;
    return unless ($self->status // 0) == 101;
    my $c = $self->{client};
    my $frame;
    $c->until(sub { ($frame = _parse($c)) || $c->{eof} }, 'a frame', $seconds);
    return $frame;
}

# Payload of the next frame if it is text.
sub text {
    my ($self, $seconds) = @_;
    my $frame = $self->frame($seconds);
    return $frame && $frame->{opcode} == 1 ? $frame->{payload} : undef;
}

# The bytes of the next frame, in hexadecimal; '' if there is none.
sub raw {
    my ($self, $seconds) = @_;
    my $frame = $self->frame($seconds);
    return $frame ? unpack('H*', $frame->{raw}) : '';
}

# All bytes until the server ends the connection, in hexadecimal; undef if it does not end it.
sub rest {
    my ($self, $seconds) = @_;
    my $bytes = $self->{client}->take('eof', $seconds);
    return defined $bytes ? unpack('H*', $bytes) : undef;
}

# A close frame in the form of `raw` and `rest`: with a code and a reason, or empty.
sub close_hex {
    my ($code, $reason) = @_;
    my $payload = defined $code ? pack('n', $code) . ($reason // '') : '';
    return unpack 'H*', pack('CC', 0x88, length $payload) . $payload;
}

sub _parse {
    my ($c) = @_;
    return if length $c->{in} < 2;
    my ($b0, $b1) = unpack 'CC', $c->{in};
    my ($length, $at) = ($b1 & 0x7f, 2);
    if    ($length == 126) { return if length $c->{in} < 4;  $length = unpack 'x2n',  $c->{in}; $at = 4 }
    elsif ($length == 127) { return if length $c->{in} < 10; $length = unpack 'x2Q>', $c->{in}; $at = 10 }
    $at += 4 if $b1 & 0x80;
    return if length $c->{in} < $at + $length;
    my $raw = substr $c->{in}, 0, $at + $length, '';
    return {
        fin => $b0 >> 7, rsv => ($b0 >> 4) & 7, opcode => $b0 & 15, masked => $b1 >> 7,
        payload => substr($raw, $at), raw => $raw,
    };
}

1;
