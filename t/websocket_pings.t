# Both sides may ping: the server answers as clients expect, and pings after a quiet interval itself.
#
# Proves protocol.md: pings, frames-from-the-client (ping, pong).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Time::HiRes qw(time);

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_ping_message_text "unused";
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; }
        location /ws    { push_stream_subscriber websocket; push_stream_header_template HEAD; }
        location /quick { push_stream_subscriber websocket; push_stream_ping_message_interval 1s; push_stream_message_template "~id~:~text~"; }
    }
EOC
my $mask = "\x11\x22\x33\x44";

# client's pings
my $ws = $t->websocket('/ws?id=a');
is($ws->text, 'HEAD', 'header');
$ws->send_frame(9, '');
is($ws->raw, '8a00', 'an unmasked ping');
$ws->send_frame(9, 'payload');
is($ws->raw, '8a00', 'its payload is not sent back');
$ws->send_frame(9, '', mask => $mask);
is($ws->raw, '8a00', 'a masked ping');
$ws->send_frame(9, 'payload', mask => $mask);
is($ws->raw, '8a07' . unpack('H*', 'payload'), 'its payload is');
$ws->send_frame(9, "\xff\0" x 62 . "\xff", mask => $mask);
is($ws->raw, '8a7d' . 'ff00' x 62 . 'ff', 'any bytes, up to 125');

# pongs are nothing
$ws->send_frame(10, 'whatever', mask => $mask)->send_frame(10, '')->send_frame(9, '1', mask => $mask);
is($ws->raw, '8a0131', 'pongs get no answer');

# server's pings
my $quick = $t->websocket('/quick?id=q');
my $from = time;
is($quick->raw, '8900', 'a ping after an interval');
my $took = time - $from;
ok($took > 0.7 && $took < 1.6, 'of a second') or diag $took;
$from = time;
is($quick->raw, '8900', 'and another one');
$took = time - $from;
ok($took > 0.7 && $took < 1.6, 'a second later') or diag $took;

# a live message starts the interval again
$t->wait_for(sub { time - $from > 1.6 }, 'most of an interval', 3);
$t->publish('/pub?id=q', 'Ola');
my $published = time;
is($quick->text, '1:Ola', 'a message');
is($quick->raw, '8900', 'and then a ping');
$took = time - $published;
ok($took > 0.7 && $took < 1.6, 'a second after the message') or diag $took;

# without an interval there are none
ok($t->quiet_for($ws, 0.3), 'no interval, no pings');
$t->done();
