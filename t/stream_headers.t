# A streaming subscriber gets its response headers at once, or a refusal with the documented ones.
#
# Proves protocol.md: subscriber-requests, streaming, modes (content type), order-of-checks, refusals.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_max_channel_id_length 6;
    types { text/html html; text/css css b3; }
    default_type "text/odd; charset=utf-8";
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; push_stream_store_messages on; }
        location /sub   { push_stream_subscriber; }
        location /word  { push_stream_subscriber Streaming; push_stream_header_template "HEAD"; }
        location /dir/  { push_stream_subscriber; push_stream_subscriber_connection_ttl 1s; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

my $s = $t->start('GET', '/sub?id=a');
ok($s->wait_head, 'headers come although there is nothing to say');
is($s->status, 200, 'status');
is($s->version, '1.1', 'version');
is($s->so_far, '', 'and nothing else comes');
is($s->header('Content-Type'), 'text/odd; charset=utf-8', 'default_type');
is($s->header('Transfer-Encoding'), 'chunked', 'chunked');
is($s->header('Content-Length'), undef, 'no length');
is($s->header($_), undef, "no $_") for qw(Last-Modified Etag X-Nginx-PushStream-Explain Allow
    X-Nginx-PushStream-Tag Access-Control-Allow-Origin);
my %cache = $t->cache_headers;
is($s->header($_), $cache{$_}, $_) for sort keys %cache;
is(scalar $s->header_all($_), 1, "$_ once") for qw(Expires Cache-Control Content-Type Connection Date Server);
is($t->stats('/stats?id=a')->{subscribers}, 1, 'it is subscribed');
$t->publish('/pub?id=a', 'Ola');
is($s->next_chunk, 'Ola', 'and gets messages');

my $c = $t->client;
$c->send("GET /word?id=a HTTP/1.1\r\nHost: h\r\n\r\n");
$t->wait_for(sub { length $c->buffered }, 'the response');
like($c->buffered, qr/\r\n\r\n4\r\nHEAD\r\n\z/, 'headers and header template come in one go');

is($t->subscribe("/dir/x.$_?id=a")->header('Content-Type'), $_ eq 'html' ? 'text/html' : 'text/css',
    "Content-Type by extension $_") for qw(html css b3);

# refusals
$t->is_refusal($t->get('/sub'), 400, 'No channel id provided.', 'no path');
$t->is_refusal($t->get('/sub?id='), 400, 'No channel id provided.', 'an empty path');
$t->is_refusal($t->get("/sub?id=$_"), 400, 'No channel id provided.', "nothing but $_") for '/', '//', '.b3', '%2F.b1';
$t->is_refusal($t->get("/sub?id=$_"), 403, 'Channel id not authorized for this method.', "the id $_")
    for 'ALL', '*', 'a*', 'fine/ALL', 'fine/*x', 'ALL.b3', 'toolongid*';
$t->is_refusal($t->get("/sub?id=$_"), 400, 'Channel id is too large.', "the id $_") for '1234567', 'fine/1234567', 'ALLALLALL';
$t->is_refusal($t->request($_, '/sub?id=a'), 405, undef, "method $_", Allow => 'GET') for qw(POST PUT DELETE HEAD PATCH);
$t->is_refusal($t->request('HEAD', '/sub'), 405, undef, 'the method is looked at before the path', Allow => 'GET');
is($t->options("/sub$_")->status, 200, "OPTIONS /sub$_") for '', '?id=a', '?id=ALL';
is($t->options('/sub')->header('Content-Length'), 0, 'without a body');
is($t->stats('/stats?id=fine'), undef, 'no refusal has created a channel');
is($t->subscribe('/sub?id=123456.b999')->status, 200, 'the greatest length, suffix apart');
is($t->stats->{channels}, 2, 'two channels in all');

$t->done();
