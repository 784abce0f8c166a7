# A client's message may have megabytes, but not more than the limit, and costs only what has arrived of it.
#
# Proves protocol.md: frames-from-the-client (1009); directives.md: push_stream_websocket_max_message_size.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 15m;
    push_stream_channels_path $arg_id;
    push_stream_subscriber_max_buffered 16m;
    client_max_body_size 1k;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /one   { push_stream_subscriber websocket; push_stream_websocket_allow_publish on; push_stream_store_messages on; push_stream_message_template "~id~:~text~"; }
        location /two   { push_stream_subscriber websocket; push_stream_message_template "~text~"; }
        location /sub   { push_stream_subscriber; push_stream_message_template "|~text~|"; }
        location /limit { push_stream_subscriber websocket; push_stream_websocket_allow_publish on; push_stream_websocket_max_message_size 1k; }
        location /mute  { push_stream_subscriber websocket; }
        location /stats { push_stream_channels_statistics; }
    }
EOC
*close_hex = \&Test::Nginx::PushStream::WebSocket::close_hex;
my $mask = "\x11\x22\x33\x44";

# 4 MiB, live and from the backlog, to both kinds of subscriber
my $big = 'abcdefgh' x (4 << 17);
my $one = $t->websocket('/one?id=big');
my $two = $t->websocket('/two?id=big');
my $sub = $t->subscribe('/sub?id=big');
$one->send_text($big);
ok($one->text eq "1:$big", '4 MiB come back');
ok($two->text eq $big, 'and to another WebSocket');
ok($sub->read_until(qr/\|\z/) eq "|$big|", 'and to a stream') or diag length $sub->so_far;
ok($t->websocket('/two?id=big.b1')->text eq $big, 'and from the backlog');
ok($t->subscribe('/sub?id=big.b1')->read_until(qr/\|\z/) eq "|$big|", 'also to a stream');

# the limit, exactly
my $ws = $t->websocket('/limit?id=l');
$ws->send_text('x' x 1024);
is($ws->text, 'x' x 1024, 'as long as the limit');
$ws->send_frame(1, 'x' x 600, fin => 0, mask => $mask)->send_frame(0, 'y' x 424, mask => $mask);
is($ws->text, 'x' x 600 . 'y' x 424, 'as long as the limit, in fragments');
$ws->send_frame(1, 'x' x 1024, fin => 0, mask => $mask)->send_frame(9, 'p' x 125, mask => $mask)->send_frame(0, '', mask => $mask);
is($ws->frame->{opcode}, 10, 'a control frame does not count');
is($ws->text, 'x' x 1024, 'nor does an empty fragment');
$ws->send_text('x' x 1025);
is($ws->rest(2), close_hex(1009), 'a byte more');
$ws = $t->websocket('/limit?id=l');
$ws->send_frame(1, 'x' x 600, fin => 0, mask => $mask)->send_frame(0, 'y' x 425, mask => $mask);
is($ws->rest(2), close_hex(1009), 'a byte more, in fragments');

# a length that is announced costs nothing and is refused at once
my @pids = $t->worker_pids;

sub kilobytes {
    my $sum = 0;
    for my $pid (@pids) {
        open my $file, '<', "/proc/$pid/status" or die $!;
        while (my $line = <$file>) { $sum += $1 if $line =~ /\AVmData:\s+(\d+)/ }
    }
    return $sum;
}

my $before = kilobytes();
for my $length (1025, (16 << 20) + 1, 1 << 32, 1 << 62) {
    for my $uri (qw(/limit?id=l /one?id=l /mute?id=l)) {
        next if $length == 1025 && $uri !~ /limit/;
        my $ws = $t->websocket($uri);
        $ws->send_raw("\x81\x7f" . pack('Q>', $length) . 'abc');
        is($ws->rest(2), close_hex(1009), "$uri: $length announced");
    }
}
$ws = $t->websocket('/one?id=l');
$ws->send_raw("\x81\x7f" . pack('Q>', ~0));
is($ws->rest(2), close_hex(1002), 'a length with 64 bits');

# 100 clients that announce 16 MiB each and send next to nothing
my @waiting = map { $t->websocket('/one?id=w')->send_raw("\x89\x00\x81\x7f" . pack('Q>', 16 << 20) . 'abc') } 1 .. 100;
is(scalar(grep { $_->raw eq '8a00' } @waiting), 100, 'a hundred clients announce 16 MiB each');
my $after = kilobytes();
cmp_ok($after - $before, '<', 64 << 10, 'and that takes no memory') or diag "$before, then $after";
$_->close for @waiting;

# where publishing is off, messages are read and forgotten
$ws = $t->websocket('/mute?id=m');
$ws->send_frame(1, 'x' x (8 << 20), mask => $mask)->send_frame(9, 'alive', mask => $mask);
is($ws->raw, '8a05' . unpack('H*', 'alive'), '8 MiB where nobody listens');
is($t->stats('/stats?id=m')->{published_messages}, 0, 'nothing is published');

$t->done();
