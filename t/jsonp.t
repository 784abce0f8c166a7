# JSONP: an answer is a call of the function that the request names, if the name can be one.
#
# Proves protocol.md: jsonp.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_store_messages on;
    push_stream_timeout_with_body on;
    push_stream_longpolling_connection_ttl 300ms;
    push_stream_message_template '{"id":~id~,"text":"~text~"}';
    log_format line '$request';
    access_log %%TESTDIR%%/access.log line;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub    { push_stream_publisher admin; }
        location /lp     { push_stream_subscriber long-polling; }
        location /slow   { push_stream_subscriber long-polling; push_stream_longpolling_connection_ttl 60s; }
        location /around { push_stream_subscriber long-polling; push_stream_header_template "H"; push_stream_footer_template "F"; }
        location /poll   { push_stream_subscriber polling; }
        location /sub    { push_stream_subscriber; }
        location /stats  { push_stream_channels_statistics; }
    }
EOC

$t->publish('/pub?id=a', $_) for 'a', 'b';
my $old = $t->get('/lp?id=a.b2&callback=cb');
is($old->body, 'cb([{"id":1,"text":"a"},{"id":2,"text":"b"}]);', 'old messages, all in one array');
is($old->header('Content-Type'), 'application/javascript', 'the type');
ok(defined $old->header('Last-Modified') && defined $old->header('Etag'), 'the place');
is($t->get('/poll?id=a.b1&callback=cb')->body, 'cb([{"id":2,"text":"b"}]);', 'polling too');
is($t->get('/around?id=a.b1&callback=cb')->body, 'Hcb([{"id":2,"text":"b"}]);F', 'header and footer around');

my $live = $t->poll('/slow?id=live&callback=my.fn%5B0%5D');
$t->wait_subscribers('/stats?id=live', 1);
$t->publish('/pub?id=live', 'x');
is($live->body, 'my.fn[0]([{"id":1,"text":"x"}]);', 'a live message; the name is decoded once');

my $gone = $t->poll('/slow?id=live&callback=cb');
$t->wait_subscribers('/stats?id=live', 1);
$t->delete('/pub?id=live');
is($gone->body, 'cb([{"id":-2,"text":"Channel deleted"}]);', 'a deleted channel');

my $timeout = $t->get('/lp?id=quiet&callback=cb');
is($timeout->body, 'cb([{"id":-3,"text":"Timed out"}]);', 'a timeout');
is($timeout->header('Etag'), 'W/0', 'with tag 0');

my $none = $t->get('/poll?id=quiet&callback=cb');
is($none->status, 304, 'polling without news');
is($none->header('Content-Type'), 'application/javascript', 'has the type all the same');

for my $bad ('cb%20x', '', 'a(b', 'x%3Balert', 'x' x 129, 'a%00b', 'a-b', '%22') {
    my $answer = $t->get("/lp?id=a&callback=$bad");
    is($answer->status, 400, "refused: \"$bad\"");
    is($answer->body, '', 'without a body');
}
is($t->get('/lp?id=a.b1&callback=' . 'x' x 128)->status, 200, '128 bytes are allowed');

my $stream = $t->subscribe('/sub?id=a.b1&callback=cb');
is($stream->next_chunk, '{"id":2,"text":"b"}', 'not for streaming');

sub access_log { open my $file, '<', $t->dir . '/access.log' or return ''; local $/; return <$file> }
$t->wait_for(sub { access_log() =~ /callback=my/ }, 'the access log');
like(access_log(), qr/callback=my\.fn%5B0%5D/, 'the request line is logged as it came');
$t->done();
