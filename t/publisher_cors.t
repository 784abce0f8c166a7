# CORS headers are on every answer of publishers and subscribers, if an origin is configured.
#
# Proves protocol.md: cors, subscriber-requests (OPTIONS), statistics-requests (no CORS headers).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_max_channel_id_length 20;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        push_stream_allowed_origins "http://a.example, http://b.example";
        location /pub    { push_stream_publisher; push_stream_store_messages on; }
        location /admin  { push_stream_publisher admin; }
        location /sub    { push_stream_subscriber; push_stream_header_template H; }
        location /domain { push_stream_publisher; push_stream_allowed_origins $arg_domain; }
        location /none   { push_stream_publisher; push_stream_allowed_origins ""; }
        location /stats  { push_stream_channels_statistics; }
    }
EOC

my $headers = 'If-Modified-Since,If-None-Match,Etag,Event-Id,Event-Type,Last-Event-Id';

sub cors {
    my ($r) = @_;
    return join ' | ', map { $_ // '-' } map { $r->header("Access-Control-Allow-$_") } qw(Origin Methods Headers);
}

my $origins = 'http://a.example, http://b.example';
my %methods = ('/pub' => 'GET, POST, PUT', '/admin' => 'GET, POST, PUT, DELETE', '/sub' => 'GET');
for my $location (sort keys %methods) {
    my $want = "$origins | $methods{$location} | $headers";
    is(cors($t->options("$location?id=a")), $want, "OPTIONS $location");
    is(cors($t->get($location)), $want, "400 $location");
    is(cors($t->get("$location?id=" . 'x' x 21)), $want, "400, long id, $location");
    is(cors($t->get("$location?id=ALL")), $want, "403 $location");
    is(cors($t->request('PATCH', "$location?id=a")), $want, "405 $location");
}
is(cors($t->post('/pub?id=a', 'x')), "$origins | GET, POST, PUT | $headers", '200 to a publish');
is(cors($t->get('/pub?id=a')), "$origins | GET, POST, PUT | $headers", '200 to GET');
is(cors($t->get('/pub?id=b')), "$origins | GET, POST, PUT | $headers", '404 to GET');
is(cors($t->delete('/admin?id=b')), "$origins | GET, POST, PUT, DELETE | $headers", '404 to DELETE');
is(cors($t->delete('/admin?id=a')), "$origins | GET, POST, PUT, DELETE | $headers", '200 to DELETE');
my $s = $t->subscribe('/sub?id=a');
is(cors($s), "$origins | GET | $headers", 'a streaming subscriber');
my $r = $t->options('/sub?id=a');
is($r->status . $r->header('Content-Length'), '2000', 'OPTIONS at a subscriber');
is($r->header('Cache-Control') // '-', '-', 'has no cache headers');
is($r->header('Expires') // '-', '-', 'neither of them');

is(cors($t->get('/domain?id=a&domain=x.example')), "x.example | GET, POST, PUT | $headers", 'a variable');
is(cors($t->get('/domain?id=a&domain=http%3A%2F%2Fx%20y', Origin => 'http://z')),
    "http://x y | GET, POST, PUT | $headers", 'decoded once, not compared with Origin');
is(cors($t->get('/domain?id=a')), '- | - | -', 'an empty value: none');
is(cors($t->get('/none?id=a')), '- | - | -', 'switched off in a location: none');
is(cors($t->get('/stats?id=a')), '- | - | -', 'statistics have none');

$t->done();
