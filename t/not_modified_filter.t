# nginx's own handling of If-None-Match and If-Modified-Since leaves the module's answers alone.
#
# Proves protocol.md: common-headers.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    if_modified_since before;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; push_stream_store_messages on; }
        location /sub   { push_stream_subscriber; push_stream_header_template H; }
        location /stats { push_stream_channels_statistics; }
        location /plain { return 200 plain; }
    }
EOC

$t->publish('/pub?id=a', 'x');
my @conditions = (
    [ 'If-None-Match' => '*' ], [ 'If-None-Match' => 'W/1' ], [ 'If-None-Match' => '"1", *' ], [ 'If-Match' => '"x"' ],
    [ 'If-Modified-Since' => $t->http_date(time + 1000) ], [ 'If-Modified-Since' => $t->http_date(time + 1000), 'If-None-Match' => '*' ],
    [ 'If-Unmodified-Since' => 'Thu, 01 Jan 1970 00:00:00 GMT' ],
);
for (@conditions) {
    my $name = join ' ', @$_;
    for my $uri ('/stats', '/stats?id=a', '/pub?id=a') {
        my $c = $t->client;
        my $r = $t->get($uri, client => $c, @$_);
        is($r->status, 200, "$uri with $name");
        like($r->body, qr/\}\r\n\z/, 'whole');
        is($t->get('/plain', client => $c)->body, 'plain', 'and the connection is sound');
    }
    my $s = $t->subscribe('/sub?id=a', @$_);
    is($s->status, 200, "a subscriber with $name");
    is($s->next_chunk, 'H', 'gets its stream');
}

$t->done();
