# Publisher locations answer GET, POST, PUT, and DELETE for an admin, and refuse every other method.
#
# Proves protocol.md: publisher-methods, common-headers.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; push_stream_store_messages on; }
        location /plain { push_stream_publisher normal; }
        location /admin { push_stream_publisher Admin; }
    }
EOC

my %cache = $t->cache_headers;

for my $method (qw(POST PUT)) {
    for my $location (qw(pub plain admin)) {
        my $r = $t->request($method, "/$location?id=$method-$location", body => 'Ola');
        is($r->status, 200, "$method publishes at /$location");
        my $stored = $location eq 'pub' ? 1 : 0;
        is($r->body, qq({"channel": "$method-$location", "published_messages": 1, )
            . qq("stored_messages": $stored, "subscribers": 0}\r\n), "$method answers with channel info");
        is($r->header('Content-Type'), 'application/json', 'as JSON');
        is($r->header('Content-Length'), length $r->body, 'with its length');
        is($r->header($_), $cache{$_}, $_) for sort keys %cache;
    }
}

is($t->get("/$_?id=POST-pub")->status, 200, "GET gives channel info at /$_") for qw(pub plain admin);

$t->is_refusal($t->request($_, '/pub?id=POST-pub'), 405, undef, "$_ at a normal publisher",
    Allow => 'GET, POST, PUT') for qw(DELETE HEAD PATCH FOO);
$t->is_refusal($t->request($_, '/admin?id=POST-pub'), 405, undef, "$_ at an admin publisher",
    Allow => 'GET, POST, PUT, DELETE') for qw(HEAD PATCH FOO);
$t->is_refusal($t->request('DELETE', '/plain?id=POST-pub'), 405, undef, 'DELETE with the mode written out',
    Allow => 'GET, POST, PUT');
$t->is_refusal($t->request('HEAD', '/pub'), 405, undef, 'the method is looked at before the path',
    Allow => 'GET, POST, PUT');

for my $uri ('/pub?id=x', '/pub', '/admin?id=ALL', '/admin') {
    my $r = $t->options($uri);
    is($r->status, 200, "OPTIONS $uri, whatever the path");
    is($r->body, '', 'has no body');
    is($r->header('Content-Length'), 0, 'and says so');
    is($r->header($_), $cache{$_}, $_) for sort keys %cache;
}
like($t->options('/pub', version => '1.0', host => undef)->head, qr{\AHTTP/1\.1 200 OK\r\n},
    'OPTIONS by HTTP/1.0 without Host');
is($t->get('/pub?id=x')->status, 404, 'no OPTIONS created a channel');

$t->is_refusal($t->request($_, '/admin', body => 'x'), 400, 'No channel id provided.', "$_ without a channel")
    for qw(GET POST PUT DELETE);
$t->is_refusal($t->request('POST', '/pub?id=', body => 'x'), 400, 'No channel id provided.', 'an empty id');
$t->is_refusal($t->request('POST', '/pub?id=%2F%2F', body => 'x'), 400, 'No channel id provided.',
    'nothing but slashes');

is($t->delete('/admin?id=POST-pub')->status, 200, 'DELETE at an admin publisher');

$t->done();
