# Pages of several origins, with tokens or cookies, read what they need; other pages get no CORS header.
#
# Proves directives.md: push_stream_allowed_origins, push_stream_cors_headers, push_stream_cors_credentials,
# push_stream_cors_expose, push_stream_cors_max_age; protocol.md: cors.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_allowed_origins https://a.example ~^https://[a-z]+\.b\.example$ ~*^https://c\.example(:\d+)?$ null;
    push_stream_cors_headers Authorization X-Key;
    push_stream_cors_credentials on;
    push_stream_cors_expose on;
    push_stream_cors_max_age 10m;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub  { push_stream_publisher; push_stream_store_messages on; }
        location /poll { push_stream_subscriber polling; push_stream_cursor on; }
        location /sub  { push_stream_subscriber; push_stream_header_template H; }
        location /one  { push_stream_subscriber polling; push_stream_allowed_origins ~^https://one\.example$; push_stream_cors_max_age 0; }
        location /any  { push_stream_subscriber polling; push_stream_allowed_origins *; }
        location /path { push_stream_subscriber polling; push_stream_channels_path $1; }
        location /off  { push_stream_subscriber polling; push_stream_allowed_origins ""; push_stream_cors_credentials off; }
        location ~ ^/in/(?<id>.*) { push_stream_publisher; push_stream_channels_path $1; }
    }
EOC

sub cors {
    my ($r) = @_;
    return join ' | ', map { $_ // '-' } map { $r->header($_) }
        map({"Access-Control-$_"} qw(Allow-Origin Allow-Methods Allow-Headers Allow-Credentials Expose-Headers Max-Age)), 'Vary';
}

my $names = 'If-Modified-Since,If-None-Match,Etag,Event-Id,Event-Type,Last-Event-Id,Authorization,X-Key';
my $exposed = 'Date, Etag, X-Nginx-PushStream-Cursor, X-Nginx-PushStream-Explain, X-Nginx-PushStream-Gap';

for my $origin (qw(https://a.example HTTPS://A.example https://x.b.example https://C.example:8443 null)) {
    is(cors($t->options('/pub?id=a', Origin => $origin)), "$origin | GET, POST, PUT | $names | true | - | 600 | Origin", "preflight of $origin");
    is(cors($t->get('/poll?id=a', Origin => $origin)), "$origin | GET | $names | true | $exposed | - | Origin", "a poll of $origin");
}
for my $origin (qw(https://a.example.evil http://a.example https://b.example https://X.b.example https://xc.example nul), '', "https://a.example https://z") {
    is(cors($t->options('/pub?id=a', Origin => $origin)), '- | - | - | - | - | - | Origin', "none for '$origin'");
}
is(cors($t->get('/poll?id=a')), '- | - | - | - | - | - | Origin', 'none for a request that is not of a page');

my @a = (Origin => 'https://a.example');
my $head = cors($t->post('/pub?id=a', 'x', @a));
is($head, "https://a.example | GET, POST, PUT | $names | true | $exposed | - | Origin", 'a publish');
is(cors($t->get('/pub?id=ALL', @a)), $head, 'a refusal');
is(cors($t->subscribe('/sub?id=a', @a)), $head =~ s/GET, POST, PUT/GET/r, 'a stream');
is(cors($t->post('/in/a', 'x', @a)), $head, 'the captures of the location are still there');
is(cors($t->get('/one?id=a', Origin => 'https://one.example')), "https://one.example | GET | $names | true | $exposed | - | Origin", 'one pattern');
is($t->options('/one?id=a', Origin => 'https://one.example')->header('Access-Control-Max-Age'), '0', 'not to be remembered');
is(cors($t->get('/any?id=a', @a)), "* | GET | $names | - | $exposed | - | -", 'with any origin there are no credentials');
is(cors($t->get('/off?id=a', @a)), '- | - | - | - | - | - | -', 'switched off');
$t->done;
