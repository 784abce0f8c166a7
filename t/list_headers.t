# A request header that is a list may come in several lines: together they are one list (RFC 9110, section
# 5.3). Of other headers, the first line counts.
#
# Proves protocol.md: values-from-the-request, handshake, formats.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; }
        location /ws    { push_stream_subscriber websocket; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

# ---- the handshake of a WebSocket

my %several = (
    'Connection'                     => [ Connection => 'keep-alive', Connection => 'Upgrade' ],
    'Connection, the token first'    => [ Connection => 'Upgrade', Connection => 'keep-alive' ],
    'Connection, lists'              => [ Connection => 'keep-alive, x', Connection => 'y ,upgrade' ],
    'Connection, an empty line'      => [ Connection => '', Connection => 'Upgrade' ],
    'Connection, in another case'    => [ connection => 'keep-alive', CONNECTION => 'UPGRADE' ],
    'Upgrade'                        => [ Upgrade => 'h2c', Upgrade => 'websocket' ],
    'both'                           => [ Upgrade => 'h2c', Connection => 'keep-alive', Upgrade => 'websocket', Connection => 'Upgrade' ],
);
for my $what (sort keys %several) {
    my $ws = $t->websocket('/ws?id=a', @{ $several{$what} });
    is($ws->status, 101, "$what in several lines");
    is($ws->header('Sec-WebSocket-Accept'), $ws->expected_accept, "$what: accepted");
    $ws->close;
}
is($t->websocket('/ws?id=a', Connection => 'keep-alive', Connection => 'close')->status, 400, 'the token in none of them');
is($t->websocket('/ws?id=a', Connection => 'Up', Connection => 'grade')->status, 400, 'a token is not put together of two lines');
is($t->websocket('/ws?id=a', Upgrade => 'h2c', Upgrade => 'other')->status, 400, 'another protocol in each');
is($t->websocket('/ws?id=a', 'Sec-WebSocket-Version' => 7, 'Sec-WebSocket-Version' => 13)->status, 400,
    'the version is no list: the first counts');

# ---- the format of statistics

$t->publish('/pub?id=a', 'x');
my @accept = (
    [ 'text/html', 'application/xml' ] => 'application/xml',
    [ 'text/html', 'application/xhtml+xml', '*/*', 'text/plain' ] => 'text/plain',
    [ 'application/yaml', 'application/xml' ] => 'application/yaml',
    [ 'text/html, a/b', 'c/d ,text/x-json;q=0.1' ] => 'text/x-json',
    [ 'text/html', '*/*' ] => 'application/json',
    [ 'text', 'xml' ] => 'application/json',
);
while (my ($lines, $type) = splice @accept, 0, 2) {
    my @headers = map { (Accept => $_) } @$lines;
    is($t->get($_, @headers)->header('Content-Type'), $type, "Accept @$lines at $_") for '/stats', '/stats?id=a', '/pub?id=a';
}

$t->done();
