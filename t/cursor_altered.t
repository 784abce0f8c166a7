# A cursor that is cut off, altered, of another server, of the future or much too long: no error, no old message, a gap that
# is told, and live messages.
#
# Proves protocol.md: cursors, gaps; directives.md: push_stream_last_event_id.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Cursor qw(make parse);

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_store_messages on;
    push_stream_cursor on;
    push_stream_message_template '[~id~ ~text~]';
    large_client_header_buffers 4 16k;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub  { push_stream_publisher admin; }
        location /sub  { push_stream_subscriber; push_stream_header_template '<head>'; }
        location /sse  { push_stream_subscriber eventsource; }
        location /poll { push_stream_subscriber polling; }
        location /lp   { push_stream_subscriber long-polling; push_stream_longpolling_connection_ttl 30s; }
        location /ws   { push_stream_subscriber websocket; }
        location /arg/ {
            push_stream_last_event_id $arg_last;
            location /arg/sub  { push_stream_subscriber; push_stream_header_template '<head>'; }
            location /arg/sse  { push_stream_subscriber eventsource; }
            location /arg/poll { push_stream_subscriber polling; }
            location /arg/lp   { push_stream_subscriber long-polling; }
            location /arg/ws   { push_stream_subscriber websocket; }
        }
        location /stats { push_stream_channels_statistics; }
    }
EOC

my $HEADER = 'X-Nginx-PushStream-Cursor';
my $GAP = 'X-Nginx-PushStream-Gap';

# A message of somebody else, and three of ours, of which the first is what the client has had.
$t->publish('/pub?id=other', 'secret');
$t->publish('/pub?id=a', 'one', 'Event-Id' => 'e1');
my $cursor = $t->get('/poll?id=a')->header($HEADER);
my $place = parse($cursor) or die 'a cursor';
is(make(%$place), $cursor, 'the test knows how cursors are made');
is(length $cursor, 45, 'all have one length');
$t->publish('/pub?id=a', $_) for qw(two three);
is($t->get('/poll?id=a', 'Last-Event-Id' => $cursor)->body, '[2 two][3 three]', 'the cursor itself');

sub told { return qq([-4 {"channel":"a","reason":"$_[0]","missed":null}]) }

# What a client with this word gets in a mode: the reason of the gap, and what has come. A word as argument, or as header.
sub asked {
    my ($mode, $word, $as_argument) = @_;
    my $escaped = $word =~ s/([^A-Za-z0-9_-])/sprintf '%%%02x', ord $1/ger;
    my @how = $as_argument ? "/arg/$mode?id=a&last=$escaped" : ("/$mode?id=a", 'Last-Event-Id' => $word);
    return $t->websocket(@how)->wait_subscribed if $mode eq 'ws';
    return $mode =~ /sub|sse/ ? $t->subscribe(@how) : $t->get(@how);
}

# Polling in all ways, which is quick.
my %bad;
sub poll {
    my ($word, $reason, $why) = @_;
    for my $as_argument (0, 1) {
        my $answer = asked('poll', $word, $as_argument);
        my $got = join ' ', $answer->status, $answer->header($GAP) // 'none', $answer->body;
        my $way = $as_argument ? 'argument' : 'header';
        push @{ $bad{$why} }, "$way $word: $got" if $got ne "200 $reason " . told($reason);
    }
    return;
}

poll(substr($cursor, 0, $_), 'unknown', 'cut off') for 1 .. 44;
poll(substr($cursor, $_), 'unknown', 'its end only') for 1 .. 44;
for my $at (0 .. 44) {
    for my $flip (1, 2, 32) {
        my $altered = $cursor;
        substr($altered, $at, 1) ^= chr $flip;
        poll($altered, 'unknown', 'altered') if $altered !~ /[\0-\x20]/;
    }
    poll(substr($cursor, 0, $at) . 'A' . substr($cursor, $at), 'unknown', 'longer');
}
poll("$cursor$cursor", 'unknown', 'twice');
poll(lc $cursor, 'unknown', 'in lower case');
poll("$cursor;" . 'x' x 8000, 'unknown', '8 KB');
poll('p' . 'A' x 8191, 'unknown', '8 KB');
poll("$cursor, $cursor", 'unknown', 'a list');
poll('p5e1f00c0ffee1234-69fb3d37-2', 'unknown', 'something else that begins like one');
poll(make(%$place, life => $place->{life} ^ 1 << 63), 'restarted', 'of another server');
poll(make(%$place, life => $place->{life} ^ 1, id => 1 << 47), 'restarted', 'of another server');
poll(make(%$place, time => $place->{time} + 1000), 'unknown', 'of the future');
poll(make(%$place, time => (1 << 40) - 1, tag => 0xffffffff), 'unknown', 'of the future');
my $newest = parse($t->get('/poll?id=a', 'Last-Event-Id' => $cursor)->header($HEADER));
poll(make(%$newest, tag => $newest->{tag} + 1000), 'unknown', 'of the future');
for my $why ('cut off', 'its end only', 'altered', 'longer', 'twice', 'in lower case', '8 KB', 'a list',
    'something else that begins like one', 'of another server', 'of the future')
{
    is(join("\n", @{ $bad{$why} // [] }), '', $why);
}

# Some in all modes, up to a live message.
my %words = (
    'cut off'           => [substr($cursor, 0, 20), 'unknown'],
    'altered'           => [$cursor ^ "\0" x 30 . "\1", 'unknown'],
    'of another server' => [make(%$place, life => $place->{life} ^ 1), 'restarted'],
    'of the future'     => [make(%$place, time => $place->{time} + 1000), 'unknown'],
    '8 KB'              => ['p' . 'A' x 8191, 'unknown'],
);
my $count = 0;
for my $why (sort keys %words) {
    my ($word, $reason) = @{ $words{$why} };
    for my $as_argument (0, 1) {
        my $told = told($reason);
        my $text = $told =~ s/\A\[-4 (.*)\]\z/$1/r;
        my $name = "$why, " . ($as_argument ? 'argument' : 'header');
        my ($sub, $sse, $ws) = map { asked($_, $word, $as_argument) } qw(sub sse ws);
        my $live = 'live' . ++$count;
        $t->publish('/pub?id=a', $live);
        my $id = 3 + $count;
        like($sub->read_until(qr/live\d+\]/), qr/\A<head>\Q$told\E\[$id $live\]\z/, "sub: $name");
        like($sse->read_until(qr/live.*\n\n/), qr/\A: \nevent: gap\ndata: \Q$text\E\n\nid: (\S+)\n\nid: (\S+)\ndata: \[$id $live\]\n\n\z/, "sse: $name");
        is($ws->text . $ws->text, "$told\[$id $live]", "ws: $name");
        is(join(' ', map { $_->header($GAP) } $sub, $sse, $ws), "$reason $reason $reason", "header: $name");
        $_->close for $sub, $sse, $ws;
    }
}

# A long poll is answered at once if the word was a cursor, and waits if it was none.
is(asked('lp', $words{'of another server'}[0], $_)->body, told('restarted'), 'a long poll is told') for 0, 1;
my $wait = $t->poll('/lp?id=a', 'Last-Event-Id' => $words{altered}[0]);
$t->wait_subscribers('/stats?id=a', 1);
$t->publish('/pub?id=a', 'answer');
is($wait->body, told('unknown') . '[' . (4 + $count) . ' answer]', 'one that waits is told with the answer');

# A number of another channel, or one that is too large, is no number of this one. The place counts.
for my $bad ({ channel => $place->{channel} + 1 }, { id => 1 << 40 }, { channel => 0, id => 0 }) {
    like($t->get('/poll?id=a', 'Last-Event-Id' => make(%$place, %$bad))->body, qr/\A\[2 two\]\[3 three\]/, 'the place of a cursor counts');
}
my $none = make(%$place, channel => 0, id => 5);
is($t->get('/poll?id=a', 'Last-Event-Id' => $none)->header($GAP), 'unknown', 'a number of no channel is none');

# A word that looks like a cursor may be an event id of a publisher.
my $event_id = substr $cursor, 0, 30;
$t->publish('/pub?id=e', $_, 'Event-Id' => $_ eq 'two' ? $event_id : $_) for qw(one two three);
is($t->get('/poll?id=e', 'Last-Event-Id' => $event_id)->body, '[3 three]', 'an event id that begins like a cursor');

is($t->get('/poll?id=other')->status, 304, 'the server is there');
$t->done();
