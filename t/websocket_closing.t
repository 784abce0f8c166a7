# A client's close frame is answered and ends the connection, and its subscriber is no longer counted by then.
#
# Proves protocol.md: closing, frames-from-the-client (close, reserved opcodes).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /ws    {
            push_stream_subscriber websocket;
            push_stream_websocket_allow_publish on;
            push_stream_footer_template FOOT;
        }
        location /stats { push_stream_channels_statistics; }
    }
EOC
*close_hex = \&Test::Nginx::PushStream::WebSocket::close_hex;
my $mask = "\x11\x22\x33\x44";

# What the client sends, what comes back before the end.
sub closes {
    my ($opcode, $payload, $answer, $what) = @_;
    for my $m (undef, $mask) {
        my $ws = $t->websocket('/ws?id=a');
        is($t->stats->{subscribers}, 1, "$what: counted");
        $ws->send_frame($opcode, $payload, mask => $m);
        is($ws->raw, $answer, "$what: answer");
        is($t->stats->{subscribers}, 0, "$what: not counted when it can be read");
        is($t->stats('/stats?id=a')->{subscribers}, 0, "$what: nor in the channel");
        is($ws->rest(2), '', "$what: then the connection ends");
    }
    return;
}

closes(8, '', '8800', 'empty close');
closes(8, pack('n', $_), close_hex($_), "close with $_") for 1000, 1001, 1011, 3000, 4999;
closes(8, pack('n', 1000) . 'good bye', close_hex(1000), 'close with a reason');
closes(8, pack('n', 1001) . "\xc3\xa9" x 61, close_hex(1001), 'close with the longest reason');
closes(8, 'x', close_hex(1002), 'close with half a code');
closes(8, pack('n', $_), close_hex(1002), "close with $_, which is not for the wire")
    for 0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535;
closes(8, pack('n', 1000) . "\xff", close_hex(1007), 'close with a reason that is no text');
closes(2, 'binary', '8800', 'binary message');
closes($_, 'x', '8800', "opcode $_") for 3, 7, 11, 15;

# a client that just leaves
my $ws = $t->websocket('/ws?id=b');
$ws->close;
$t->wait_subscribers('/stats?id=b', 0);
$ws = $t->websocket('/ws?id=b');
$ws->client->abort;
$t->wait_subscribers('/stats?id=b', 0);
$ws = $t->websocket('/ws?id=b');
$ws->client->half_close;
is($ws->rest(2), '', 'half of a connection is none');
$t->wait_subscribers('/stats?id=b', 0);

is($t->stats('/stats?id=a')->{published_messages}, 0, 'nothing was published');
$t->done();
