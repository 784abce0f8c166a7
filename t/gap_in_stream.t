# With push_stream_cursor on, a subscriber that lacks messages is told in its stream too, ahead of all messages.
#
# Proves protocol.md: gaps-told-in-the-stream, templates, messages-as-json, jsonp.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_max_messages_stored_per_channel 3;
    push_stream_cursor on;
    push_stream_message_template '[~id~ ~channel~ ~event-type~ ~text~]';
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher admin; push_stream_store_messages on; }
        location /pass  { push_stream_publisher; push_stream_store_messages off; }
        location /sub   { push_stream_subscriber; push_stream_header_template '<head>'; }
        location /zip   { push_stream_subscriber; push_stream_force_filters on; push_stream_header_template '<head>'; }
        location /sse   { push_stream_subscriber eventsource; push_stream_retry 1s; }
        location /poll  { push_stream_subscriber polling; }
        location /lp    { push_stream_subscriber long-polling; push_stream_longpolling_connection_ttl 30s; }
        location /short { push_stream_subscriber long-polling; push_stream_longpolling_connection_ttl 100ms; }
        location /ws    { push_stream_subscriber websocket; }
        location /json/ {
            push_stream_message_format json;
            location /json/sub  { push_stream_subscriber; }
            location /json/sse  { push_stream_subscriber eventsource; }
            location /json/poll { push_stream_subscriber polling; }
            location /json/ws   { push_stream_subscriber websocket; }
        }
        location /off/ {
            push_stream_cursor off;
            location /off/sub  { push_stream_subscriber; push_stream_header_template '<head>'; }
            location /off/sse  { push_stream_subscriber eventsource; }
            location /off/poll { push_stream_subscriber polling; }
            location /off/ws   { push_stream_subscriber websocket; }
        }
        location /stats { push_stream_channels_statistics; }
    }
EOC

my $HEADER = 'X-Nginx-PushStream-Cursor';
my $GAP = 'X-Nginx-PushStream-Gap';

# The text of a gap.
sub gap {
    my ($channel, $reason, $missed) = @_;
    return sprintf '{"channel":"%s","reason":"%s","missed":%s}', $channel, $reason, $missed // 'null';
}

# The same as a message.
sub told { return "[-4 $_[0] gap " . gap(@_) . ']' }

# A cursor of now.
sub place { return $t->get("/poll?id=$_[0]")->header($HEADER) }

# Five messages of which three are stored, and a client that has the first one.
$t->publish('/pub?id=a', 'm1');
my @from = ('Last-Event-Id' => place('a'));
$t->publish('/pub?id=a', "m$_") for 2 .. 5;
my $told = told('a', 'evicted', 1);
my $old = join '', map { "[$_ a  m$_]" } 3 .. 5;

for my $mode (qw(sub zip)) {
    my $s = $t->subscribe("/$mode?id=a", @from);
    is($s->read_until(qr/m5\]/), "<head>$told$old", "$mode: the gap comes first");
    is($s->header($GAP), 'evicted', "$mode: and in the header");
    $s->close;
}
my $ws = $t->websocket('/ws?id=a', @from)->wait_subscribed;
is($ws->text, $told, 'websocket: the gap is a text frame');
is($ws->text, '[3 a  m3]', 'the messages follow');
$ws->close;
for my $mode (qw(poll lp short)) {
    my $answer = $t->get("/$mode?id=a", @from);
    is($answer->body, "$told$old", "$mode: the gap comes first");
    my $jsonp = $t->get("/$mode?id=a&callback=cb", @from);
    is($jsonp->body, 'cb([' . join(',', $told, $old =~ /\[.*?\]/g) . ']);', "$mode: as an element of JSONP");
}

# An event stream: a type of its own and no id, ahead of the first id.
my $sse = $t->subscribe('/sse?id=a', @from);
my ($event, $id, $rest) = $sse->read_until(qr/ m5\]\n\n/) =~ /\A: \n(.*?\n\n)retry: \d+\nid: (.*?)\n\n(.*)\z/s;
is($event, 'event: gap' . "\n" . 'data: ' . gap('a', 'evicted', 1) . "\n\n", 'eventsource: the gap');
like($rest, qr/\Aid: .*\ndata: \[3 a  m3\]\n\n/, 'the messages follow');
my $again = $t->get('/poll?id=a', 'Last-Event-Id' => $id);
is($again->body . ($again->header($GAP) // ''), $old, 'the first id is behind the gap');
$sse->close;

# Without a gap there is none.
my $none = $t->subscribe('/sub?id=a', 'Last-Event-Id' => $id);
is($none->read_until(qr/m5\]/), "<head>$old", 'who lacks nothing is told nothing');
$none->close;
$none = $t->subscribe('/sub?id=a.b1');
is($none->read_until(qr/m5\]/), '<head>[5 a  m5]', 'nor who asks for nothing');
$none->close;

# As JSON.
my $text = gap('a', 'evicted', 1) =~ s/"/\\"/gr;
my $object = qq({"id":-4,"channel":"a","cursor":null,"time":0,"tag":0,"event_id":null,"event_type":"gap","text":"$text"});
my $placed = qr/\{"id":-4,"channel":"a","cursor":"p[^"]*","time":\d+,"tag":\d+,"event_id":null,"event_type":"gap","text":"\Q$text\E"\}/;
my $s = $t->subscribe('/json/sub?id=a', @from);
like($s->read_until(qr/"m5"\}\n/), qr/\A$placed\n\{"id":3,/, 'streaming: an object on a line of its own');
$s->close;
$s = $t->subscribe('/json/sse?id=a', @from);
like($s->read_until(qr/"m5"\}\n\n/), qr/\A: \nevent: gap\ndata: \Q$object\E\n\nid: \S+\n\nid: \S+\ndata: \{"id":3,/, 'eventsource: the data');
$s->close;
$ws = $t->websocket('/json/ws?id=a', @from)->wait_subscribed;
like($ws->text, qr/\A$placed\z/, 'websocket: a frame');
$ws->close;
like($t->get('/json/poll?id=a', @from)->body, qr/\A\Q$object\E\n\{"id":3,/, 'polling: the first line');

# Several channels: each that lacks something.
$t->publish('/pub?id=b', 'b1');
$t->publish('/pass?id=c', 'c1');
my @all = ('Last-Event-Id' => $from[1]);
my $several = told('a', 'evicted', 1) . told('c', 'unstored', 1);
is($t->get('/poll?id=a/b/c', @all)->body, "$several${old}[1 b  b1]", 'one for each channel that lacks something');
$s = $t->subscribe('/sub?id=b/c/a', @all);
is($s->read_until(qr/b1\]/), '<head>' . told('c', 'unstored', 1) . told('a', 'evicted', 1) . "${old}[1 b  b1]", 'in the order of the path');
is($s->header($GAP), 'unstored', 'the header has the first one');
$s->close;

# Nothing is stored behind the place: a poll that names one is answered at once.
my @c = ('Last-Event-Id' => $from[1]);
for my $mode (qw(poll lp)) {
    my $answer = $t->get("/$mode?id=c", @c);
    is($answer->status . ' ' . $answer->body, '200 ' . told('c', 'unstored', 1), "$mode: the gap alone");
    my $next = $t->get('/poll?id=c', 'Last-Event-Id' => $answer->header($HEADER));
    is($next->status . ($next->header($GAP) // ''), '304', "$mode: its place is behind the gap");
    $next = $t->get('/poll?id=c', 'If-Modified-Since' => $answer->header('Last-Modified'), 'If-None-Match' => $answer->header('Etag'));
    is($next->status . ($next->header($GAP) // ''), '304', "$mode: by time and tag as well");
}
$sse = $t->subscribe('/sse?id=c', @c);
($id) = $sse->read_until(qr/\nid: .*\n\n/) =~ /event: gap\n.*\n\nretry: \d+\nid: (.*)\n/;
is($t->get('/poll?id=c', 'Last-Event-Id' => $id)->header($GAP), undef, 'a browser comes back with a place behind the gap');
$sse->close;

# A poll with an event id that is not there waits, and is told with whatever answers it.
my @unknown = ('Last-Event-Id' => 'other');
my $poll = $t->poll('/lp?id=live', @unknown);
my $jsonp = $t->poll('/lp?id=live&callback=cb', @unknown);
$t->wait_subscribers('/stats?id=live', 2);
$t->publish('/pub?id=live', 'now');
$told = told('live', 'unknown');
is($poll->body, $told . '[1 live  now]', 'a poll that has waited');
is($jsonp->body, "cb([$told,[1 live  now]]);", 'in a callback');
my $over = $t->get('/short?id=live', @unknown);
is($over->status . ' ' . $over->body, "200 $told", 'a poll whose time is over');
is($t->get('/poll?id=live/b', @unknown)->body, $told . told('b', 'unknown'), 'each channel lacks it');

# Where it is off, nothing is told but by the header.
@from = ('If-Modified-Since' => 'Sun, 06 Nov 1994 08:49:37 GMT');
for my $mode (qw(sub sse poll ws)) {
    my $s = $mode eq 'ws' ? $t->websocket("/off/ws?id=a", @from)->wait_subscribed : $t->subscribe("/off/$mode?id=a", @from);
    is($s->header($GAP), 'evicted', "off: $mode has the header");
    my $first = $mode eq 'ws' ? $s->text : $s->read_until(qr/m5\]/);
    unlike($first, qr/-4|gap/, "off: $mode has nothing else");
    $s->close;
}

$t->done();
