# A WebSocket that echoes behaves as RFC 6455 wants in all base cases of the well-known suite. The groups are
# its: 1 framing, 2 pings, 3 reserved bits, 4 opcodes, 5 fragments, 6 UTF-8, 7 closing, 9 limits, 10 automatic
# fragmentation. See also t/websocket_autobahn.t.
#
# Proves protocol.md: frames-from-the-client, frames-from-the-server, closing.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 128m;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /echo {
            push_stream_subscriber websocket;
            push_stream_channels_path $connection;
            push_stream_websocket_allow_publish on;
            push_stream_websocket_binary on;
            push_stream_message_template "~text~";
        }
    }
EOC
my $mask = "\x37\xfa\x21\x3d";

sub frame { my ($opcode, $payload, @rest) = @_; return Test::Nginx::PushStream::WebSocket::frame_bytes($opcode, $payload, mask => $mask, @rest) }
sub part  { my ($opcode, $payload) = @_; return frame($opcode, $payload, fin => 0) }
sub closing { my ($code, $reason) = @_; return frame(8, defined $code ? pack('n', $code) . ($reason // '') : '') }

# Sends the bytes, in pieces of so many bytes if given, and then compares every frame that comes until
# the connection ends: [opcode, payload], ... A case that is not closed by its bytes is closed with 1000.
sub check {
    my ($what, $bytes, $expected, %o) = @_;
    my @closed = grep { $_->[0] == 8 } @$expected;
    if (!@closed) { $bytes .= closing(1000); $expected = [ @$expected, [ 8, pack 'n', 1000 ] ] }
    my $ws = $t->websocket('/echo');
    my $piece = $o{piece} || length $bytes;
    for (my $at = 0; $at < length $bytes; $at += $piece) {
        $ws->send_raw(substr $bytes, $at, $piece);
        $ws->client->flushed if $o{piece};
    }
    my @got;
    while (my $frame = $ws->frame(20)) {
        push @got, [ $frame->{opcode}, $frame->{payload} ];
        push @got, [ 'not a frame of ours' ] if !$frame->{fin} || $frame->{rsv} || $frame->{masked};
    }
    # Pongs may overtake messages, which take the way through the zone.
    my $order = sub { return join "\n", (map { shorten(@$_) } grep { $_->[0] != 10 } @_), map { shorten(@$_) } grep { $_->[0] == 10 } @_ };
    is($order->(@got), $order->(@$expected), $what);
    $ws->close;
    return;
}

sub shorten {
    my ($opcode, $payload) = @_;
    $payload //= '';
    return "$opcode " . (length $payload > 200 ? unpack('%32C*', $payload) . ' of ' . length $payload : unpack 'H*', $payload);
}

my $error = [ 8, pack 'n', 1002 ];
my $not_utf8 = [ 8, pack 'n', 1007 ];

# 1 framing: text and binary of any length, in one piece and byte by byte
for my $opcode (1, 2) {
    check("1 opcode $opcode, $_ bytes", frame($opcode, '*' x $_), [ [ $opcode, '*' x $_ ] ])
        for 0, 125, 126, 127, 128, 65_535, 65_536;
    check("1 opcode $opcode, 65536 bytes in pieces of 997", frame($opcode, '*' x 65_536), [ [ $opcode, '*' x 65_536 ] ], piece => 997);
}

# 2 pings and pongs
check('2 empty ping', frame(9, ''), [ [ 10, '' ] ]);
check('2 ping with text', frame(9, 'Hello, world!'), [ [ 10, 'Hello, world!' ] ]);
check('2 ping with bytes', frame(9, "\0\xff\xfe\xfd\xfc\xfb\0\xff"), [ [ 10, "\0\xff\xfe\xfd\xfc\xfb\0\xff" ] ]);
check('2 longest ping', frame(9, "\xfe" x 125), [ [ 10, "\xfe" x 125 ] ]);
check('2 ping too long', frame(9, "\xfe" x 126), [ $error ]);
check('2 ping byte by byte', frame(9, "\xfe" x 125), [ [ 10, "\xfe" x 125 ] ], piece => 1);
check('2 unasked pong', frame(10, ''), []);
check('2 unasked pong with payload', frame(10, 'unasked'), []);
check('2 pong, then ping', frame(10, 'unasked') . frame(9, 'asked'), [ [ 10, 'asked' ] ]);
check('2 ten pings', join('', map { frame(9, "payload-$_") } 1 .. 10), [ map { [ 10, "payload-$_" ] } 1 .. 10 ]);
check('2 ten pings byte by byte', join('', map { frame(9, "payload-$_") } 1 .. 10), [ map { [ 10, "payload-$_" ] } 1 .. 10 ], piece => 1);

# 3 reserved bits
for my $rsv (1 .. 7) {
    check("3 reserved bits $rsv on text", frame(1, 'Hello', rsv => $rsv), [ $error ]);
    check("3 reserved bits $rsv behind a good one", frame(1, 'first') . frame(1, 'x', rsv => $rsv) . frame(9, ''), [ [ 1, 'first' ], $error ]);
    check("3 reserved bits $rsv on binary", frame(2, "\0\xff", rsv => $rsv), [ $error ]);
    check("3 reserved bits $rsv on a ping", frame(9, 'x', rsv => $rsv), [ $error ]);
    check("3 reserved bits $rsv on a close", frame(8, '', rsv => $rsv), [ $error ]);
}

# 4 opcodes that mean nothing
for my $opcode (3 .. 7, 11 .. 15) {
    check("4 opcode $opcode", frame($opcode, ''), [ $error ]);
    check("4 opcode $opcode with payload", frame($opcode, 'reserved'), [ $error ]);
    check("4 opcode $opcode behind text", frame(1, 'first') . frame($opcode, 'x') . frame(9, ''), [ [ 1, 'first' ], $error ]);
}

# 5 fragments
check('5 ping in fragments', part(9, 'a') . frame(0, 'b'), [ $error ]);
check('5 pong in fragments', part(10, 'a') . frame(0, 'b'), [ $error ]);
check('5 text in two', part(1, 'fragment1') . frame(0, 'fragment2'), [ [ 1, 'fragment1fragment2' ] ]);
check('5 text in two, byte by byte', part(1, 'fragment1') . frame(0, 'fragment2'), [ [ 1, 'fragment1fragment2' ] ], piece => 1);
check('5 text in two with a ping between', part(1, 'fragment1') . frame(9, 'p') . frame(0, 'fragment2'), [ [ 1, 'fragment1fragment2' ], [ 10, 'p' ] ]);
check('5 the same byte by byte', part(1, 'fragment1') . frame(9, 'p') . frame(0, 'fragment2'), [ [ 1, 'fragment1fragment2' ], [ 10, 'p' ] ], piece => 1);
check('5 continuation of nothing, last', frame(0, 'x') . frame(1, 'y'), [ $error ]);
check('5 continuation of nothing, not last', part(0, 'x') . frame(1, 'y'), [ $error ]);
check('5 continuation behind a whole message', frame(1, 'ok') . part(0, 'x') . frame(1, 'y'), [ [ 1, 'ok' ], $error ]);
check('5 text inside of a message', part(1, 'a') . frame(1, 'b'), [ $error ]);
check('5 five parts with pings', part(1, 'a') . part(0, 'b') . frame(9, '1') . part(0, 'c') . part(0, 'd') . frame(9, '2') . frame(0, 'e'),
    [ [ 1, 'abcde' ], [ 10, '1' ], [ 10, '2' ] ]);
check('5 binary parts', part(2, "\xff") . part(0, '') . frame(0, "\xfe"), [ [ 2, "\xff\xfe" ] ]);

# 6 UTF-8
my @valid = ('', "Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc\xc3\xa0\xc3\xa1-UTF-8!!", "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5",
    "\0", "\xc2\x80", "\xe0\xa0\x80", "\xf0\x90\x80\x80", "\x7f", "\xdf\xbf", "\xef\xbf\xbf", "\xf4\x8f\xbf\xbf",
    "\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbd", "\xef\xbf\xbe", "\xf0\x9f\xbf\xbe", "\xf3\xbf\xbf\xbf");
for my $text (@valid) {
    my $hex = unpack 'H*', $text;
    check("6 valid $hex", frame(1, $text), [ [ 1, $text ] ]);
    next if length $text < 2;
    check("6 valid $hex, each byte a fragment",
        part(1, substr $text, 0, 1) . join('', map { part(0, $_) } split //, substr $text, 1) . frame(0, ''), [ [ 1, $text ] ]);
}
my @invalid = ("\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited", "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80",
    "\xfc\x84\x80\x80\x80\x80", "\xf7\xbf\xbf\xbf", "\xfb\xbf\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf\xbf", "\x80", "\xbf",
    "\x80\xbf\x80\xbf", "\xc0 \xc1 ", "\xe0 ", "\xf0 ", "\xf8 ", "\xfe", "\xff", "\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf",
    "\xf8\x80\x80\x80\xaf", "\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80",
    "\xed\xad\xbf", "\xed\xae\x80", "\xed\xbf\xbf", "\xed\xa0\x80\xed\xb0\x80", "\xce", "\xe1\xbd", "\xf0\x9d\x84");
for my $text (@invalid) {
    my $hex = unpack 'H*', $text;
    check("6 invalid $hex", frame(1, $text), [ $not_utf8 ]);
    check("6 invalid $hex over fragments", part(1, "ok $text") . frame(0, ''), [ $not_utf8 ]);
    check("6 $hex in a binary message", frame(2, $text), [ [ 2, $text ] ]);
}

# 7 closing
check('7 text, then close', frame(1, 'Hello') . closing(1000), [ [ 1, 'Hello' ], [ 8, pack 'n', 1000 ] ]);
check('7 two closes', closing() . closing(), [ [ 8, '' ] ]);
check('7 ping behind a close', closing(1000) . frame(9, ''), [ [ 8, pack 'n', 1000 ] ]);
check('7 text behind a close', closing(1000) . frame(1, 'Hello'), [ [ 8, pack 'n', 1000 ] ]);
check('7 close inside of a message', part(1, 'a') . closing(1000) . frame(0, 'b'), [ [ 8, pack 'n', 1000 ] ]);
check('7 256 KiB behind a close', closing(1000) . frame(1, 'x' x (1 << 18)), [ [ 8, pack 'n', 1000 ] ]);
check('7 without a code', closing(), [ [ 8, '' ] ]);
check('7 half a code', frame(8, 'a'), [ $error ]);
check('7 with a reason', closing(1000, 'Hello World!'), [ [ 8, pack 'n', 1000 ] ]);
check('7 with the longest reason', closing(1000, '*' x 123), [ [ 8, pack 'n', 1000 ] ]);
check('7 with a longer reason', closing(1000, '*' x 124), [ $error ]);
check('7 with a reason that is not UTF-8', closing(1000, $invalid[0]), [ $not_utf8 ]);
check("7 code $_", closing($_), [ [ 8, pack 'n', $_ ] ]) for 1000 .. 1003, 1007 .. 1011, 3000, 3999, 4000, 4999;
check("7 code $_", closing($_), [ $error ]) for 0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65_535;

# 9 limits: 64 KiB to 16 MiB, whole, in fragments, in small writes
for my $opcode (1, 2) {
    for my $kilo (64, 256, 1024, 4096, 8192, 16_384) {
        check("9 opcode $opcode, $kilo KiB", frame($opcode, 'BAsd7&jh' x ($kilo << 7)), [ [ $opcode, 'BAsd7&jh' x ($kilo << 7) ] ]);
    }
    my $payload = 'BAsd7&jh' x (4096 << 7);
    for my $size (1 << 10, 1 << 14, 1 << 18, 1 << 22) {
        my @parts = unpack "(a$size)*", $payload;
        check("9 opcode $opcode, 4 MiB in fragments of $size", part($opcode, shift @parts) . join('', map { part(0, $_) } @parts) . frame(0, ''),
            [ [ $opcode, $payload ] ]);
    }
    check("9 opcode $opcode, 1 MiB in writes of $_", frame($opcode, 'BAsd7&jh' x (1 << 17)), [ [ $opcode, 'BAsd7&jh' x (1 << 17) ] ], piece => $_)
        for 256, 1000, 65_536;
}
for my $size (0, 16, 64, 256, 1024) {
    check("9 a thousand messages of $size", join('', map { frame(1, 'x' x $size) } 1 .. 1000), [ map { [ 1, 'x' x $size ] } 1 .. 1000 ]);
}

# 10 a message that clients fragment by themselves
my @parts = unpack '(a1300)*', '*' x 65_536;
check('10 65536 bytes in fragments of 1300', part(1, shift @parts) . join('', map { part(0, $_) } @parts[ 0 .. $#parts - 1 ]) . frame(0, $parts[-1]),
    [ [ 1, '*' x 65_536 ] ]);

$t->done();
