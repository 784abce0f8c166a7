# Text that is not UTF-8 is not published: 1007 at the first wrong byte. Other payloads may be any bytes.
#
# Proves protocol.md: frames-from-the-client (1007).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /ws    { push_stream_subscriber websocket; push_stream_websocket_allow_publish on; }
        location /mute  { push_stream_subscriber websocket; }
        location /stats { push_stream_channels_statistics; }
    }
EOC
*close_hex = \&Test::Nginx::PushStream::WebSocket::close_hex;
*frame = \&Test::Nginx::PushStream::WebSocket::frame_bytes;
my $mask = "\x11\x22\x33\x44";

my %good = (
    'two, three and four bytes'  => "\xc3\xa9 \xe2\x88\x91 \xf0\x9d\x84\x9e",
    'the last before surrogates' => "\xed\x9f\xbf",
    'the first after surrogates' => "\xee\x80\x80",
    'the last of all'            => "\xf4\x8f\xbf\xbf",
    'a NUL'                      => "a\0b",
    'a non-character'            => "\xef\xbf\xbf",
);
my $ws = $t->websocket('/ws?id=good');
for my $what (sort keys %good) {
    $ws->send_text($good{$what});
    is($ws->text, $good{$what}, $what);
    # each byte a fragment
    my @bytes = split //, $good{$what};
    $ws->send_frame($_ == 0 ? 1 : 0, $bytes[$_], fin => $_ == $#bytes, mask => $mask) for 0 .. $#bytes;
    is($ws->text, $good{$what}, "$what, each byte a fragment");
}

my %bad = (
    'a lone byte'                => "\xff",
    'a continuation byte'        => "ok\x80",
    'the end is missing'         => "ok\xc3",
    'two of three bytes'         => "ok\xe2\x88",
    'overlong, two bytes'        => "\xc0\xaf",
    'overlong, three bytes'      => "\xe0\x80\xaf",
    'overlong, four bytes'       => "\xf0\x80\x80\xaf",
    'a surrogate'                => "\xed\xa0\x80",
    'above the range'            => "\xf4\x90\x80\x80",
    'five bytes'                 => "\xf8\x88\x80\x80\x80",
);
for my $uri (qw(/ws?id=bad /mute?id=bad)) {
    for my $what (sort keys %bad) {
        my $ws = $t->websocket($uri);
        $ws->send_text($bad{$what});
        is($ws->rest(2), close_hex(1007), "$uri $what");
    }
    my $ws = $t->websocket($uri);
    $ws->send_raw(frame(1, "ok\xc3", fin => 0) . frame(0, '(', fin => 1));
    is($ws->rest(2), close_hex(1007), "$uri over two fragments");
    $ws = $t->websocket($uri);
    $ws->send_raw(substr frame(1, "bad \xff" . 'x' x 1000, mask => $mask), 0, 20);
    is($ws->rest(2), close_hex(1007), "$uri the rest need not come");
}
is($t->stats('/stats?id=bad')->{published_messages}, 0, 'nothing of this was published');
is($t->stats->{subscribers}, 1, 'and nobody is left');

$ws->send_frame(9, "\xff\xfe", mask => $mask);
is($ws->raw, '8a02fffe', 'a ping may have any bytes');

$t->done();
