# An event id that only one of several channels has is a place in the others, or these are told as a gap.
#
# Proves protocol.md: resuming, gaps, gaps-told-in-the-stream, cursors.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_channel_inactivity_time 1h;
    push_stream_max_messages_stored_per_channel 3;
    push_stream_message_template '[~id~ ~channel~ ~event-type~ ~text~]';
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher admin; push_stream_store_messages on; }
        location /pass  { push_stream_publisher; push_stream_store_messages off; }
        location /off/ {
            location /off/sub  { push_stream_subscriber; }
            location /off/zip  { push_stream_subscriber; push_stream_force_filters on; }
            location /off/sse  { push_stream_subscriber eventsource; }
            location /off/poll { push_stream_subscriber polling; }
            location /off/lp   { push_stream_subscriber long-polling; push_stream_longpolling_connection_ttl 30s; }
            location /off/short { push_stream_subscriber long-polling; push_stream_longpolling_connection_ttl 100ms; }
            location /off/ws   { push_stream_subscriber websocket; }
        }
        location /on/ {
            push_stream_cursor on;
            location /on/sub   { push_stream_subscriber; }
            location /on/zip   { push_stream_subscriber; push_stream_force_filters on; }
            location /on/sse   { push_stream_subscriber eventsource; }
            location /on/poll  { push_stream_subscriber polling; }
            location /on/lp    { push_stream_subscriber long-polling; push_stream_longpolling_connection_ttl 30s; }
            location /on/short { push_stream_subscriber long-polling; push_stream_longpolling_connection_ttl 100ms; }
            location /on/ws    { push_stream_subscriber websocket; }
        }
        location /stats { push_stream_channels_statistics; }
    }
EOC

my $GAP = 'X-Nginx-PushStream-Gap';
my $CURSOR = 'X-Nginx-PushStream-Cursor';
my $sent = 0;

# Publishes these texts; the first letter is the channel. The event id is the text.
sub publish {
    for my $text (@_) {
        my $id = substr $text, 0, 1;
        $t->publish("/pub?id=$id", $text, 'Event-Id' => $text);
    }
}

# Each mode tells the same, "reason: text text": the reason in the head, and what the client gets up to a live message of
# a channel that is new. A gap is its JSON.
sub is_told {
    my ($where, $path, $event, $expected, $name) = @_;
    my @from = ('Last-Event-Id' => $event);
    for my $mode (qw(sub zip sse ws)) {
        my $end = 'end' . ++$sent;
        my $uri = "/$where/$mode?id=$path/$end";
        my $s = $mode eq 'ws' ? $t->websocket($uri, @from)->wait_subscribed : $t->subscribe($uri, @from);
        $t->wait_subscribers("/stats?id=$end", 1);
        $t->publish("/pass?id=$end", 'z0');
        my $got = '';
        if ($mode eq 'ws') {
            $got .= $s->text until $got =~ /\bz0\b/;
        }
        else {
            $got = $s->read_until(qr/\bz0\]/);
        }
        is(texts($s, $got), "$expected z0", "$where, $mode: $name");
        $s->close;
    }
    for my $mode (qw(poll short)) {
        my $answer = $t->get("/$where/$mode?id=$path", @from);
        is(texts($answer, $answer->body), $expected, "$where, $mode: $name");
    }
}

sub texts {
    my ($answer, $body) = @_;
    return join ' ', ($answer->header($GAP) // 'none') . ':', $body =~ /\{.*?\}|\b[a-z]\d(?=\])/g;
}

publish(qw(a1 a2 b1 b2 a3 b3));
is_told('on', 'a/b', 'a2', 'none: b1 b2 a3 b3', 'the other channel begins there too');
is_told('on', 'b/a', 'a2', 'none: b1 b2 a3 b3', 'whatever the order of the path');
is_told('off', 'a/b', 'a2', 'unknown: a3', 'the other channel has some, and that is told');
is_told('off', 'b/a', 'a2', 'unknown: a3', 'whatever the order of the path');
for my $where (qw(on off)) {
    is_told($where, 'a/b', 'b3', 'none:', 'nothing is behind it');
    is_told($where, 'a/x', 'a2', 'none: a3', 'a channel without a message');
    is_told($where, 'a/b.b1', 'a2', 'none: a3 b3', 'a backtrack');
    is_told($where, 'a', 'a2', 'none: a3', 'one channel');
}
is_told('off', 'a/b', 'other', 'unknown:', 'no channel has it');

# A time says the place as well, and in both.
my $past = 'Sun, 06 Nov 1994 08:49:37 GMT';
my $timed = $t->get('/off/poll?id=a/b', 'Last-Event-Id' => 'a2', 'If-Modified-Since' => $past);
is(($timed->header($GAP) // 'none') . $timed->body, 'none[1 a  a1][2 a  a2][3 a  a3][1 b  b1][2 b  b2][3 b  b3]', 'all of both are behind that');

# The place of a stream that has begun so is behind them.
my $answer = $t->get('/on/poll?id=a/b', 'Last-Event-Id' => 'a2');
is($t->get('/on/poll?id=a/b', 'Last-Event-Id' => $answer->header($CURSOR))->status, 304, 'nothing is left');

# Some of the other channel are gone.
publish('b4');
my $gap = '{"channel":"b","reason":"evicted","missed":null}';
is_told('on', 'a/b', 'a2', "evicted: $gap b2 a3 b3 b4", 'one was pushed out');
is_told('off', 'a/b', 'a2', 'unknown: a3', 'the reason of others is not known');
is_told('on', 'a/b', 'a3', 'none: b3 b4', 'it was not behind the place');
$t->publish('/pass?id=c', 'c1');
$gap = '{"channel":"c","reason":"unstored","missed":1}';
is_told('on', 'a/b/c', 'b4', "unstored: $gap", 'one was not stored');
is_told('off', 'a/b/c', 'b4', 'unknown:', 'one was not stored');

# Of several channels with the event id, each begins behind its own message; others behind the oldest of them.
publish(qw(d1));
$t->publish('/pub?id=e', 'e1', 'Event-Id' => 'same');
publish(qw(d2 f1));
$t->publish('/pub?id=f', 'f2', 'Event-Id' => 'same');
publish(qw(d3 e2 f3));
is_told('on', 'd/e/f', 'same', 'none: d2 d3 e2 f3', 'several have it');
is_told('off', 'd/e/f', 'same', 'unknown: e2 f3', 'several have it');

# A long poll gets them at once, or is told when it is answered.
is($t->get('/on/lp?id=a/b', 'Last-Event-Id' => 'a3')->body, '[3 b  b3][4 b  b4]', 'on, lp: at once');
my $poll = $t->poll('/off/lp?id=a/b/live', 'Last-Event-Id' => 'a3');
$t->wait_subscribers('/stats?id=live', 1);
is($poll->client->buffered, '', 'off, lp: it waits, for it gets nothing old');
$t->publish('/pub?id=live', 'now');
is($poll->header($GAP) . $poll->body, 'unknown[1 live  now]', 'and is told with the answer');

$t->done();
