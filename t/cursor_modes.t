# With push_stream_cursor on each mode tells its clients a place, and they come back with it, in whatever mode.
#
# Proves protocol.md: cursors, cors, resuming.
# Proves directives.md: push_stream_cursor, push_stream_last_event_id, templates.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Cursor qw(make parse);

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_store_messages on;
    push_stream_cursor on;
    push_stream_timeout_with_body on;
    push_stream_message_template '[~text~ ~cursor~]';
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher admin; }
        location /sub   { push_stream_subscriber; push_stream_ping_message_interval 100ms; }
        location /zip   { push_stream_subscriber; push_stream_force_filters on; }
        location /sse   { push_stream_subscriber eventsource; push_stream_message_template '~text~ ~event-id~ ~cursor~'; }
        location /poll  { push_stream_subscriber polling; }
        location /lp    { push_stream_subscriber long-polling; }
        location /over  { push_stream_subscriber long-polling; push_stream_longpolling_connection_ttl 100ms; }
        location /ws    { push_stream_subscriber websocket; }
        location /json  { push_stream_subscriber polling; push_stream_message_format json; }
        location /arg   { push_stream_subscriber polling; push_stream_last_event_id $arg_last; }
        location /cors  { push_stream_subscriber polling; push_stream_allowed_origins "*"; }
        location /off/  {
            push_stream_cursor off;
            location /off/sse  { push_stream_subscriber eventsource; push_stream_message_template '~text~ ~cursor~'; }
            location /off/poll { push_stream_subscriber polling; }
            location /off/json { push_stream_subscriber polling; push_stream_message_format json; }
        }
        location /stats { push_stream_channels_statistics; }
    }
EOC

my $CURSOR = qr/p[A-Za-z0-9_-]{44}/;
my $HEADER = 'X-Nginx-PushStream-Cursor';
my $GAP = 'X-Nginx-PushStream-Gap';
my $past = 'Sun, 06 Nov 1994 08:49:37 GMT';

$t->publish('/pub?id=a', "m$_", 'Event-Id' => "e$_") for 1 .. 4;

# A poll, and the cursors of all messages.
my $all = $t->get('/poll?id=a', 'If-Modified-Since' => $past);
my @cursors = $all->body =~ /\[m\d ($CURSOR)\]/g;
is(scalar @cursors, 4, 'each message has a cursor');
is($all->header($HEADER), $cursors[3], 'the answer tells the place of the last one');
my ($life) = map { $_->{life} } parse($cursors[0]);
is(scalar(grep { parse($_)->{life} == $life } @cursors), 4, 'all of one zone');

# From the second message on, in each mode.
my @from = ('Last-Event-Id' => $cursors[1]);
my @ignored = ('If-Modified-Since' => $past, 'If-None-Match' => 'W/1');
for my $mode (qw(poll lp arg)) {
    for my $more ([], \@ignored) {
        my @how = $mode eq 'arg' ? ("/arg?id=a&last=$cursors[1]", @$more) : ("/$mode?id=a", @from, @$more);
        my $answer = $t->get(@how);
        is($answer->body, "[m3 $cursors[2]][m4 $cursors[3]]", "$mode goes on from a cursor" . (@$more ? ', which says all' : ''));
        is($answer->header($HEADER), $cursors[3], "$mode: and tells the next one");
        is($answer->header($GAP), undef, "$mode: no gap");
    }
}
for my $mode (qw(sub zip)) {
    my $s = $t->subscribe("/$mode?id=a", @from);
    is($s->read_until(qr/m4.*?\]/), "[m3 $cursors[2]][m4 $cursors[3]]", "$mode goes on from a cursor");
    is($s->header($HEADER), undef, "$mode: no header");
    $s->close;
}
my $ws = $t->websocket('/ws?id=a', @from)->wait_subscribed;
is($ws->text, "[m3 $cursors[2]]", 'websocket goes on from a cursor');
is($ws->text, "[m4 $cursors[3]]", 'with the next one');
$ws->close;
my $sse = $t->subscribe('/sse?id=a', @from);
is($sse->read_until(qr/m4.*\n\n/),
    ": \nid: $cursors[1]\n\nid: $cursors[2]\ndata: m3 e3 $cursors[2]\n\nid: $cursors[3]\ndata: m4 e4 $cursors[3]\n\n",
    'an event stream begins with its place, and each event has one');
$sse->close;

# A backtrack is for those who have nothing yet.
is($t->get('/poll?id=a.b1', @from)->body, "[m3 $cursors[2]][m4 $cursors[3]]", 'a cursor goes before a backtrack');
my $one = $t->subscribe('/sse?id=a.b1');
my ($before, $event) = $one->read_until(qr/m4.*\n\n/) =~ /\A: \nid: ($CURSOR)\n\n(.*)\z/s;
is($event, "id: $cursors[3]\ndata: m4 e4 $cursors[3]\n\n", 'the last message');
is($t->get('/poll?id=a', 'Last-Event-Id' => $before)->body, "[m4 $cursors[3]]", 'the first place lies before it');
$one->close;

# Old messages that lie before the client's own place: the stream begins before them.
my $later = $all->header('Last-Modified');
for ([ 'a.b2', [], 1 ], [ 'a.b2/x', [], 1 ], [ 'a', [ 'Last-Event-Id' => 'e1' ], 0 ], [ 'x/a', [ 'Last-Event-Id' => 'e1' ], 0 ]) {
    my ($ids, $more, $had) = @$_;
    my $stream = $t->subscribe("/sse?id=$ids", 'If-Modified-Since' => $later, @$more);
    my ($begin) = $stream->read_until(qr/m4.*\n\n/) =~ /\A: \nid: ($CURSOR)\n\n/;
    my @got = $t->get('/poll?id=a', 'Last-Event-Id' => $begin)->body =~ /\[(m\d) /g;
    is("@got", join(' ', map { "m$_" } $had + 2 .. 4), "$ids @$more: from its beginning it gets all that follow");
    $stream->close;
}

# An event id that is no cursor is one still.
is($t->get('/poll?id=a', 'Last-Event-Id' => 'e3')->body, "[m4 $cursors[3]]", 'an event id of the publisher');

# Answers without a message.
my $none = $t->get('/poll?id=a');
is($none->status . ' ' . $none->header($HEADER), "304 $cursors[3]", 'a 304 of a client that says nothing');
$none = $t->get('/poll?id=a', 'Last-Event-Id' => $cursors[3]);
is($none->status . ' ' . $none->header($HEADER), "304 $cursors[3]", 'a 304 of one that has all');
is($none->header('Etag'), $all->header('Etag'), 'with the old names of that place');
my $empty = $t->get('/poll?id=other', 'Last-Event-Id' => $cursors[0]);
my ($last, $zone) = map { parse($_) } $cursors[3], $empty->header($HEADER);
is($empty->status . " $zone->{time} $zone->{tag}", "304 $last->{time} $last->{tag}", 'the place is one of the zone');
my $over = $t->get('/over?id=a', 'Last-Event-Id' => $cursors[3]);
is($over->body, '[Timed out ]', 'a message that has no place');
like($over->header($HEADER), qr/\A$CURSOR\z/, 'but the answer has one');
$t->publish('/pub?id=a', 'm5');
my ($m5) = $t->get('/poll?id=a', 'Last-Event-Id' => $over->header($HEADER))->body =~ /\A\[m5 ($CURSOR)\]\z/;
ok($m5, 'from which it gets what comes next');
$cursors[4] = $m5;

# Live messages.
my $poll = $t->poll('/lp?id=live');
my $stream = $t->subscribe('/sub?id=live');
my $events = $t->subscribe('/sse?id=live');
is($events->read_until(qr/id: .*\n\n/), ": \nid: " . $t->get('/poll?id=live')->header($HEADER) . "\n\n", 'before the first message');
$ws = $t->websocket('/ws?id=live')->wait_subscribed;
$t->wait_subscribers('/stats?id=live', 4);
$t->publish('/pub?id=live', 'now');
my ($now) = $poll->body =~ /\A\[now ($CURSOR)\]\z/;
is($poll->header($HEADER), $now, 'a poll that has waited');
like($stream->read_until(qr/now.*?\]/), qr/\[now \Q$now\E\]\z/, 'a stream');
is($ws->text, "[now $now]", 'a WebSocket');
is($events->read_until(qr/now.*\n\n/), "id: $now\ndata: now  $now\n\n", 'an event stream');
like($stream->read_until(qr/\[  \]/), qr/\[  \]/, 'a ping has no place');
$t->delete('/pub?id=live', body => 'gone');
is($events->read_until(qr/gone.*\n\n/), "data: gone  \n\n", 'nor has a deletion');

# JSON
my $json = $t->get('/json?id=a', 'Last-Event-Id' => $cursors[2]);
like($json->body, qr/"id":4,"channel":"a","cursor":"\Q$cursors[3]\E","time":\d+,"tag":\d+,/, 'the member cursor');

# Other origins may read it.
my $cors = $t->get('/cors?id=a', 'Last-Event-Id' => $cursors[4]);
is($cors->header('Access-Control-Expose-Headers'), $HEADER, 'the header is exposed');
my $other = make(%{ parse($cursors[4]) }, life => $life ^ 1);
$cors = $t->get('/cors?id=a', 'Last-Event-Id' => $other);
is($cors->header('Access-Control-Expose-Headers'), "$GAP, $HEADER", 'both are');

# What is no place in this zone. All others that are none: see cursor_altered.t.
my $place = parse($cursors[3]);
my %gaps = (
    make(%$place, life => $place->{life} ^ 1)   => 'restarted',
    make(%$place, time => (1 << 40) - 1)         => 'unknown',
    make(%$place, tag => 0xffffffff)            => 'unknown',
    "$cursors[3]x"                              => 'unknown',
    'p' . '1' x 1500                            => 'unknown',
);
for my $bad (sort keys %gaps) {
    my $name = substr $bad, 0, 50;
    for my $mode (qw(sub sse ws poll)) {
        my ($gap, $rest);
        if ($mode eq 'ws') {
            my $s = $t->websocket('/ws?id=a', 'Last-Event-Id' => $bad)->wait_subscribed;
            $gap = $s->header($GAP);
            $s->close;
        }
        elsif ($mode eq 'poll') {
            my $answer = $t->get('/poll?id=a', 'Last-Event-Id' => $bad);
            ($gap, $rest) = ($answer->header($GAP), $answer->body);
        }
        else {
            my $s = $t->subscribe("/$mode?id=a", 'Last-Event-Id' => $bad);
            $gap = $s->header($GAP);
            $rest = $s->so_far;
            $s->close;
        }
        is($gap, $gaps{$bad}, "$mode: $name");
        unlike($rest // '', qr/m\d /, "$mode: no old message") if defined $rest;
    }
}
my $after = $t->subscribe('/sse?id=a', 'Last-Event-Id' => $other);
my ($begins) = $after->read_until(qr/id: .*\n\n/) =~ /id: (.*)\n/;
$t->publish('/pub?id=a', 'm6');
like($after->read_until(qr/m6.*\n\n/), qr/m6/, 'live messages follow');
like($t->get('/poll?id=a', 'Last-Event-Id' => $begins)->body, qr/\A\[m6 $CURSOR\]\z/, 'and it knows a place of this zone');

# Where it is off, all is as it was.
my $off = $t->get('/off/poll?id=a', 'If-Modified-Since' => $past);
like($off->body, qr/\A(?:\[m\d \])+\z/, 'the word is empty');
is($off->header($HEADER), undef, 'no header');
like($t->get('/off/json?id=a.b1')->body, qr/"cursor":null/, 'null');
my $old = $t->subscribe('/off/sse?id=a.b2');
is($old->read_until(qr/m6.*\n\n/), ": \ndata: m5 \n\ndata: m6 \n\n", 'ids are those of the publisher');
$off = $t->get('/off/poll?id=a', 'Last-Event-Id' => $cursors[1]);
is($off->status . ' ' . $off->header($GAP), '304 unknown', 'a cursor is an event id that is not there');

$t->done();
