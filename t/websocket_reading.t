# Client frames may come in any split: byte by byte, several in one segment, or with the handshake.
#
# Proves protocol.md: frames-from-the-client, handshake (bytes that come with the request).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 4m;
    push_stream_channels_path $arg_id;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /hello { return 200 hello; }
        location /echo  { push_stream_subscriber websocket; push_stream_websocket_allow_publish on; push_stream_message_template "~id~:~text~"; }
    }
EOC
*frame = \&Test::Nginx::PushStream::WebSocket::frame_bytes;
my $mask = "\x11\x22\x33\x44";

# the example of the manual, masked and unmasked
my $ws = $t->websocket('/echo?id=a');
$ws->send_raw("\x81\x83\x11\x22\x33\x44\x5e\x4e\x52");
is($ws->text, '1:Ola', 'masked');
$ws->send_raw("\x81\x03Ola");
is($ws->text, '2:Ola', 'unmasked');

# has nginx taken all we sent from its socket?
sub taken {
    my ($ws) = @_;
    my $pair = sprintf ':%04X [0-9A-F]+:%04X ', $ws->client->{port}, $ws->client->local_port;
    open my $file, '<', '/proc/net/tcp' or die $!;
    while (<$file>) { return (split /:/, (split)[4])[1] eq '00000000' if /$pair/ }
    return 1;
}

# byte by byte, each one read by nginx alone
my @slow = ([ 'Ola', $mask ], [ 'x' x 60, undef ], [ 'y' x 126, $mask ]);
for my $i (0 .. $#slow) {
    my ($text, $m) = @{ $slow[$i] };
    for my $byte (split //, frame(1, $text, mask => $m)) {
        $ws->send_raw($byte);
        $t->wait_for(sub { taken($ws) }, 'a byte to be read');
    }
    is($ws->text, $i + 3 . ":$text", 'byte by byte');
}

# several in one segment, whole ones and the beginning of the next
$ws->send_raw(frame(1, 'one', mask => $mask) . frame(9, 'p', mask => $mask) . frame(1, 'two') . "\x81");
my @came = map { $ws->frame } 1 .. 3;
is(join(' ', sort map { "$_->{opcode} $_->{payload}" } @came), '1 6:one 1 7:two 10 p', 'all frames of a segment are answered');
$ws->send_raw("\x05three");
is($ws->text, '8:three', 'the rest of a frame');

# together with the handshake: whole frames, and the beginning of another one
my $c = $t->client;
$c->send("GET /echo?id=h HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    . "Sec-WebSocket-Key: YnJpZ2h0LWtleS0wMDAwMQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    . frame(1, 'early', mask => $mask) . frame(1, 'bird') . "\x81\x84$mask");
like($c->take(qr/\r\n\r\n/), qr/\AHTTP\/1.1 101 /, 'handshake');
is($c->take(9), "\x81\x071:early", 'a frame that came with it');
is($c->take(8), "\x81\x062:bird", 'and the next one');
$c->send("last" ^ $mask);
is($c->take(8), "\x81\x063:last", 'and the one of which the beginning came with it');
$c->send("\x88\x00");
is($c->take('eof'), "\x88\x00", 'nothing came twice');

# with the end of the connection behind them
$c = $t->client;
$c->send("GET /echo?id=e HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    . "Sec-WebSocket-Key: YnJpZ2h0LWtleS0wMDAwMQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    . frame(1, 'early', mask => $mask) . frame(8, ''));
$c->half_close;
like($c->take('eof'), qr/\r\n\r\n(?:\x81\x071:early)?\x88\x00\z/, 'handshake, message and close in one piece');

# behind a request header that needs large buffers, on a connection that has been used before
$c = $t->client;
is($t->get('/hello', client => $c)->body, 'hello', 'a request before');
$c->send("GET /echo?id=l HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nCookie: " . 'c' x 6000
    . "\r\nSec-WebSocket-Key: YnJpZ2h0LWtleS0wMDAwMQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    . frame(1, 'first', mask => $mask) . frame(1, 'second') . frame(8, ''));
like($c->take('eof'), qr/\r\n\r\n\x81\x071:first\x81\x082:second\x88\x00\z/, 'frames behind a long header');

# many small ones: all are answered, in order
$ws = $t->websocket('/echo?id=m');
$ws->send_raw(join '', map { frame(1, "m$_", mask => $mask) } 1 .. 5000);
my $wrong = grep { ($ws->text // 'nothing') ne "$_:m$_" } 1 .. 5000;
is($wrong, 0, '5000 frames at once');

$t->done();
