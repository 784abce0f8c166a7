# A WebSocket handshake is answered by exactly this header block, before anything else is checked.
#
# Proves protocol.md: handshake.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_allowed_origins "*";
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location ~ /ws/(.*) { push_stream_subscriber websocket; push_stream_channels_path $1; }
        location /stats     { push_stream_channels_statistics; }
    }
EOC

sub answer {
    my ($accept) = @_;
    return join "\r\n", 'HTTP/1.1 101 Switching Protocols', 'Expires: Thu, 01 Jan 1970 00:00:01 GMT',
        'Cache-Control: no-cache, no-store, must-revalidate', 'Upgrade: WebSocket',
        'Connection: Upgrade', "Sec-WebSocket-Accept: $accept", '', '';
}

# as the acceptance suite sends it: HTTP/1.0, no Host, and the header block is all there is to read
my $c = $t->client;
$c->send("GET /ws/a HTTP/1.0\r\nConnection: Upgrade\r\nSec-WebSocket-Key: YnJpZ2h0LWtleS0wMDAwMQ==\r\n"
    . "Upgrade: websocket\r\nSec-WebSocket-Version: 8\r\n\r\n");
is($c->take(qr/\r\n\r\n/), answer('6tNLj64yINBdUOBLM6ZPrS7akkE='), 'HTTP/1.0 without Host');
ok($t->quiet_for($c, 0.2), 'nothing follows when there is nothing to say');
$t->wait_subscribers('/stats', 1);

my $ws = $t->websocket('/ws/a', key => 'dGhlIHNhbXBsZSBub25jZQ==');
is($ws->exchange->head, answer('s3pPLMBiTxaQ9kYGzzhZRbK+xOo='), 'HTTP/1.1, the key of RFC 6455');
$t->wait_subscribers('/stats', 2);

# what clients write
my %fine = (
    'another case'       => [ Upgrade => 'WebSocket', Connection => 'UPGRADE' ],
    'lists'              => [ Upgrade => 'h2c, websocket', Connection => 'keep-alive, Upgrade' ],
    'lists without room' => [ Connection => 'keep-alive,upgrade' ],
    'version 8'          => [ 'Sec-WebSocket-Version' => 8 ],
    'an extension and a protocol, not taken' => [ 'Sec-WebSocket-Extensions' => 'permessage-deflate',
        'Sec-WebSocket-Protocol' => 'chat', Origin => 'http://example.org' ],
    'another mode'       => [ 'X-Nginx-PushStream-Mode' => 'long-polling' ],
);
for my $what (sort keys %fine) {
    my $ws = $t->websocket('/ws/a', @{ $fine{$what} });
    is($ws->exchange->head, answer($ws->expected_accept), $what);
    $ws->close;
}

# 101 comes before the path is looked at
is($t->websocket('/ws/')->status, 101, 'no channel: still 101');

# the connection is no HTTP connection any more
$c->send("\x88\x00");
is($c->take(2), "\x88\x00", 'a close frame is answered');
ok($c->wait_closed(2), 'and the connection ends');

$t->done();
