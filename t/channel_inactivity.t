# A channel without messages, subscribers and activity is removed after the inactivity time.
#
# Proves protocol.md: expiry (idle channels), the-channel-of-events (never removed).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Time::HiRes qw(time);

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_channel_inactivity_time 3s;
    push_stream_message_ttl 30s;
    push_stream_wildcard_channel_prefix w_;
    push_stream_events_channel_id evts;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher admin; push_stream_store_messages on; }
        location /pass  { push_stream_publisher; }
        location /sub   { push_stream_subscriber; push_stream_message_template "~id~~text~;"; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

my $start = time;
$t->publish('/pass?id=idle', 'x');
$t->publish('/pass?id=w_idle', 'x');
$t->publish('/pub?id=stored', 'x');
my $s = $t->subscribe('/sub?id=held');
$t->subscribe('/sub?id=left')->close;
my $stats = $t->stats;
is("$stats->{channels} $stats->{wildcard_channels} $stats->{channels_in_trash}", '5 1 0', 'channels at first');

# `busy` is published to all the time; looking is no activity
my $c = $t->client;
$t->wait_for(sub {
    $t->publish('/pass?id=busy', 'x', client => $c);
    $t->quiet_for($c, 0.3);
    return !$t->stats('/stats?id=idle') && !$t->stats('/stats?id=w_idle') && !$t->stats('/stats?id=left');
}, 'idle channels to be collected', 20);
my $collected = time - $start;
cmp_ok($collected, '>', 3, 'not before the inactivity time');
is($t->stats("/stats?id=$_"), undef, "$_ is gone") for qw(idle w_idle left);
is($t->stats("/stats?id=$_") && 1, 1, "$_ is there") for qw(stored held busy evts);
$stats = $t->stats;
is("$stats->{channels} $stats->{wildcard_channels}", '4 0', 'channels afterwards');
cmp_ok($stats->{channels_in_trash}, '>=', 3, 'the others are in the trash');

# a new channel with an old name
is($t->post('/pub?id=idle', 'again')->body =~ /"published_messages": (\d)/ && $1, 1, 'message ids begin again');

# who held a channel for long leaves: it goes with the next tick
$t->publish('/pass?id=held', 'x');
is($s->next_chunk, '1x;', 'the channel that was held is the same');
$t->next_second for 1 .. 4;
$s->close;
$t->wait_for(sub { !$t->stats('/stats?id=held') }, 'it to be collected', 15);
is($t->stats('/stats?id=held'), undef, 'it is gone when its subscriber has left');

# with the last message gone a stored channel goes too; and the trash is emptied in the end
$t->delete('/pub?id=stored/idle');
$stats = $t->stats;
is($stats->{channels_in_delete}, 2, 'two in delete');
$t->wait_for(sub { !$t->stats->{channels_in_delete} }, 'a tick', 15);
cmp_ok($t->stats->{channels_in_trash}, '>=', 2, 'then in the trash');
$t->wait_for(sub { !$t->stats->{channels_in_trash} }, 'the trash to be emptied', 40);
$stats = $t->stats;
is("$stats->{channels} $stats->{channels_in_trash}", '1 0', 'only the events channel is left');

$t->done();
