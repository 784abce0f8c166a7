# A WebSocket publishes to every channel that it is subscribed to, in the order of its path.
#
# Proves protocol.md: publishing-over-a-websocket, the-channel-of-events (left out).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_events_channel_id ev;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub    { push_stream_publisher admin; push_stream_channels_path $arg_id; }
        location ~ /ws/(.*) {
            push_stream_subscriber websocket;
            push_stream_channels_path $1;
            push_stream_websocket_allow_publish on;
            push_stream_allow_connections_to_events_channel on;
            push_stream_message_template '{"channel":"~channel~","id":~id~,"text":"~text~","event":"~event-id~~event-type~"}';
        }
        location /store  { push_stream_subscriber websocket; push_stream_websocket_allow_publish on; push_stream_store_messages on; }
        location /parting { push_stream_subscriber websocket; push_stream_websocket_allow_publish on; }
        location /mute   { push_stream_subscriber websocket; }
        location /sub    { push_stream_subscriber; push_stream_message_template "~id~:~text~;"; }
        location /stats  { push_stream_channels_statistics; }
    }
EOC
my ($here, $there) = $t->worker_pids;
my $is = sub { my ($channel, $id, $text) = @_; return qq({"channel":"$channel","id":$id,"text":"$text","event":""}) };

# the example of the manual
my $ws = $t->websocket('/ws/b/a', worker => $here);
my $other = $t->subscribe('/sub?id=a', worker => $there);
$ws->send_raw("\x81\x83\x11\x22\x33\x44\x5e\x4e\x52");
is($ws->text, $is->('b', 1, 'Ola'), 'first the first channel');
is($ws->text, $is->('a', 1, 'Ola'), 'then the second');
is($other->next_chunk, '1:Ola;', 'and to others, in another worker');
for my $n (2 .. 50) { $ws->send_text("m$n") }
my @wrong = grep { $_->[0] ne $_->[1] } map { my $n = $_; map { [ $ws->text, $is->($_, $n, "m$n") ] } qw(b a) } 2 .. 50;
is(scalar @wrong, 0, 'the order holds for many') or diag explain $wrong[0];
is($other->next_chunk, "$_:m$_;", 'each once') for 2 .. 50;

# no acknowledgement, no storing, no ids
ok($t->quiet_for($ws, 0.2), 'nothing else comes back');
is($t->stats('/stats?id=a')->{stored_messages}, 0, 'nothing is stored where that is off');
$ws->send_text('');
$ws->send_text('next');
is($ws->text, $is->('b', 51, 'next'), 'empty text is nothing');
$ws->text;

# stored where that is on
my $store = $t->websocket('/store?id=s');
$store->send_text('kept');
is($store->text, 'kept', 'published');
is($t->stats('/stats?id=s')->{stored_messages}, 1, 'and stored');
is($t->websocket('/mute?id=s.b1')->text, 'kept', 'for those who come later');

# where it is off
my $mute = $t->websocket('/mute?id=a');
$mute->send_text('never')->send_frame(9, 'p', mask => 'mmmm');
is($mute->raw, '8a0170', 'text is read and ignored');
is($t->stats('/stats?id=a')->{published_messages}, 51, 'and not published');

# the events channel is skipped silently
my $events = $t->websocket('/ws/ev/c/ev');
$events->send_text('for c');
my @got;
$t->wait_for(sub { push @got, $events->text; $got[-1] =~ /for c/ }, 'the message');
is((grep { /for c/ } @got)[0], $is->('c', 1, 'for c'), 'published to the other channel');
my $only = $t->websocket('/ws/ev');
$only->send_text('for nobody')->send_frame(9, 'p', mask => 'mmmm');
my $frame;
do { $frame = $only->frame } until !$frame || $frame->{opcode} == 10;
is($frame && $frame->{payload}, 'p', 'alone it takes nothing and complains of nothing');
is($t->stats->{published_messages} > 0 && $t->stats('/stats?id=c')->{published_messages}, 1, 'once');

# a channel that was deleted is no channel of the connection any more
my $two = $t->websocket('/ws/d/e');
$t->delete('/pub?id=d');
like($two->text, qr/"channel":"d","id":-2/, 'one of two is deleted');
$two->send_text('left');
is($two->text, $is->('e', 1, 'left'), 'the other one is published to');
is($t->stats('/stats?id=d'), undef, 'the deleted one is not created again');

# four connections that talk to each other
my @four = map { $t->websocket('/mute?id=t', worker => $_ % 2 ? $here : $there) } 1 .. 3;
my $speaker = $t->websocket('/store?id=t');
$speaker->send_text("word $_") for 1 .. 20;
for my $listener (@four, $speaker) {
    is(join(',', map { $listener->text } 1 .. 20), join(',', map { "word $_" } 1 .. 20), 'all hear all');
}

# A worker that has much to hand out, and a client that sends its message and a close frame together.
my $parting = $t->websocket('/parting?id=p', worker => $here);
my @listeners = map { $t->subscribe("/sub?id=$_", worker => $here) } my @channels = map { "p$_" } 1 .. 100;
my $pub = $t->client(worker => $there);
$t->freeze($here);
is($t->publish('/pub?id=' . join('/', @channels), 'news', client => $pub)->status, 200, 'news for a hundred others');
$parting->send_text('own')->send_frame(8, pack('n', 1000), mask => 'mmmm');
$t->thaw($here);
is($parting->text, 'own', 'a client that goes gets its own message before that');
is($parting->raw, $parting->can('close_hex')->(1000), 'and then the answer to its close frame');
is($_->next_chunk, '1:news;', 'the others get theirs') for @listeners;

$t->done();
