# What the metrics count, for every way of being served; and that no counter ever falls: not when workers are
# killed, and not at a reload.
#
# Proves directives.md: push_stream_metrics; promises.md: counters.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Metrics qw(scrape);

my $t = Test::Nginx::PushStream->new(workers => 2)->http(<<'EOC')->run();
    push_stream_shared_memory_size 2m;
    push_stream_wildcard_channel_prefix all_;
    push_stream_max_messages_stored_per_channel 3;
    push_stream_max_number_of_wildcard_channels 2;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher admin; push_stream_channels_path $arg_id; push_stream_store_messages on; }
        location /pass  { push_stream_publisher; push_stream_channels_path $arg_id; }
        location /sub   { push_stream_subscriber; push_stream_channels_path $arg_id; }
        location /ev    { push_stream_subscriber eventsource; push_stream_channels_path $arg_id; }
        location /ws    { push_stream_subscriber websocket; push_stream_channels_path $arg_id; push_stream_websocket_allow_publish on; }
        location /lp    { push_stream_subscriber long-polling; push_stream_channels_path $arg_id; }
        location /poll  { push_stream_subscriber polling; push_stream_channels_path $arg_id; }
        location /few   { push_stream_subscriber; push_stream_channels_path $arg_id; push_stream_authorized_channels_only on; }
        location /slow  { push_stream_subscriber; push_stream_channels_path $arg_id; push_stream_subscriber_max_buffered 64k; }
        location /wide  { push_stream_subscriber; push_stream_channels_path $arg_id; push_stream_subscriber_max_buffered 64m; }
        location /stats { push_stream_channels_statistics; push_stream_channels_path $arg_id; }
        location /metrics { push_stream_metrics on; }
    }
EOC

my %seen;

# The value of a series, after no counter has fallen.
sub all {
    my $now = scrape($t);
    for my $series (sort keys %$now) {
        next unless $series =~ /\Anginx_push_stream_\w+_(?:total|bucket|sum|count)\b/;
        fail("$series fell from $seen{$series} to $now->{$series}") if $now->{$series} < ($seen{$series} // 0);
        $seen{$series} = $now->{$series};
    }
    return $now;
}

sub of { my ($series) = @_; return all()->{"nginx_push_stream_$series"} }

sub comes_to {
    my ($series, $value, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $found;
    $t->wait_for(sub { ($found = of($series)) == $value }, $what // $series);
    is($found, $value, $what // $series);
}

# Each mode: a subscriber comes, gets an old message and a live one, and goes.
$t->publish('/pub?id=a', 'old');
my ($delivered, $replayed) = (0, 0);
for my $mode (qw(streaming eventsource websocket)) {
    my $labels = qq({mode="$mode"});
    my $subscriber = $mode eq 'websocket' ? $t->websocket('/ws?id=a.b1')
        : $t->subscribe($mode eq 'streaming' ? '/sub?id=a.b1' : '/ev?id=a.b1');
    comes_to("subscribers$labels", 1, "$mode: it is there");
    comes_to('subscriptions', 1, 'with one subscription');
    is(of("accepted_subscribers_total$labels"), 1, 'let in');
    is(of("replayed_messages_total$labels"), 1, 'with an old message');
    $t->publish('/pass?id=a', 'live');
    comes_to("delivered_messages_total$labels", 2, 'and a live one');
    cmp_ok(of("sent_bytes_total$labels"), '>', 10, 'in some bytes');
    is(of('buffered_bytes'), 0, 'nothing waits');
    $subscriber->close;
    comes_to(qq(disconnects_total{mode="$mode",reason="client"}), 1, 'it has left');
    comes_to("subscribers$labels", 0, 'and is there no more');
    comes_to('subscriptions', 0, 'nor its subscription');
}
is(of('delivery_delay_seconds_count'), 3, 'each live delivery has a delay');

my $poll = $t->poll('/lp?id=a');
comes_to('subscribers{mode="long-polling"}', 1, 'long-polling: it waits');
$t->publish('/pass?id=a', 'live');
$poll->body;
comes_to('disconnects_total{mode="long-polling",reason="answered"}', 1, 'answered');
is(of('delivered_messages_total{mode="long-polling"}'), 1, 'with one message');
is(of('delivery_delay_seconds_count'), 4, 'and its delay');
cmp_ok(of('sent_bytes_total{mode="long-polling"}'), '>=', length $poll->head, 'and its header');
$t->get('/lp?id=a.b1');
is(of('replayed_messages_total{mode="long-polling"}'), 1, 'answered at once, with an old message');
$t->get('/poll?id=a.b1');
is(of('disconnects_total{mode="polling",reason="answered"}'), 1, 'polling: answered');
is(of('replayed_messages_total{mode="polling"}'), 1, 'with an old message');
$t->get('/poll?id=a');
is(of('accepted_subscribers_total{mode="polling"}'), 2, 'or with nothing');
$t->get('/sub?id=a.b1', 'X-Nginx-PushStream-Mode' => 'polling');
is(of('accepted_subscribers_total{mode="polling"}'), 3, 'a client may choose the mode');
is(of('delivery_delay_seconds_count'), 4, 'old messages have no delay');

# Publishing.
is(of('published_messages_total{source="http"}'), 5, 'published over HTTP');
is(of('published_bytes_total{source="http"}'), 3 + 4 * 4, 'bytes of it');
my $socket = $t->websocket('/ws?id=b');
$socket->send_text('from a client');
comes_to('published_messages_total{source="websocket"}', 1, 'published by a client');
is(of('published_bytes_total{source="websocket"}'), 13, 'bytes of it');
$socket->close;
$t->publish('/pub?id=c/d', 'y' x 300);
is(of('published_messages_total{source="http"}'), 7, 'a message in two channels is two');
is(of('message_size_bytes_bucket{le="64.0"}'), 6, 'small ones');
is(of('message_size_bytes_bucket{le="1024.0"}'), 8, 'and larger ones');
is(of('message_size_bytes_sum'), 3 + 16 + 13 + 600, 'all sizes');
is(of('stored_messages'), $t->stats->{stored_messages}, 'stored as in the statistics');
$t->publish('/pub?id=c', "$_") for 1 .. 4;
is(of('discarded_messages_total{reason="limit"}'), 2, 'over the limit');

# Channels.
is(of('channels{kind="normal"}'), $t->stats->{channels}, 'channels as in the statistics');
is(of('channels_created_total{kind="normal"}'), 4, 'made');
$t->publish('/pub?id=all_x', 'x');
is(of("channels$_"), 1, "wildcard: channels$_") for '{kind="wildcard"}', '_created_total{kind="wildcard"}';
$t->delete('/pub?id=c');
is(of('channels_removed_total{kind="normal",reason="deleted"}'), 1, 'deleted');
comes_to('discarded_messages_total{reason="deleted"}', 3, 'with its messages');
is(of('channels{kind="normal"}'), 3, 'the others are there');

# Refusals.
$t->post('/pub?id=', 'x');
$t->post('/pub?id=ALL', 'x');
$t->post('/pub?id=a', '');
$t->delete('/pub?id=ALL');
$t->get('/sub?id=');
$t->get('/few?id=nobody');
$t->get('/poll?id=all_y/all_z');
for ([ publish => 'no_channel_id' ], [ publish => 'not_authorized' ], [ publish => 'empty_post' ],
    [ delete => 'not_authorized' ], [ subscribe => 'no_channel_id' ], [ subscribe => 'may_not_create_channels' ],
    [ subscribe => 'too_many_wildcard_channels' ]) {
    my ($operation, $reason) = @$_;
    is(of(qq(refusals_total{operation="$operation",reason="$reason"})), 1, "$operation refused: $reason");
}
is(of('accepted_subscribers_total{mode="streaming"}'), 1, 'no refused subscriber was let in');
my $entered = of('accepted_subscribers_total{mode="websocket"}');
$t->websocket('/ws?id=')->close;
comes_to('refusals_total{operation="subscribe",reason="no_channel_id"}', 2, 'a WebSocket refused');
is(of('accepted_subscribers_total{mode="websocket"}'), $entered, 'and not let in');

# A full socket.
my $slow = $t->subscribe_still('/slow?id=e');
$t->publish('/pass?id=e', 'z' x 60_000) for 1 .. 60;
comes_to('disconnects_total{mode="streaming",reason="slow"}', 1, 'too slow');
comes_to('buffered_bytes', 0, 'nothing waits any more');
$slow->close;
my $still = $t->subscribe_still('/wide?id=f');
my $published = 0;
$t->wait_for(sub { $t->publish('/pass?id=f', 'z' x 60_000); $published += 60_000; of('buffered_bytes') > 100_000 },
    'more than the socket takes');
cmp_ok(of('buffered_bytes'), '>', 100_000, 'bytes wait');
cmp_ok(of('buffered_bytes'), '<', 1.01 * $published, 'not more than was published');
$still->close;
comes_to('buffered_bytes', 0, 'nothing waits for one that has gone');

# The zone's bytes add up.
my $now = all();
my $used = 0;
$used += $now->{qq(nginx_push_stream_zone_used_bytes{kind="$_"})} for qw(messages channels interests trash tables overhead);
is($used + $now->{nginx_push_stream_zone_free_bytes}, $now->{nginx_push_stream_zone_size_bytes}, 'used and free are all');

# Workers die.
my @workers = $t->worker_pids;
my @open = map { $t->subscribe('/sub?id=g', worker => $_) } @workers;
comes_to('subscribers{mode="streaming"}', 2, 'one subscriber in each worker');
my $given = of('delivered_messages_total{mode="streaming"}');
$t->publish('/pass?id=g', 'x');
comes_to('delivered_messages_total{mode="streaming"}', $given + 2, 'each gets a message');
$t->kill_worker($workers[0]);
comes_to('worker_deaths_total', 1, 'a death');
comes_to('disconnects_total{mode="streaming",reason="worker_died"}', 1, 'its subscriber ended with it');
comes_to('subscribers{mode="streaming"}', 1, 'the other one is there');
$t->kill_worker($t->worker_pids);
comes_to('worker_deaths_total', 3, 'all have died');
comes_to('disconnects_total{mode="streaming",reason="worker_died"}', 2, 'and their subscribers');
comes_to('subscribers{mode="streaming"}', 0, 'nobody is there');
is(of('workers'), 2, 'but new workers');
$_->close for @open;

# A reload.
my $before = all();
my $stays = $t->subscribe('/ev?id=h');
comes_to('subscribers{mode="eventsource"}', 1, 'a subscriber before a reload');
$t->reload;
comes_to('disconnects_total{mode="eventsource",reason="shutdown"}', 1, 'a reload ends it');
comes_to('subscribers{mode="eventsource"}', 0, 'nobody is there');
is(of('worker_deaths_total'), 3, 'a worker that leaves has not died');
is(of('start_time_seconds'), $before->{nginx_push_stream_start_time_seconds}, 'the zone is the same');
$t->publish('/pub?id=a', 'x');
is(of('published_messages_total{source="http"}'),
    $before->{'nginx_push_stream_published_messages_total{source="http"}'} + 1, 'and the counting goes on');

# All that were let in have ended.
$now = all();
my $sum = sub { my ($name) = @_; my $n = 0; $n += $now->{$_} for grep { /\Anginx_push_stream_$name\{/ } keys %$now; return $n };
is($sum->('disconnects_total'), $sum->('accepted_subscribers_total'), 'all that were let in have ended');

$t->done();
