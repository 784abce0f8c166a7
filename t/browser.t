# A real browser receives the same messages over every transport, also over TLS and HTTP/2.
#
# Proves protocol.md: common-headers (HTTP versions), event-stream (Last-Event-Id after a reconnect),
# handshake.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Browser;

Test::More::plan(skip_all => 'chromedriver is not installed') unless Test::Nginx::PushStream::Browser->available;

my $t = Test::Nginx::PushStream->new(workers => 2)->http(<<'EOC');
    push_stream_shared_memory_size 4m;
    push_stream_channels_path $arg_id;
    push_stream_store_messages on;
    ssl_certificate %%TESTDIR%%/cert.pem;
    ssl_certificate_key %%TESTDIR%%/key.pem;
    types { text/html html; }
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        listen 127.0.0.1:%%PORT_8443%% ssl http2;
        location /pub   { push_stream_publisher; }
        location /ev    { push_stream_subscriber eventsource; }
        location /short { push_stream_subscriber eventsource; push_stream_subscriber_connection_ttl 500ms; }
        location /ws    { push_stream_subscriber websocket; push_stream_websocket_allow_publish on;
                          push_stream_ping_message_interval 300ms; }
        location /lp    { push_stream_subscriber long-polling; }
        location /frame { push_stream_subscriber; default_type text/html;
                          push_stream_header_template "<!DOCTYPE html><html><body>";
                          push_stream_message_template "<script>parent.p('~text~');</script>"; }
        location /stats { push_stream_channels_statistics; }
        location /page  { root %%TESTDIR%%; }
    }
EOC
my $dir = $t->dir;
system("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout $dir/key.pem -out $dir/cert.pem >$dir/openssl.log 2>&1") == 0
    or die 'openssl cannot make a certificate';
mkdir "$dir/page";
$t->write_file('page/index.html', <<'HTML');
<!DOCTYPE html><title>push</title><script>
var got = { ev: [], short: [], ws: [], lp: [], frame: [] }, opened = 0;
new EventSource('/ev?id=a').onmessage = e => got.ev.push(e.data);
new EventSource('/short?id=b').onmessage = e => got.short.push(e.data);
var ws = new WebSocket(location.origin.replace('http', 'ws') + '/ws?id=a');
ws.onmessage = e => got.ws.push(e.data);
ws.onclose = e => got.closed = e.code + ' ' + e.wasClean;
async function poll(headers) {
    let answer = await fetch('/lp?id=a', { headers, cache: 'no-store' });
    got.lp.push(await answer.text());
    poll({ 'If-Modified-Since': answer.headers.get('Last-Modified'), 'If-None-Match': answer.headers.get('Etag') });
}
poll({});
window.p = text => got.frame.push(text);
</script><body><iframe src="/frame?id=a"></iframe>
HTML
chmod 0755, $dir, "$dir/page";
$t->run;

my $browser = Test::Nginx::PushStream::Browser->new($dir);
my $pub = $t->client;
my $pages = 0;

# HTTP/1.1, and then HTTP/2 over TLS (where a browser opens its WebSocket by HTTP/1.1, if at all)
for my $origin ('http://127.0.0.1:' . $t->port(8080), 'https://127.0.0.1:' . $t->port(8443)) {
    if ($pages++) {
        # Subscribers of the page before must not be taken for this page's.
        $browser->open('about:blank');
        $t->wait_subscribers('/stats?id=a', 0);
    }
    $browser->open("$origin/page/index.html");
    $t->wait_subscribers('/stats?id=a', 4);
    my @texts = map {"$origin $_"} 1 .. 5;
    $t->publish('/pub?id=a', $_, client => $pub) for @texts;
    my $got;
    my $all = sub { $got = $browser->run('return got'); return join('', @{ $got->{lp} }) eq join('', @texts) && !grep { @{ $got->{$_} } < 5 } qw(ev ws frame) };
    $t->wait_for($all, "all messages at $origin");
    is_deeply($got->{$_}, \@texts, "$_ at $origin") for qw(ev ws frame);
    # What came between two polls is in one answer.
    is(join('', @{ $got->{lp} }), join('', @texts), "lp at $origin");

    # it publishes by itself, and says goodbye in order
    $browser->run("ws.send('from the browser \\u00e9')");
    $t->wait_for(sub { $got = $browser->run('return got'); @{ $got->{ev} } > 5 }, 'its own message');
    is($got->{ev}[5], "from the browser \x{e9}", 'published over its socket');
    $browser->run("ws.close(1000, 'bye')");
    $t->wait_for(sub { $got = $browser->run('return got'); $got->{closed} }, 'the socket to close');
    is($got->{closed}, '1000 true', 'closed cleanly');

    # EventSource comes back by itself with its last id; nothing is lost on the way
    my @ids = map {"$_"} 1 .. 6;
    $t->publish('/pub?id=b', "first", client => $pub, 'Event-Id' => "$origin 0");
    $t->wait_for(sub { $got = $browser->run('return got'); @{ $got->{short} } > 0 || $t->stats('/stats?id=b')->{subscribers} }, 'it to listen');
    $t->wait_for(sub {
        $t->publish('/pub?id=b', 'again', client => $pub, 'Event-Id' => "$origin again") if !@{ $got->{short} };
        $got = $browser->run('return got');
        return @{ $got->{short} } > 0;
    }, 'the first event');
    my $before = @{ $got->{short} };
    for my $n (@ids) {
        $t->publish('/pub?id=b', "n$n", client => $pub, 'Event-Id' => "$origin $n");
        $t->quiet_for($pub, 0.4);
    }
    $t->wait_for(sub { $got = $browser->run('return got'); ($got->{short}[-1] // '') eq 'n6' }, 'the last event', 30);
    my @events = grep {/^n/} @{ $got->{short} };
    is_deeply(\@events, [ map {"n$_"} @ids ], 'an event source that reconnects misses nothing');
}
$browser->open('about:blank');
$t->wait_subscribers('/stats?id=a', 0);
$browser->quit;
$t->done();
