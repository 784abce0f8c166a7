# HTTP/2: all modes as streams of one connection, with flow control respected and slow streams bounded.
#
# Proves protocol.md: common-headers (HTTP versions), publishing (no length), slow-readers.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Http2;

Test::More::plan(skip_all => 'nginx has no HTTP/2') unless Test::Nginx::PushStream->has_feature('http_v2_module');

my $t = Test::Nginx::PushStream->new(workers => 2)->http(<<'EOC')->run();
    push_stream_shared_memory_size 4m;
    push_stream_channels_path $arg_id;
    push_stream_store_messages on;
    client_max_body_size 4m;
    client_body_buffer_size 4k;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        listen 127.0.0.1:%%PORT_8082%% http2;
        location /pub   { push_stream_publisher admin; }
        location /sub   { push_stream_subscriber; push_stream_header_template "HEAD"; push_stream_footer_template "FOOT"; }
        location /tight { push_stream_subscriber; push_stream_subscriber_max_buffered 4k; }
        location /ev    { push_stream_subscriber eventsource; }
        location /lp    { push_stream_subscriber long-polling; }
        location /poll  { push_stream_subscriber polling; }
        location /ws    { push_stream_subscriber websocket; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

my $pub = $t->client;
sub publish { return $t->publish('/pub?id=' . shift, shift, client => $pub, @_) }
sub connection { return Test::Nginx::PushStream::Http2->new($t->client(port => 8082), @_) }

# all modes side by side on one connection
my $h2 = connection();
my $sub = $h2->request(GET => '/sub?id=a');
my $ev  = $h2->request(GET => '/ev?id=a');
ok($h2->is_ok($sub), 'streaming');
is($h2->data($sub, 4), 'HEAD', 'its header at once');
is($h2->data($ev, 3), ": \n", 'event stream');
my $lp = $h2->request(GET => '/lp?id=a');
$t->wait_subscribers('/stats?id=a', 3);
publish('a', 'Ola');
is($h2->data($sub, 7), 'HEADOla', 'a message published over HTTP/1.1');
is($h2->data($ev, 14), ": \ndata: Ola\n\n", 'as an event');
$h2->wait_ended($lp);
is($h2->data($lp, 3), 'Ola', 'and the answer to a long poll');
my $poll = $h2->request(GET => '/poll?id=a.b1');
$h2->wait_ended($poll);
is($h2->data($poll, 3), 'Ola', 'polling');

# one of them goes, the others stay
$h2->reset($ev);
$t->wait_subscribers('/stats?id=a', 1);
publish('a', '!');
is($h2->data($sub, 8), 'HEADOla!', 'the others go on');

# a publisher that says no length
my $small = $h2->request(POST => '/pub?id=b', body => 'no length');
ok($h2->is_ok($small), 'published without a length');
my $body = join '', map { chr($_ % 251) } 1 .. 300_000;
my $large = $h2->request(POST => '/pub?id=b', body => $body);
ok($h2->is_ok($large), 'and one that does not fit a buffer');
is($t->get('/poll?id=b.b2')->body, "no length$body", 'as they were');
my $empty = $h2->request(POST => '/pub?id=b', body => '');
$h2->wait_ended($empty);
ok(!$h2->is_ok($empty), 'an empty one is refused');

# a deleted channel ends the stream in order
$t->delete('/pub?id=a');
$h2->wait_ended($sub);
is($h2->data($sub, 0), 'HEADOla!Channel deletedFOOT', 'with the notice and the footer');

# a websocket cannot be had this way
my $ws = $h2->request(GET => '/ws?id=a', headers => { 'sec-websocket-version' => 13, 'sec-websocket-key' => 'YnJpZ2h0LWtleS0wMDAwMQ==' });
$h2->wait_ended($ws);
ok(!$h2->is_ok($ws), 'no websocket over HTTP/2');

# windows: not a byte more than the client allows, and nothing lost by it
my $narrow = connection(window => 10);
my $slow = $narrow->request(GET => '/sub?id=c');
my $fast = $narrow->request(GET => '/sub?id=d');
$narrow->widen($fast, 1000);
is($narrow->data($slow, 4), 'HEAD', 'the header fits the window');
$narrow->data($fast, 4);
publish('c', sprintf '%05d', $_) for 1 .. 20;
publish('d', 'other');
is($narrow->data($fast, 9), 'HEADother', 'another stream of the connection is not held up');
is(length $narrow->data($slow, 10), 10, 'ten bytes, as allowed');
$narrow->widen($slow, 7);
is(length $narrow->data($slow, 17), 17, 'seven more');
$narrow->widen($slow, 1000);
is($narrow->data($slow, 104), 'HEAD' . join('', map { sprintf '%05d', $_ } 1 .. 20), 'and in the end all of it, in order');

# a stream that takes nothing is ended at its bound, and nobody else notices
my $stuck = connection(window => 0);
my $lazy = $stuck->request(GET => '/tight?id=e');
$t->wait_subscribers('/stats?id=e', 1);
publish('e', 'x' x 1000) for 1 .. 10;
$t->wait_subscribers('/stats?id=e', 0);
pass('too slow: no subscriber any more');
$t->wait_log(qr/too slow|max_buffered|slow/);

# goodbye at a reload
my $last = connection();
my $bye = $last->request(GET => '/sub?id=f');
$last->data($bye, 4);
$t->reload;
$last->wait_ended($bye);
is($last->data($bye, 0), 'HEADFOOT', 'a reload says goodbye');

# curl, as people use it
SKIP: {
    Test::More::skip('curl without HTTP/2', 1) unless `curl --version 2>&1` =~ /HTTP2/;
    my $port = $t->port(8082);
    my $pid = open my $curl, '-|', 'curl', '-sN', '--http2-prior-knowledge', '--max-time', 20, "http://127.0.0.1:$port/ev?id=g"
        or die "curl: $!";
    $t->wait_subscribers('/stats?id=g', 1);
    $pub = $t->client;    # the reload has ended the old one
    publish('g', 'by curl');
    my $got = '';
    while ($got !~ /by curl/ && sysread $curl, my $part, 1000) { $got .= $part }
    is($got, ": \ndata: by curl\n\n", 'curl --http2-prior-knowledge -N');
    kill 'TERM', $pid;
    close $curl;
}
$t->done();
