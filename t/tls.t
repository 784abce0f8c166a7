# TLS: all modes, over HTTP/1.1 and HTTP/2, in order, with slow readers bounded.
#
# Proves protocol.md: common-headers (TLS), slow-readers, streaming (chunks).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Http2;

Test::More::plan(skip_all => 'IO::Socket::SSL is not installed') unless eval { require IO::Socket::SSL; 1 };

my $t = Test::Nginx::PushStream->new(workers => 2)->http(<<'EOC');
    push_stream_shared_memory_size 16m;
    push_stream_channels_path $arg_id;
    push_stream_store_messages on;
    client_max_body_size 8m;
    ssl_certificate %%TESTDIR%%/cert.pem;
    ssl_certificate_key %%TESTDIR%%/key.pem;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        listen 127.0.0.1:%%PORT_8443%% ssl;
        listen 127.0.0.1:%%PORT_8444%% ssl http2;
        location /pub   { push_stream_publisher; }
        location /sub   { push_stream_subscriber; push_stream_header_template "HEAD"; push_stream_footer_template "FOOT"; }
        location /tight { push_stream_subscriber; push_stream_subscriber_max_buffered 64k; }
        location /ev    { push_stream_subscriber eventsource; }
        location /lp    { push_stream_subscriber long-polling; }
        location /ws    { push_stream_subscriber websocket; push_stream_websocket_allow_publish on; }
        location /stats { push_stream_channels_statistics; }
    }
EOC
my $dir = $t->dir;
system("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout $dir/key.pem -out $dir/cert.pem >$dir/openssl.log 2>&1") == 0
    or die 'openssl cannot make a certificate';
chmod 0644, "$dir/key.pem";
$t->run;

my @tls = (port => 8443, tls => 1);
my $pub = $t->client(@tls);
sub publish { return $t->publish('/pub?id=' . shift, shift, client => $pub) }

my $sub = $t->subscribe('/sub?id=a', @tls);
my $ev  = $t->subscribe('/ev?id=a', @tls);
my $lp  = $t->poll('/lp?id=a', @tls);
my $ws  = $t->websocket('/ws?id=a', @tls);
is($sub->next_chunk, 'HEAD', 'streaming begins');
is($ev->next_chunk, ": \n", 'an event stream begins');
$t->wait_subscribers('/stats?id=a', 4);
publish('a', 'Ola');
is($sub->next_chunk, 'Ola', 'a message, as its own chunk');
is($ev->next_chunk, "data: Ola\n\n", 'as an event');
is($lp->body, 'Ola', 'as the answer to a poll');
is($ws->text, 'Ola', 'as a frame');
$ws->send_text('from the socket');
is($ws->text, 'from the socket', 'published over the socket');
is($sub->next_chunk, 'from the socket', 'and received by all');

# many, coalesced or not: in order, each its own chunk
publish('a', "m$_") for 1 .. 200;
is(join(',', map { $sub->next_chunk } 1 .. 200), join(',', map {"m$_"} 1 .. 200), 'in order');

# larger than any TLS record, socket buffer or bound
my $large = join '', map { sprintf '%07d;', $_ } 1 .. 500_000;
publish('big', $large);
my $all = $t->subscribe('/sub?id=big.b1', @tls);
ok($all->read_until(qr/0500000;/, 30) eq "HEAD$large", '4 MB of old message');

# a reader that takes nothing is ended at its bound
my $lazy = $t->subscribe('/tight?id=slow', @tls, rcvbuf => 4096);
$lazy->client->pause;
for (1 .. 400) { publish('slow', 'x' x 20_000); last if !$t->stats('/stats?id=slow')->{subscribers} }
is($t->stats('/stats?id=slow')->{subscribers}, 0, 'too slow: no subscriber any more');

# HTTP/2, negotiated
SKIP: {
    Test::More::skip('no HTTP/2 or no ALPN', 2)
        unless Test::Nginx::PushStream->has_feature('http_v2_module') && IO::Socket::SSL->can_alpn;
    my $h2 = Test::Nginx::PushStream::Http2->new($t->client(port => 8444, tls => 1, alpn => ['h2']));
    my $id = $h2->request(GET => '/ev?id=b');
    is($h2->data($id, 3), ": \n", 'an event stream over HTTP/2 and TLS');
    publish('b', 'x');
    is($h2->data($id, 12), ": \ndata: x\n\n", 'its message');
}

$t->reload;
is(($sub->body =~ /(FOOT)\z/)[0], 'FOOT', 'goodbye at a reload');
ok($sub->complete, 'in order');
$t->done();
