# A WebSocket that is too slow for its bound gets 1013 behind whole frames; a client that floods is bounded
# too.
#
# Proves protocol.md: slow-readers, closing (1013); promises.md: slow-and-hostile-clients.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 8m;
    push_stream_channels_path $arg_id;
    client_max_body_size 1m;
    server {
        listen 127.0.0.1:%%PORT_8080%% sndbuf=32k;
        location /pub   { push_stream_publisher; push_stream_store_messages on; }
        location /ws    { push_stream_subscriber websocket; push_stream_subscriber_max_buffered 100k; push_stream_message_template "~id~:~text~"; }
        location /echo  { push_stream_subscriber websocket; push_stream_websocket_allow_publish on; push_stream_subscriber_max_buffered 100k; }
        location /stats { push_stream_channels_statistics; }
    }
EOC
my ($here, $there) = $t->worker_pids;

# two that stop reading, in both workers, and one that does not
my @slow = map { $t->websocket('/ws?id=a', rcvbuf => 4096, worker => $_) } $here, $there;
$_->client->pause for @slow;
my $quick = $t->websocket('/ws?id=a');
my $sent = 0;
my $got = 0;
$t->wait_for(sub {
    $t->publish('/pub?id=a', 'x' x 9000);
    $sent++;
    $got++ if ($quick->text // '') eq "$sent:" . 'x' x 9000;
    return $t->stats('/stats?id=a')->{subscribers} == 1;
}, 'slow readers to be dropped', 30);
is($got, $sent, 'the quick one gets all');
ok($t->wait_log(qr/\[warn\].*push stream: .*subscribers? (?:was|were) disconnected, being too slow/), 'the log says it');
for my $slow (@slow) {
    $slow->client->resume;
    my ($n, $wrong, $last) = (0, 0);
    while ($last = $slow->frame(5)) {
        last if $last->{opcode} != 1;
        $wrong++ if $last->{payload} ne ++$n . ':' . 'x' x 9000;
    }
    is($wrong, 0, "a slow one gets the first $n of $sent, whole");
    is($last && unpack('H*', $last->{raw}), '880203f5', 'and then the reason');
    is($slow->rest(5), '', 'and the end');
}

# messages larger than what the socket takes, cut at a frame's end
my $large = $t->websocket('/ws?id=l', rcvbuf => 4096);
$large->client->pause;
$t->wait_for(sub { $t->publish('/pub?id=l', 'y' x 300_000); $t->stats('/stats?id=l')->{subscribers} == 0 }, 'it to be dropped', 30);
$large->client->resume;
my $frame = $large->frame(5);
is(length $frame->{payload}, 300_002, 'the frame that was begun is finished');
is($large->rest(5), '880203f5', 'none is begun after it');

# a client that pings and does not read is not read from either, and hurts nobody
my $flood = $t->websocket('/echo?id=f', rcvbuf => 4096, worker => $here);
$flood->client->pause;
$flood->send_raw(Test::Nginx::PushStream::WebSocket::frame_bytes(9, 'p' x 125, mask => 'mmmm') x 100_000);
my $other = $t->websocket('/echo?id=o', worker => $here);
for my $n (1 .. 20) {
    $other->send_text("m$n");
    is($other->text(5), "m$n", 'others are served meanwhile');
}
ok($flood->client->{out} ne '', 'nginx has stopped reading');
$flood->client->resume;
my $pongs = 0;
$pongs++ while $pongs < 100_000 && ($flood->frame(5) // { opcode => 0 })->{opcode} == 10;
is($pongs, 100_000, 'every ping gets its pong when the client reads again');
$flood->send_text('still here');
is($flood->text, 'still here', 'and it goes on');

# one that publishes as fast as it can is one of many
my $loud = $t->websocket('/echo?id=loud', worker => $here);
$loud->send_raw(Test::Nginx::PushStream::WebSocket::frame_bytes(1, 'z', mask => 'mmmm') x 50_000);
for my $n (1 .. 20) {
    $other->send_text("n$n");
    is($other->text(5), "n$n", 'others are served meanwhile');
}
$t->wait_for(sub { $t->stats('/stats?id=loud')->{published_messages} == 50_000 }, 'all to be published', 30);
is($t->stats('/stats?id=loud')->{published_messages}, 50_000, 'and all it sends is published');

# a slow one that leaves is noticed although nobody reads from it
my $gone = $t->websocket('/echo?id=g', rcvbuf => 4096);
$gone->client->pause;
$gone->send_raw(Test::Nginx::PushStream::WebSocket::frame_bytes(9, 'p' x 125, mask => 'mmmm') x 20_000);
$t->wait_for(sub { $gone->client->{out} ne '' || $t->quiet_for($other, 0.05) }, 'the flood');
$gone->client->abort;
$t->wait_subscribers('/stats?id=g', 0);

$t->done();
