# EventSource: a client that comes back with Last-Event-Id gets each message that it missed, once.
#
# Proves protocol.md: event-stream, resuming.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new(workers => 2)->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_store_messages on;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub { push_stream_publisher; }
        location /ev  { push_stream_subscriber eventsource; }
    }
EOC

my $pub = $t->client;
my $next = 1;
sub publish_some {
    my ($count) = @_;
    for (1 .. $count) { $t->publish('/pub?id=a', "m$next", client => $pub, 'Event-Id' => "e$next"); $next++ }
}

publish_some(3);
my $seen = 0;
my $last;
for my $round (1 .. 20) {
    my $ev = $t->subscribe('/ev?id=a', $last ? ('Last-Event-Id' => $last) : ());
    publish_some(2);    # while it may or may not be attached: it gets them either way
    my $newest = 'e' . ($next - 1);
    while (($last // '') ne $newest) {
        my $event = $ev->read_until(qr/id: e\d+\ndata: m\d+\n\n/) // last;
        my ($id, $text) = $event =~ /id: e(\d+)\ndata: m(\d+)\n\n\z/ or last;
        $seen = 3 if !$seen;    # the first connection asked for nothing old
        is("$id $text", ($seen + 1) . ' ' . ($seen + 1), "round $round: the next one") or last;
        $seen++;
        $last = "e$id";
    }
    $ev->client->abort;
    publish_some(1);    # nobody listens now
}
is($seen, $next - 2, 'all have come, but for the last one');

my $unknown = $t->subscribe('/ev?id=a', 'Last-Event-Id' => 'never');
$t->publish('/pub?id=a', 'live', client => $pub);
is($unknown->read_until(qr/\n\n/), ": \ndata: live\n\n", 'an unknown id replays nothing');
$t->done();
