# WebSockets work over TLS: large messages, slow readers, pings, publishing, the orderly end.
#
# Proves protocol.md: frames-from-the-server, frames-from-the-client, closing, slow-readers.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

plan(skip_all => 'no IO::Socket::SSL') unless eval { require IO::Socket::SSL; 1 };
plan(skip_all => 'nginx without TLS') unless Test::Nginx::PushStream->has_feature('http_ssl_module');

my $t = Test::Nginx::PushStream->new->http(<<'EOC');
    push_stream_shared_memory_size 16m;
    push_stream_channels_path $arg_id;
    client_max_body_size 8m;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; push_stream_store_messages on; }
        location /stats { push_stream_channels_statistics; }
    }
    server {
        listen 127.0.0.1:%%PORT_8443%% ssl;
        ssl_certificate     %%TESTDIR%%/cert.pem;
        ssl_certificate_key %%TESTDIR%%/key.pem;
        location /ws    {
            push_stream_subscriber websocket;
            push_stream_websocket_allow_publish on;
            push_stream_header_template HEAD;
            push_stream_footer_template FOOT;
            push_stream_subscriber_max_buffered 16m;
        }
        location /bound { push_stream_subscriber websocket; push_stream_subscriber_max_buffered 100k; }
    }
EOC
my $dir = $t->dir;
system("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout $dir/key.pem -out $dir/cert.pem >$dir/openssl.log 2>&1") == 0
    or plan(skip_all => 'no openssl');
$t->run();
my %wss = (port => 8443, tls => 1);
my $mask = "\x11\x22\x33\x44";

my $ws = $t->websocket('/ws?id=a', %wss);
is($ws->status, 101, 'handshake');
is($ws->text, 'HEAD', 'header');
$ws->send_text('Ola');
is($ws->text, 'Ola', 'publishing');
$ws->send_frame(9, 'p', mask => $mask);
is($ws->raw, '8a0170', 'a ping');
$ws->send_frame(1, 'in ', fin => 0, mask => $mask)->send_frame(0, 'parts', mask => $mask);
is($ws->text, 'in parts', 'fragments');
my $big = 'abcdefgh' x (1 << 18);
$ws->send_text($big);
ok($ws->text eq $big, '2 MiB there and back');

# frames in the same record as the handshake
my $c = $t->client(%wss);
$c->send("GET /ws?id=e HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    . "Sec-WebSocket-Key: YnJpZ2h0LWtleS0wMDAwMQ==\r\nSec-WebSocket-Version: 13\r\n\r\n\x81\x05early\x89\x00");
my $all = $c->take(qr/\r\n\r\n\x81\x04HEAD(?:\x81\x05early\x8a\x00|\x8a\x00\x81\x05early)/);
ok(defined $all, 'bytes that came with the handshake');

# a reader that stops and goes on gets every byte
my $slow = $t->websocket('/ws?id=s', %wss, rcvbuf => 4096);
$slow->client->pause;
$t->publish('/pub?id=s', chr(ord('a') + $_) x 100_000) for 0 .. 19;
$slow->client->resume;
is($slow->text, 'HEAD', 'a slow reader');
my $wrong = grep { ($slow->text(20) // '') ne chr(ord('a') + $_) x 100_000 } 0 .. 19;
is($wrong, 0, 'gets every byte in order');

# above its bound it is told, behind a whole frame
my $bound = $t->websocket('/bound?id=b', %wss, rcvbuf => 4096);
$bound->client->pause;
$t->wait_for(sub { $t->publish('/pub?id=b', 'x' x 50_000); $t->stats('/stats?id=b')->{subscribers} == 0 }, 'it to be dropped', 30);
$bound->client->resume;
my ($n, $last) = (0);
$n++ while ($last = $bound->frame(10)) && $last->{opcode} == 1 && length $last->{payload} == 50_000;
is($last && unpack('H*', $last->{raw}), '880203f5', "1013 behind $n whole frames");

# the end
$ws->send_frame(8, "\x03\xe8", mask => $mask);
is($ws->rest(3), '880203e8', 'closing');
ok($t->reload(wait_old => 1), 'reload');
is($slow->rest(3), '8104464f4f548800', 'goodbye');

$t->done();
