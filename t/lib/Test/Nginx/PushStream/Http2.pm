package Test::Nginx::PushStream::Http2;

# A small HTTP/2 client for tests that control the flow-control windows: frames in and out, one request
# after the other, header blocks without compression.
#
#   my $h2 = Test::Nginx::PushStream::Http2->new($client, window => 100);
#   my $id = $h2->request(GET => '/sub?id=a');
#   $h2->data($id, 10);     # waits until that many bytes of the body have come
#   $h2->widen($id, 500);   # lets that many more come

use strict;
use warnings;

my %TYPE = (DATA => 0, HEADERS => 1, RST_STREAM => 3, SETTINGS => 4, PING => 6, GOAWAY => 7, WINDOW_UPDATE => 8);
use constant { END_STREAM => 1, ACK => 1, END_HEADERS => 4, PADDED => 8 };

# client: a connected Client; window: bytes that each stream may send before it must wait.
sub new {
    my ($class, $client, %o) = @_;
    my $self = bless { client => $client, next => 1, body => {}, ended => {}, head => {}, reset => {} }, $class;
    $client->send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    $self->frame('SETTINGS', 0, 0, defined $o{window} ? pack('nN', 4, $o{window}) : '');
    return $self;
}

sub frame {
    my ($self, $type, $flags, $stream, $payload) = @_;
    $self->{client}->send(substr(pack('N', length $payload), 1) . pack('CCN', $TYPE{$type}, $flags, $stream) . $payload);
    return $self;
}

sub _literal {
    my ($name, $value) = @_;
    return "\x10" . join '', map { pack('C', length $_) . $_ } $name, $value;    # RFC 7541, 6.2.3
}

# Sends a request and returns its stream. A body, if given, is sent without a length.
sub request {
    my ($self, $method, $path, %o) = @_;
    my $id = $self->{next};
    $self->{next} += 2;
    my %headers = (%{ $o{headers} // {} });
    my $block = join '', map { _literal(@$_) } [':method', $method], [':path', $path], [':scheme', 'http'],
        [':authority', 'localhost'], map { [lc $_, $headers{$_}] } sort keys %headers;
    $self->frame('HEADERS', END_HEADERS | (defined $o{body} ? 0 : END_STREAM), $id, $block);
    if (defined $o{body}) {
        my @parts = unpack '(a16000)*', $o{body};
        $self->frame('DATA', 0, $id, $_) for @parts;
        $self->frame('DATA', END_STREAM, $id, '');
    }
    return $id;
}

# Lets the server send more: on one stream, or on the whole connection with stream 0.
sub widen { my ($self, $id, $more) = @_; return $self->frame('WINDOW_UPDATE', 0, $id, pack 'N', $more) }

sub reset { my ($self, $id) = @_; return $self->frame('RST_STREAM', 0, $id, pack 'N', 8) }

# Reads the frames that have arrived.
sub advance {
    my ($self) = @_;
    my $in = \$self->{client}{in};
    while (length $$in >= 9) {
        my $length = unpack 'N', "\0" . substr $$in, 0, 3;
        last if length $$in < 9 + $length;
        my ($type, $flags, $id) = unpack 'x3CCN', $$in;
        my $payload = substr $$in, 9, $length;
        substr $$in, 0, 9 + $length, '';
        if ($type == $TYPE{DATA}) {
            $self->{body}{$id} .= $payload;
            $self->frame('WINDOW_UPDATE', 0, 0, pack 'N', $length) if $length && !$self->{narrow};
        }
        $self->{head}{$id} = $payload if $type == $TYPE{HEADERS};
        $self->{ended}{$id} = 1 if $type <= $TYPE{HEADERS} && $flags & END_STREAM;
        $self->{reset}{$id} = unpack 'N', $payload if $type == $TYPE{RST_STREAM};
        $self->{goaway} = unpack 'x4N', $payload if $type == $TYPE{GOAWAY};
        $self->frame('SETTINGS', ACK, 0, '') if $type == $TYPE{SETTINGS} && !($flags & ACK);
        $self->frame('PING', ACK, 0, $payload) if $type == $TYPE{PING} && !($flags & ACK);
    }
    return $self;
}

sub until {
    my ($self, $condition, $what) = @_;
    return $self->{client}->until(sub { $self->advance; $condition->() }, $what);
}

# Is the status 200? (By its index in the static table of RFC 7541.)
sub is_ok {
    my ($self, $id) = @_;
    $self->until(sub { defined $self->{head}{$id} }, 'the head of a response');
    return ($self->{head}{$id} // '') =~ /\A[\x20-\x3f]?\x88/;
}

# The body of a stream, as soon as that many bytes of it, or a match, have come.
sub data {
    my ($self, $id, $want) = @_;
    $self->until(sub {
        my $body = $self->{body}{$id} // '';
        return ref $want ? $body =~ $want : length $body >= $want;
    }, 'data');
    return $self->{body}{$id} // '';
}

sub wait_ended { my ($self, $id) = @_; return $self->until(sub { $self->{ended}{$id} || $self->{client}->eof }, 'the end of a stream') }

sub ended { return $_[0]->advance->{ended}{ $_[1] } }

1;
