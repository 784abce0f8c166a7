# Events are sent as text/event-stream in every answer, also where a client asks an eventsource location for a
# poll. Clients such as fetch-event-source give up on another type.
#
# Proves protocol.md: modes, event-stream.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    default_type text/plain;
    types { text/html html; }
    push_stream_timeout_with_body on;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher admin; push_stream_store_messages on; }
        location /live  { push_stream_publisher; }
        location /ev    { push_stream_subscriber eventsource; push_stream_footer_template bye; }
        location /short { push_stream_subscriber eventsource; push_stream_longpolling_connection_ttl 500ms; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

my $type   = 'text/event-stream; charset=utf-8';
my %modes  = (polling => [ 'X-Nginx-PushStream-Mode' => 'polling' ], 'long-polling' => [ 'X-Nginx-PushStream-Mode' => 'Long-Polling' ]);
my @oldest = ('If-Modified-Since' => 'Thu, 01 Jan 1970 00:00:00 GMT');

$t->publish('/pub?id=a', 'one', 'Event-Id' => 'e1');
$t->publish('/pub?id=a', "two\nlines");
for my $mode (sort keys %modes) {
    for my $uri ('/ev?id=a', '/ev/x.html?id=a') {
        my $answer = $t->get($uri, @{ $modes{$mode} }, @oldest);
        is($answer->status, 200, "$mode at $uri");
        is($answer->header('Content-Type'), $type, 'the type');
        is(scalar $answer->header_all('Content-Type'), 1, 'once');
        is($answer->body, ": \nid: e1\ndata: one\n\ndata: two\ndata: lines\n\n: bye\n", 'whole events');
        my $next = $t->poll($uri, @{ $modes{$mode} }, since => $answer);
        if ($mode eq 'polling') {
            is($next->status, 304, 'nothing new');
        } else {
            $t->wait_subscribers('/stats?id=a', 1);
            $t->publish('/live?id=a', 'live');
            is($next->body, ": \ndata: live\n\n: bye\n", 'a live event');
        }
        is($next->header('Content-Type'), $type, 'is of this type too');
    }
}

my $ended = $t->get('/short?id=b', @{ $modes{'long-polling'} });
is($ended->body, ": \ndata: Timed out\n\n", 'the event of a long poll whose time is over');
is($ended->header('Content-Type'), $type, 'has the type');

my $deleted = $t->poll('/ev?id=c', @{ $modes{'long-polling'} });
$t->wait_subscribers('/stats?id=c', 1);
$t->delete('/pub?id=c');
is($deleted->body, ": \ndata: Channel deleted\n\n: bye\n", 'the event of a deleted channel');
is($deleted->header('Content-Type'), $type, 'has the type');

# more than goes out at once
$t->publish('/pub?id=long', 'x' x 1000) for 1 .. 300;
my $long = $t->get('/ev?id=long', @{ $modes{polling} }, @oldest);
is(length $long->body, 300 * length("data: \n\n" . 'x' x 1000) + length ": \n: bye\n", 'an answer in portions');
is($long->header('Content-Type'), $type, 'has the type');

my $callback = $t->get('/ev?id=a&callback=f', @{ $modes{polling} }, @oldest);
is($callback->header('Content-Type'), 'application/javascript', 'a callback is a script, whatever is in it');

$t->done();
