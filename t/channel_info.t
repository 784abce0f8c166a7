# GET at a publisher tells about channels; the answer to a publish does too, unless that is off.
#
# Proves protocol.md: channel-info, publishing (the answer), formats, configured-limits (stored messages).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new(gzip => 1)->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_max_messages_stored_per_channel 4;
    push_stream_events_channel_id evts;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; push_stream_store_messages on; }
        location /pass  { push_stream_publisher; }
        location /off   { push_stream_publisher; push_stream_channel_info_on_publish off; }
        location /if    { push_stream_publisher; push_stream_store_messages off;
                          if ($arg_store) { push_stream_store_messages on; } }
        location /sub   { push_stream_subscriber; }
    }
EOC

sub info {
    my ($channel, $published, $stored, $subscribers) = @_;
    return qq({"channel": "$channel", "published_messages": $published, )
        . qq("stored_messages": $stored, "subscribers": $subscribers}\r\n);
}

$t->is_refusal($t->get('/pub?id=a'), 404, undef, 'no such channel');
for my $n (1 .. 10) {
    is($t->post('/pub?id=a', "m$n")->body, info('a', $n, $n < 4 ? $n : 4, 0), "publish $n counts itself");
}
is($t->post('/pass?id=a', 'x')->body, info('a', 11, 4, 0), 'unstored: published only');
is($t->post('/if?id=a', 'x')->body, info('a', 12, 4, 0), 'store off');
is($t->post('/if?id=b&store=1', 'x')->body, info('b', 1, 1, 0), 'store on by an if block');
is($t->post('/if?id=b', 'x')->body, info('b', 2, 1, 0), 'and off again');

my @s = map { $t->subscribe('/sub?id=a') } 1 .. 3;
is($t->get('/pub?id=a')->body, info('a', 12, 4, 3), 'subscribers are counted');
$_->close for @s;
$t->wait_for(sub { $t->get('/pub?id=a')->body eq info('a', 12, 4, 0) }, 'closed subscribers to be noticed');
is($t->get('/pub?id=a')->body, info('a', 12, 4, 0), 'and their leaving');

my $r = $t->get('/pub?id=a');
is($r->header('Content-Type'), 'application/json', 'Content-Type');
is($r->header('Content-Length'), length $r->body, 'Content-Length');
my %cache = $t->cache_headers;
is($r->header($_), $cache{$_}, $_) for sort keys %cache;
is($r->header("X-Nginx-PushStream-$_"), undef, "no $_ header") for qw(Tag Commit);

is($t->get('/pub?id=a/missing')->body, info('a', 12, 4, 0), 'one found of two: the single form');
is($t->get('/pub?id=missing/a.b3')->body, info('a', 12, 4, 0), 'a backtrack suffix is removed');
like($t->get('/pub?id=b/missing/a')->body,
    qr/"channels": 3, .*"infos": \[\r\n\{"channel": "b",.*\},\r\n\{"channel": "a",.*\}\r\n\]\}\r\n\z/s,
    'two found: the list form in the order requested');
$t->is_refusal($t->get('/pub?id=missing/none'), 404, undef, 'none found');
like($t->get('/pub?id=evts')->body, qr/\A\{"channel": "evts", /, 'the events channel');

my %type = (
    plain => 'text/plain', json => 'application/json', yaml => 'application/yaml',
    xml => 'application/xml', 'x-json' => 'text/x-json', 'x-yaml' => 'text/x-yaml',
);
for my $word (sort keys %type) {
    for my $r ($t->get('/pub?id=b', Accept => "text/$word"), $t->post('/pass?id=b', 'x', Accept => "text/$word")) {
        is($r->header('Content-Type'), $type{$word}, "Accept: text/$word");
        is($r->header('Content-Length'), length $r->body, 'its length');
    }
}

$r = $t->post('/off?id=b', 'x');
is($r->status, 200, 'channel_info_on_publish off');
is($r->body . $r->header('Content-Length'), '0', 'gives no body');
like($t->get('/off?id=b')->body, qr/"channel": "b"/, 'but GET does');

# gzip passes over all of it
require Compress::Zlib;
my $want = $t->get('/pub?id=a')->body;
for my $r ($t->get('/pub?id=a', 'Accept-Encoding' => 'gzip')) {
    is($r->header('Content-Encoding'), 'gzip', 'GET by gzip');
    is(Compress::Zlib::memGunzip($r->body), $want, 'is the same text');
}
$r = $t->post('/pub?id=a', 'x', 'Accept-Encoding' => 'gzip');
is($r->header('Content-Encoding'), 'gzip', 'POST by gzip');
is(Compress::Zlib::memGunzip($r->body), info('a', 13, 4, 0), 'is the same text');

# header and body leave together: whoever reads until "would block" has it all
my $c = $t->client;
for (1 .. 20) {
    $c->send("GET /pub?id=a HTTP/1.1\r\nHost: h\r\n\r\n");
    $t->wait_for(sub { length $c->buffered }, 'an answer');
    like($c->buffered, qr/\}\r\n\z/, 'in one write') or last;
    $c->take(qr/\}\r\n\z/);
}

$t->done();
