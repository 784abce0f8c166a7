# A WebSocket gets header, old messages and live ones, each once and in order, whoever publishes.
#
# Proves protocol.md: frames-from-the-server, resuming.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 8m;
    push_stream_channels_path $arg_id;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; push_stream_store_messages on; }
        location /ws    { push_stream_subscriber websocket; push_stream_header_template HEAD; }
        location /last  {
            push_stream_subscriber websocket;
            push_stream_last_received_message_time $arg_time;
            push_stream_last_received_message_tag $arg_tag;
            push_stream_last_event_id $arg_event;
        }
        location /log   { push_stream_subscriber websocket; push_stream_message_template "~id~ ~text~"; }
        location /stats { push_stream_channels_statistics; }
    }
EOC
my ($here, $there) = $t->worker_pids;

$t->publish('/pub?id=a', $_, 'Event-Id' => "e$_") for 1 .. 4;
$t->publish('/pub?id=b', $_) for 5 .. 6;

my $ws = $t->websocket('/ws?id=a.b2/b.b5', worker => $here);
is($ws->text, $_, "header and old messages: $_") for 'HEAD', 3, 4, 5, 6;
$t->publish('/pub?id=b', 'live', worker => $there);
is($ws->text, 'live', 'then live ones, of another worker');

# by time, tag and event id, from headers or arguments
my $epoch = 'Thu, 01 Jan 1970 00:00:00 GMT';
my $got = sub { my ($ws, $n) = @_; my @got = map { $ws->text } 1 .. $n; return "@got" };
is($got->($t->websocket('/ws?id=a', 'If-Modified-Since' => $epoch), 5), 'HEAD 1 2 3 4', 'since a time');
is($got->($t->websocket('/ws?id=a', 'Last-Event-Id' => 'e2'), 3), 'HEAD 3 4', 'after an event');
is($got->($t->websocket('/last?id=a&event=e3'), 1), '4', 'after an event, by argument');
is($got->($t->websocket("/last?id=a&time=Thu,%2001%20Jan%201970%2000:00:00%20GMT&tag=0"), 4), '1 2 3 4', 'by arguments');
$ws = $t->websocket('/last?id=a', 'Last-Event-Id' => 'e3', 'If-Modified-Since' => $epoch);
$t->publish('/pub?id=a', 'new');
is($ws->text, 'new', 'a set directive hides the header');

# while somebody publishes as fast as possible, nothing is missing and nothing comes twice
my $count = 0;
my $publish = sub { return $count < 3000 ? ('/pub?id=f', 'm' . ++$count) : () };
my @late;
my $answers = $t->publish_many('', sub {
    push @late, $t->websocket('/log?id=f.b100000', worker => @late % 2 ? $here : $there) if $count % 300 == 150;
    return $publish->();
});
is($answers->{200}, 3000, '3000 messages');
for my $late (@late) {
    my $wrong = grep { ($late->text // 'nothing') ne "$_ m$_" } 1 .. 3000;
    is($wrong, 0, 'each once and in order');
}
is(scalar @late, 10, 'for each of the ten that came in between');

$t->done();
