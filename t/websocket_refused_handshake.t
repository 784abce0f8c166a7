# A request that is no WebSocket handshake is refused, and its connection is closed.
#
# Proves protocol.md: handshake.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $http2 = Test::Nginx::PushStream->has_feature('http_v2_module') ? <<'EOC' : '';
    server {
        listen 127.0.0.1:%%PORT_8081%% http2;
        location /ws { push_stream_subscriber websocket; push_stream_channels_path $arg_id; }
    }
EOC
my $t = Test::Nginx::PushStream->new->http(<<'EOC' . $http2)->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_allowed_origins "*";
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /ws    { push_stream_subscriber websocket; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

my @handshake = (Upgrade => 'websocket', Connection => 'Upgrade',
    'Sec-WebSocket-Key' => 'YnJpZ2h0LWtleS0wMDAwMQ==', 'Sec-WebSocket-Version' => 13);

sub refused {
    my ($answer, $status, $what) = @_;
    is($answer->status, $status, "$what: status");
    is($answer->header('Content-Length'), 0, "$what: no body");
    is(scalar $answer->header('Connection'), 'close', "$what: Connection");
    ok($answer->closed(2), "$what: the connection ends");
    is(scalar $answer->header('Access-Control-Allow-Origin'), undef, "$what: no CORS header");
    return;
}

# 1. the method, before anything else
for my $method (qw(POST PUT DELETE HEAD OPTIONS PATCH)) {
    my @body = $method =~ /P(?:OS|U|ATC)/ ? (body => 'x' x 100_000) : ();
    for my $headers ([], \@handshake) {
        my $answer = $t->start($method, '/ws?id=a', @$headers, @body);
        refused($answer, 405, $method);
        is($answer->header('Allow'), 'GET', "$method: Allow");
        is(scalar $answer->header($_), undef, "$method: no $_") for qw(Expires Cache-Control);
    }
}

# 2. the fields
my $explain = q{Don't have at least one of the mandatory headers: Connection, Upgrade, }
    . 'Sec-WebSocket-Key and Sec-WebSocket-Version';

sub handshake_without {
    my ($name, @instead) = @_;
    my @headers = @handshake;
    my @left;
    while (my ($key, $value) = splice @headers, 0, 2) { push @left, $key, $value unless $key eq $name }
    return (@left, @instead);
}

my @bad = (
    [ 'nothing at all' ],
    (map { [ "no $_", handshake_without($_) ] } map { $handshake[ 2 * $_ ] } 0 .. 3),
    [ 'an empty key', handshake_without('Sec-WebSocket-Key', 'Sec-WebSocket-Key' => '') ],
    [ 'another protocol', handshake_without('Upgrade', Upgrade => 'h2c') ],
    [ 'a longer word', handshake_without('Upgrade', Upgrade => 'websockets') ],
    [ 'no upgrade wanted', handshake_without('Connection', Connection => 'keep-alive') ],
    [ 'no upgrade, wrong version', handshake_without('Sec-WebSocket-Version', 'Sec-WebSocket-Version' => 7, Upgrade => '') ],
);
$bad[-1] = [ 'fields come before the version', 'Sec-WebSocket-Version' => 7 ];
for (@bad) {
    my ($what, @headers) = @$_;
    my $answer = $t->start('GET', '/ws?id=a', @headers);
    refused($answer, 400, $what);
    is(scalar $answer->header('X-Nginx-PushStream-Explain'), $explain, "$what: explain");
    is(scalar $answer->header('Sec-WebSocket-Version'), undef, "$what: no versions");
    is(scalar $answer->header('Cache-Control'), 'no-cache, no-store, must-revalidate', "$what: Cache-Control");
    is(scalar $answer->header('Expires'), 'Thu, 01 Jan 1970 00:00:01 GMT', "$what: Expires");
}

# 3. the version
for my $version (0, 7, 9, 12, 14, 113, '13, 8', 'x', '-8', '8.0') {
    my $answer = $t->start('GET', '/ws?id=a',
        handshake_without('Sec-WebSocket-Version', 'Sec-WebSocket-Version' => $version));
    refused($answer, 400, "version $version");
    is(scalar $answer->header('X-Nginx-PushStream-Explain'), 'Version not supported. Supported versions: 8, 13',
        "version $version: explain");
    is(scalar $answer->header('Sec-WebSocket-Version'), '8, 13', "version $version: what is supported");
}

# a body, which would be hard to tell from frames, is never taken for them nor for a request
my $answer = $t->start('GET', '/ws?id=a', @handshake, body => "GET /stats HTTP/1.0\r\n\r\n");
refused($answer, 400, 'a body');
is($answer->client->take('eof'), '', 'and it is not answered');

# HTTP/2 has no connection to take over
SKIP: {
    skip 'nginx without HTTP/2', 2 unless $http2;
    my $h2 = $t->client(port => 8081);
    my $literal = sub { my ($k, $v) = @_; return "\x00" . pack('C', length $k) . $k . pack('C', length $v) . $v };
    my $block = "\x82\x86" . $literal->(':path', '/ws?id=a') . $literal->(':authority', 'localhost')
        . join '', map { $literal->(@$_) } [ upgrade => 'websocket' ],
        [ 'sec-websocket-key' => 'YnJpZ2h0LWtleS0wMDAwMQ==' ], [ 'sec-websocket-version' => 13 ];
    $h2->send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" . "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
        . substr(pack('N', length $block), 1) . "\x01\x05" . pack('N', 1) . $block);
    # in HPACK's static table 400 is entry 12
    my $head = $h2->take(qr/\x01[\x00-\xff]\x00\x00\x00\x01\x8c/s, 5);
    ok(defined $head, 'HTTP/2: 400');
    is($t->stats->{subscribers}, 0, 'and nobody is subscribed');
}

is($t->stats->{channels}, 0, 'no refused request makes a channel');
$t->done();
