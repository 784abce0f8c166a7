# A WebSocket client that asks for subprotocols gets the first of them that the location knows (RFC 6455,
# 4.2.2 and 11.3.4).
#
# Proves protocol.md: handshake (subprotocol); directives.md: push_stream_websocket_protocols.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Config;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_websocket_protocols outer;
    map $arg_p $mapped { default ""; one v1; many "v2, v3"; bad "a\r\nX-Forged: 1"; }
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /inherited { push_stream_subscriber websocket; }
        location /some      { push_stream_subscriber websocket; push_stream_websocket_protocols chat superchat "v1.stomp" %41; }
        location /mapped    { push_stream_subscriber websocket; push_stream_websocket_protocols fixed $mapped; }
        location ~ /caught/(\w+) { push_stream_subscriber websocket; push_stream_channels_path a; push_stream_websocket_protocols x-$1; }
        location /any       { push_stream_subscriber websocket; push_stream_websocket_protocols $http_sec_websocket_protocol; }
        location /off       { push_stream_subscriber websocket; push_stream_websocket_protocols off; }
        location /pub       { push_stream_publisher; }
    }
EOC

sub chosen {
    my ($uri, @lines) = @_;
    my $ws = $t->websocket("$uri", map { ('Sec-WebSocket-Protocol' => $_) } @lines);
    is($ws->status, 101, "@lines at $uri: the handshake succeeds");
    my @answered = $ws->exchange->header_all('Sec-WebSocket-Protocol');
    $ws->close;
    return join ' + ', @answered;
}

# ---- names that the configuration gives

my @cases = (
    [ 'chat' ]                      => 'chat',
    [ 'superchat, chat' ]           => 'superchat',
    [ 'other, chat' ]               => 'chat',
    [ 'other', 'x,superchat,chat' ] => 'superchat',
    [ ' v1.stomp ' ]                => 'v1.stomp',
    [ ',, ,chat' ]                  => 'chat',
    [ 'Chat' ]                      => '',
    [ 'chats, cha' ]                => '',
    [ 'chat superchat' ]            => '',
    [ '"chat"' ]                    => '',
    [ '' ]                          => '',
    [ 'outer' ]                     => '',
    [ '%41' ]                       => '%41',
    [ 'A' ]                         => '',
);
while (my ($lines, $chosen) = splice @cases, 0, 2) {
    is(chosen('/some?id=a', @$lines), $chosen, "@$lines: " . ($chosen || 'none'));
}
is(chosen('/some?id=a'), '', 'who asks for none gets none');

my $ws = $t->websocket('/some?id=a', 'Sec-WebSocket-Protocol' => 'mqtt, chat');
is($ws->exchange->head, join("\r\n", 'HTTP/1.1 101 Switching Protocols', 'Expires: Thu, 01 Jan 1970 00:00:01 GMT',
    'Cache-Control: no-cache, no-store, must-revalidate', 'Upgrade: WebSocket', 'Connection: Upgrade',
    'Sec-WebSocket-Accept: ' . $ws->expected_accept, 'Sec-WebSocket-Protocol: chat', '', ''), 'the whole answer');
$t->publish('/pub?id=a', 'Ola');
is($ws->text, 'Ola', 'and the connection works');

# ---- levels

is(chosen('/inherited?id=a', 'chat, outer'), 'outer', 'an outer level');
is(chosen('/off?id=a', 'outer, off'), '', 'switched off');

# ---- variables

is(chosen('/mapped?id=a&p=one', 'v1, fixed'), 'v1', 'a variable with a name');
is(chosen('/mapped?id=a&p=many', 'v9, v3, v2'), 'v3', 'a variable with several');
is(chosen('/mapped?id=a', 'v1, fixed'), 'fixed', 'an empty one has none');
is(chosen('/mapped?id=a&p=bad', 'a', 'X-Forged: 1'), '', 'what is no name is none');
is(chosen('/caught/abc', 'x-abd, x-abc'), 'x-abc', 'a capture');
is(chosen('/any?id=a', 'token, eyJhbGciOiJIUzI1NiJ9.e30'), 'token', 'whatever the client asks for first');
is(chosen('/any?id=a', 'to ken, good'), 'good', 'but nothing that is no name');
is(chosen('/any?id=a'), '', 'and nothing for nothing');
is($t->get('/some?id=a', 'Sec-WebSocket-Protocol' => 'chat')->header('Sec-WebSocket-Protocol'), undef, 'no refusal chooses');
$t->finish;

# ---- what the configuration may say

my $c = Test::Nginx::PushStream::Config->new;
my $mode = 'push_stream_subscriber websocket;';
$c->accepts({ $_ => "push_stream_websocket_protocols a b;", ($_ eq 'location' ? () : (location => $mode)) }, "in $_") for qw(http server);
$c->accepts("$mode push_stream_websocket_protocols $_;", "takes $_") for 'chat', 'a b c', '"v1.stomp"', q(!#%&'*+-.^_`|~), '$arg_p', 'a $arg_p a$arg_p', 'off';
$c->refuses("$mode if (\$arg_a) { push_stream_websocket_protocols a; }", qr/directive is not allowed here/, 'not in if');
$c->refuses("$mode push_stream_websocket_protocols;", qr/invalid number of arguments/, 'at least a word');
$c->refuses("$mode push_stream_websocket_protocols a; push_stream_websocket_protocols b;", qr/"push_stream_websocket_protocols" directive is duplicate/, 'once');
for my $bad ('""', '"a b"', 'a,b', '"a/b"', 'a:b', "caf\xc3\xa9", '"a\tb"', 'b=') {
    $c->refuses("$mode push_stream_websocket_protocols good $bad;",
        qr/\[error\] .*push stream module: invalid push_stream_websocket_protocols value: .*, it must be the name of a subprotocol in \S+:\d+/, "refuses $bad");
}
$c->refuses("$mode push_stream_websocket_protocols a b a;",
    qr/\[error\] .*push stream module: invalid push_stream_websocket_protocols value: a, it must not be given twice in \S+:\d+/, 'each name once');
$c->refuses("$mode push_stream_websocket_protocols $_;",
    qr/\[error\] .*push stream module: invalid push_stream_websocket_protocols value: off, it must stand alone in \S+:\d+/, "refuses $_") for 'off a', 'a off';
$c->refuses("$mode push_stream_websocket_protocols \$no_such_variable;", qr/unknown "no_such_variable" variable/, 'no unknown variable');
$c->done;
