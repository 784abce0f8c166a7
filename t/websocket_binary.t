# Binary messages close the connection, unless the location takes them; then they stay binary.
#
# Proves protocol.md: frames-from-the-client, frames-from-the-server; directives.md:
# push_stream_websocket_binary.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; push_stream_store_messages on; }
        location /off   { push_stream_subscriber websocket; push_stream_websocket_allow_publish on; }
        location /on    {
            push_stream_subscriber websocket;
            push_stream_websocket_allow_publish on;
            push_stream_websocket_binary on;
            push_stream_store_messages on;
        }
        location /mute  { push_stream_subscriber websocket; push_stream_websocket_binary on; }
        location /sub   { push_stream_subscriber; push_stream_message_template "<~text~>"; }
        location /stats { push_stream_channels_statistics; }
    }
EOC
my $mask = "\x11\x22\x33\x44";
my $bytes = "\xff\0\xfe";

# off
my $ws = $t->websocket('/off?id=a');
$ws->send_frame(2, $bytes, mask => $mask);
is($ws->rest, '8800', 'off: the connection ends');
is($t->stats('/stats?id=a')->{published_messages}, 0, 'nothing is published');

# on
$ws = $t->websocket('/on?id=a');
my $old = $t->websocket('/mute?id=a');
my $sub = $t->subscribe('/sub?id=a');
$ws->send_frame(2, $bytes, mask => $mask);
is($ws->raw, '8203ff00fe', 'on: published as it is, as a binary frame');
is($old->raw, '8203ff00fe', 'also to others');
is($sub->next_chunk, "<$bytes>", 'and to streams, where it makes no difference');
$ws->send_frame(2, "\xff", fin => 0)->send_frame(0, "\xfe");
is($ws->raw, '8202fffe', 'fragments are joined');
$ws->send_text('text');
is($ws->raw, '810474657874', 'text stays text');
is($t->websocket('/on?id=a.b3')->raw, '8203ff00fe', 'and binary stays binary in the backlog');

# where it is off, what others published as binary is text, as all messages are there
$t->publish('/pub?id=b', $bytes);
my $late = $t->websocket('/on?id=b.b1');
is($late->raw, '8103ff00fe', 'what came over HTTP is text');

# empty messages, and what is neither
$ws = $t->websocket('/on?id=e');
$ws->send_frame(2, '')->send_text('');
is($ws->raw, '8200', 'an empty binary message is a message');
is($ws->raw, '8100', 'and so is an empty text');
$ws->send_frame(3, '');
is($ws->rest, '880203ea', 'a reserved opcode is an error');

# not published where publishing is off
$old->raw, $old->raw;
$old->send_frame(2, $bytes, mask => $mask)->send_frame(9, 'p', mask => $mask);
is($old->raw, '8a0170', 'read and ignored');

$t->done();
