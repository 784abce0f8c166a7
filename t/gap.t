# A subscriber that asks for old messages and cannot get all of them is told, in every mode; nobody else is.
#
# Proves protocol.md: gaps, cors.
# Proves directives.md: variables ($push_stream_gap).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    log_format gap "$uri?$args gap=$push_stream_gap;";
    access_log %%TESTDIR%%/access.log gap;
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_max_messages_stored_per_channel 3;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher admin; push_stream_store_messages on; }
        location /pass  { push_stream_publisher; push_stream_store_messages off; }
        location /sub   { push_stream_subscriber; }
        location /zip   { push_stream_subscriber; push_stream_force_filters on; gzip on; gzip_types *; }
        location /sse   { push_stream_subscriber eventsource; }
        location /poll  { push_stream_subscriber polling; }
        location /lp    { push_stream_subscriber long-polling; push_stream_longpolling_connection_ttl 100ms; }
        location /wait  { push_stream_subscriber long-polling; }
        location /ws    { push_stream_subscriber websocket; }
        location /cors  { push_stream_subscriber; push_stream_allowed_origins "*"; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

my $GAP = 'X-Nginx-PushStream-Gap';

# What the answer says, in each mode; one word if all say the same. Each answer is read up to its end or its head.
sub told {
    my ($path, @headers) = @_;
    my %told;
    for my $mode (qw(sub zip sse)) {
        my $s = $t->subscribe("/$mode?id=$path", @headers);
        $told{$mode} = $s->header($GAP) // 'none';
        $s->close;
    }
    for my $mode (qw(poll lp)) {
        $told{$mode} = $t->get("/$mode?id=$path", @headers)->header($GAP) // 'none';
    }
    my $ws = $t->websocket("/ws?id=$path", @headers)->wait_subscribed;
    $told{ws} = $ws->status == 101 ? $ws->header($GAP) // 'none' : 'refused';
    $ws->close;
    my %words = reverse %told;
    return (keys %words)[0] if keys %words == 1;
    return join ' ', map { "$_=$told{$_}" } sort keys %told;
}

# Time and tag of the newest message of a channel, as headers.
sub place {
    my ($id) = @_;
    my $answer = $t->get("/poll?id=$id.b1");
    return ('If-Modified-Since' => $answer->header('Last-Modified'), 'If-None-Match' => $answer->header('Etag'));
}

my $past = 'Sun, 06 Nov 1994 08:49:37 GMT';

# nothing is missing, or nothing is asked for
is(told('new', 'If-Modified-Since' => $past), 'none', 'a channel that is new');
$t->publish('/pub?id=a', $_, 'Event-Id' => "e$_") for 1 .. 2;
my @second = place('a');
is(told('a', 'If-Modified-Since' => $past), 'none', 'all are there');
is(told('a', 'Last-Event-Id' => 'e1'), 'none', 'the event id is there');
is(told('a', @second), 'none', 'it has the last message');

# newer messages push out older ones
$t->publish('/pub?id=a', $_, 'Event-Id' => "e$_") for 3 .. 5;
is(told('a', @second), 'none', 'it has the newest one that was pushed out');
is(told('a', 'Last-Event-Id' => 'e3'), 'none', 'the event id is stored still');
is(told('a', 'If-Modified-Since' => $past), 'evicted', 'it has none of them');
is(told('a', 'Last-Event-Id' => 'e2'), 'unknown', 'the message with the event id was pushed out');
is(told('a', 'Last-Event-Id' => 'other'), 'unknown', 'nobody has published that event id');
is(told('a', 'Last-Event-Id' => 'other', @second), 'none', 'the time says that nothing is missing');
is(told('a'), 'none', 'it asks for nothing old');
is(told('a', 'If-None-Match' => 'W/7'), 'none', 'a tag alone asks for nothing');
is(told('a.b9', 'If-Modified-Since' => $past), 'none', 'a backtrack asks for what is there');
$t->publish('/pub?id=a', 6);
is(told('a', @second), 'evicted', 'one more is pushed out');

# published without being stored
my @sixth = place('a');
$t->publish('/pass?id=a', 'passed');
is(told('a', @sixth), 'unstored', 'a message was not stored');
$t->publish('/pub?id=a', 7);
is(told('a', @sixth), 'unstored', 'and newer ones do not make that good');
is(told('a', place('a')), 'none', 'it has a newer one');

# several channels
$t->publish('/pub?id=b', 'b', 'Event-Id' => 'b1');
is(told('b/a', 'If-Modified-Since' => $past), 'unstored', 'the second channel lacks some');
is(told('a/b', 'Last-Event-Id' => 'b1'), 'none', 'one of the channels has the event id');
is(told('a/b', 'Last-Event-Id' => 'b2'), 'unknown', 'none has it');

# a channel that was deleted, and made again
$t->publish('/pub?id=d', $_) for 1 .. 2;
my @last = place('d');
$t->delete('/pub?id=d');
is(told('d', @last), 'none', 'it has had all of the deleted channel');
is(told('d', 'If-Modified-Since' => $past), 'unknown', 'it has not');
$t->publish('/pub?id=d', 3);
is(told('d', 'If-Modified-Since' => $past), 'unknown', 'also when there are new messages');
is(told('d', @last), 'none', 'it has had the others, and gets the new one');

# a poll that waits is told when it is answered
$t->publish('/pass?id=w', 'passed');
my $poll = $t->poll('/wait?id=w&told', 'If-Modified-Since' => $past);
$t->wait_subscribers('/stats?id=w', 1);
is($poll->client->buffered, '', 'it waits');
$t->publish('/pub?id=w', 'live');
is($poll->status, 200, 'a message answers it');
is($poll->header($GAP), 'unstored', 'and the gap is told');
my $over = $t->get('/lp?id=w&over', 'If-Modified-Since' => $t->http_date(time + 1000));
is($over->status . ($over->header($GAP) // ''), '304', 'no gap, no header');
my $none = $t->get('/lp?id=x&over', place('d'));
is($none->status . ($none->header($GAP) // ''), '304', 'a 304 without');
$t->publish('/pass?id=y', 'passed');
my $late = $t->get('/poll?id=y', 'If-Modified-Since' => $past);
is($late->status . ' ' . ($late->header($GAP) // ''), '304 unstored', 'a 304 with');
$late = $t->get('/lp?id=y', 'If-Modified-Since' => $past);
is($late->status . ' ' . ($late->header($GAP) // ''), '304 unstored', 'one that has waited');

# pages of other origins may read it
my $cors = $t->subscribe('/cors?id=a', 'If-Modified-Since' => $past);
is($cors->header('Access-Control-Expose-Headers'), $GAP, 'it is exposed');
$cors = $t->subscribe('/cors?id=a');
is($cors->header('Access-Control-Expose-Headers'), undef, 'only if there is one');

# the log
sub line {
    my ($uri) = @_;
    my $line;
    $t->wait_for(sub {
        open my $file, '<', $t->dir . '/access.log' or return 0;
        ($line) = grep { index($_, "$uri ") == 0 } <$file>;
        return defined $line && $line =~ /;$/;
    }, "a line about $uri");
    return $line =~ s/.* gap=(.*);\n?\z/$1/r;
}
is(line('/wait?id=w&told'), 'unstored', 'a poll in the log');
is(line('/lp?id=x&over'), '-', 'one that misses nothing');
for my $mode (qw(sub sse)) {
    my $s = $t->subscribe("/$mode?id=a&log", 'If-Modified-Since' => $past);
    $s->close;
    is(line("/$mode?id=a&log"), 'unstored', "$mode in the log");
}
my $ws = $t->websocket('/ws?id=a&log', 'If-Modified-Since' => $past)->wait_subscribed;
$ws->close;
is(line('/ws?id=a&log'), 'unstored', 'a WebSocket in the log');

$t->done();
