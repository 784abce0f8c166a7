# In a full zone a WebSocket learns why it cannot subscribe or publish, and everything works again afterwards.
#
# Proves protocol.md: full-memory, closing (1011, 1008 without a text).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 256k;
    push_stream_channels_path $arg_id;
    client_max_body_size 1m;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher admin; push_stream_store_messages on; }
        location /ws    { push_stream_subscriber websocket; push_stream_websocket_allow_publish on; push_stream_store_messages on; }
        location /stats { push_stream_channels_statistics; }
    }
EOC
*close_hex = \&Test::Nginx::PushStream::WebSocket::close_hex;

my $ws = $t->websocket('/ws?id=a');
my $other = $t->websocket('/ws?id=a');
my $more = 1;
my $size = 64 << 10;
while ($size) {
    my $status = $t->post('/pub?id=fill', 'x' x $size)->status;
    $size = int($size / 2) if $status != 200;
}
$t->expect_log(qr/the zone is full/);

# publish
$ws->send_text('y' x 20_000);
is($ws->rest(2), close_hex(1011), 'a message that does not fit');
is($t->stats('/stats?id=a')->{subscribers}, 1, 'its sender is gone');
ok($t->wait_log(qr/push stream: the zone is full/), 'the log says why');

# subscribe: until no channel can be made
my $refused;
for my $i (1 .. 3000) {
    my $ws = $t->websocket("/ws?id=" . 'n' x 200 . $i);
    if ($ws->client->buffered ne '') { $refused = $ws; last }
    $ws->close;
}
SKIP: {
    skip 'the zone takes channels all the same', 1 unless $refused;
    is($refused->rest(2), close_hex(1008, '{"http_status": 500, "explain":""}'), 'a channel that does not fit');
}
my @lines = $t->log =~ /(the zone is full)/g;
cmp_ok(scalar @lines, '<', 20, 'not a line for each');

# room again
$t->delete('/pub?id=fill');
$t->wait_for(sub { $t->post('/pub?id=a', 'y' x 20_000)->status == 200 }, 'room', 30);
$other->frame;
$other->send_text('works');
is($other->text, 'works', 'and everything works');

$t->done();
