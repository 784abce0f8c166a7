# A message in fragments is joined; control frames may come between them; a wrong order is an error.
#
# Proves protocol.md: frames-from-the-client.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 4m;
    push_stream_channels_path $arg_id;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /echo  { push_stream_subscriber websocket; push_stream_websocket_allow_publish on; }
        location /stats { push_stream_channels_statistics; }
    }
EOC
*frame = \&Test::Nginx::PushStream::WebSocket::frame_bytes;
*close_hex = \&Test::Nginx::PushStream::WebSocket::close_hex;

for my $mask (undef, "\x11\x22\x33\x44") {
    my $name = $mask ? 'masked' : 'unmasked';
    my $ws = $t->websocket('/echo?id=a');
    my $fragment = sub { my ($opcode, $payload, $fin) = @_; return frame($opcode, $payload, fin => $fin, mask => $mask) };
    $ws->send_raw($fragment->(1, 'one ', 0) . $fragment->(0, 'two ', 0) . $fragment->(0, 'three', 1));
    is($ws->text, 'one two three', "$name: joined");
    $ws->send_raw($fragment->(1, 'all', 0) . $fragment->(0, '', 0) . $fragment->(0, '', 1));
    is($ws->text, 'all', "$name: an empty last fragment");
    $ws->send_raw($fragment->(1, '', 0) . $fragment->(0, 'end', 1));
    is($ws->text, 'end', "$name: an empty first fragment");
    $ws->send_raw($fragment->(1, '', 0) . $fragment->(0, '', 1) . $fragment->(1, '', 1) . $fragment->(1, 'next', 1));
    is($ws->text, 'next', "$name: empty messages are nothing");

    # control frames between
    $ws->send_raw($fragment->(1, 'a', 0) . $fragment->(9, 'ping', 1) . $fragment->(0, 'b', 0)
        . $fragment->(10, 'pong', 1) . $fragment->(0, 'c', 1));
    is($ws->raw, $mask ? '8a0470696e67' : '8a00', "$name: a ping between is answered at once");
    is($ws->text, 'abc', "$name: and does no harm");
    $ws->send_raw($fragment->(1, 'never', 0) . $fragment->(8, '', 1) . $fragment->(0, 'end', 1));
    is($ws->rest, '8800', "$name: a close between ends the connection");

    # a wrong order
    my %wrong = (
        'continuation without a start'       => $fragment->(0, 'x', 1),
        'continuation that goes on'          => $fragment->(0, 'x', 0),
        'continuation after the end'         => $fragment->(1, 'ok', 1) . $fragment->(0, 'x', 1),
        'text inside of a message'           => $fragment->(1, 'a', 0) . $fragment->(1, 'b', 1),
        'start inside of a message'          => $fragment->(1, 'a', 0) . $fragment->(1, 'b', 0),
        'fragmented ping'                    => $fragment->(9, '', 0),
        'fragmented close'                   => $fragment->(8, '', 0),
        'long ping'                          => $fragment->(9, 'x' x 126, 1),
        'long close'                         => $fragment->(8, 'x' x 126, 1),
        'first reserved bit'                 => frame(1, 'x', rsv => 4, mask => $mask),
        'second reserved bit'                => frame(1, 'x', rsv => 2, mask => $mask),
        'third reserved bit on a ping'       => frame(9, '', rsv => 1, mask => $mask),
    );
    for my $what (sort keys %wrong) {
        my $ws = $t->websocket('/echo?id=w');
        $ws->send_raw($wrong{$what} . $fragment->(1, 'never', 1));
        like($ws->rest, qr/\A(?:81026f6b)?@{[close_hex(1002)]}\z/, "$name: $what");
    }
}
is($t->stats('/stats?id=w')->{published_messages}, 2, 'nothing behind an error is published');
is($t->stats('/stats?id=a')->{published_messages}, 2 * 5, 'nor what was not complete');

$t->done();
