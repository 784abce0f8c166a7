# A client of two channels that comes back with its last cursor, to any worker and over reloads and kills, gets each
# message once and in order.
#
# Proves protocol.md: cursors.
# Proves directives.md: push_stream_cursor.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new(workers => 2)->http(<<'EOC')->run();
    push_stream_shared_memory_size 4m;
    push_stream_channels_path $arg_id;
    push_stream_store_messages on;
    push_stream_cursor on;
    push_stream_message_template '[~text~ ~cursor~]';
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub  { push_stream_publisher; }
        location /sub  { push_stream_subscriber; }
        location /sse  { push_stream_subscriber eventsource; }
        location /poll { push_stream_subscriber polling; }
        location /lp   { push_stream_subscriber long-polling; }
        location /ws   { push_stream_subscriber websocket; }
    }
EOC

my $published = 0;

# Messages with one count, on two channels in turn.
sub publish_some {
    my ($count) = @_;
    for (1 .. $count) {
        $published++;
        $t->publish('/pub?id=' . ($published % 3 ? 'a' : 'b'), "m$published");
    }
}

my ($cursor, $had) = (undef, 0);

# What a client reads in one connection: takes all whole messages with their cursors.
sub take {
    my ($text, $what) = @_;
    my $is_right = 1;
    while ($text =~ /\[m(\d+) (p[A-Za-z0-9_-]+)\]/g) {
        $is_right &&= $1 == $had + 1;
        ($had, $cursor) = ($1, $2);
    }
    ok($is_right, "$what: each once and in order") or diag $text;
}

my $first = $t->subscribe('/sse?id=a/b');
($cursor) = $first->read_until(qr/id: .*\n\n/) =~ /id: (.*)\n/;
$first->close;

my @modes = qw(sse sub ws poll lp);
for my $round (1 .. 30) {
    my $mode = $modes[$round % @modes];
    my @from = ('Last-Event-Id' => $cursor);
    if ($mode eq 'poll' || $mode eq 'lp') {
        publish_some(5);
        my $answer = $t->get("/$mode?id=b/a", @from);
        take($answer->body, "round $round, $mode");
        is($answer->header('X-Nginx-PushStream-Cursor'), $cursor, 'the header has the last one');
        is($answer->header('X-Nginx-PushStream-Gap'), undef, 'no gap');
        is($had, $published, 'it has all');
        next;
    }
    publish_some(3);
    if ($mode eq 'ws') {
        my $ws = $t->websocket('/ws?id=a/b', @from)->wait_subscribed;
        is($ws->header('X-Nginx-PushStream-Gap'), undef, 'no gap');
        publish_some(4);
        my $text = '';
        $text .= $ws->text for $had + 1 .. $published;
        take($text, "round $round, $mode");
        $ws->close;
    }
    else {
        my $s = $t->subscribe("/$mode?id=a/b", @from);
        is($s->header('X-Nginx-PushStream-Gap'), undef, 'no gap');
        publish_some(4);
        $s->read_until(qr/\[m$published .*?\]/);
        if ($round % 2) {
            # Some more that it may read or not before its connection ends.
            publish_some(2);
            if ($round % 4 == 1) { $t->reload }
            else {
                $t->kill_worker(($t->worker_pids)[0]);
            }
        }
        take($s->so_far, "round $round, $mode");
        $s->client->abort;
    }
    cmp_ok($had, '>=', $published - 2, 'it has what it has read');
}
my $last = $t->get('/poll?id=a/b', 'Last-Event-Id' => $cursor);
take($last->body // '', 'at the end');
is($had, $published, "all $published");

# Another life.
$t->expect_log(qr/exited on signal 9/);
$t->done();
