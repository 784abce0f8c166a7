# Messages expire after their time to live, are counted as trash for more than ten seconds, and then are gone.
#
# Proves protocol.md: expiry, fields (how the counters relate), order-of-checks (authorised channels).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Time::HiRes qw(time);

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_message_ttl 3s;
    push_stream_max_messages_stored_per_channel 3;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher admin; push_stream_store_messages on; }
        location /pass  { push_stream_publisher; }
        location /sub   { push_stream_subscriber; push_stream_message_template "~id~~text~;"; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

my $s = $t->subscribe('/sub?id=a');
my $start = time;
$t->publish('/pub?id=a', 'x');
my $stats = $t->stats;
is("$stats->{stored_messages} $stats->{messages_in_trash}", '1 0', 'one stored, none in the trash');
$t->wait_for(sub { $t->stats->{stored_messages} == 0 }, 'the message to expire', 15);
my $expired = time - $start;
cmp_ok($expired, '>=', 2.9, 'not before its ttl');
cmp_ok($expired, '<', 12, 'but soon after');
$stats = $t->stats;
is("$stats->{stored_messages} $stats->{messages_in_trash}", '0 1', 'it is in the trash');
is($stats->{published_messages}, 1, 'and still counted as published');
is($t->stats('/stats?id=a')->{stored_messages}, 0, 'the channel is empty');
is($t->stats('/stats?id=a')->{published_messages}, 1, 'but goes on');
$t->publish('/pub?id=a', 'y');
is($s->read_until(qr/y;/), '1x;2y;', 'message ids go on too');

# too many stored: the oldest goes at once
my $before = $t->stats->{messages_in_trash};
$t->publish('/pub?id=b', $_) for 1 .. 5;
is($t->stats('/stats?id=b')->{stored_messages}, 3, 'three are stored');
is($t->subscribe('/sub?id=b.b9')->read_until(qr/5;/), '33;44;55;', 'the newest');
cmp_ok($t->stats->{messages_in_trash}, '>=', 2, 'the other two are in the trash');

# an unstored message with a subscriber goes to the trash as soon as it is handed out
$t->publish('/pass?id=a', 'z');
is($s->read_until(qr/z;/), '3z;', 'an unstored message');
$t->wait_for(sub { $t->stats->{messages_in_trash} >= 3 }, 'it to be in the trash', 10);
is($t->stats('/stats?id=a')->{published_messages}, 3, 'it counts as published');

# past its ttl a message is not replayed, whether or not a tick has come
$t->publish('/pub?id=c', 'old');
my $published = time;
is($t->subscribe('/sub?id=c.b1')->next_chunk, '1old;', 'within its ttl it is replayed');
$t->wait_for(sub { time - $published > 4.1 }, 'its ttl to be over');
$t->publish('/pub?id=end', 'END');
is($t->subscribe('/sub?id=c.b1/end.b1')->read_until(qr/END/), '1END', 'afterwards not');

# and in the end
my $trash = $t->stats->{messages_in_trash};
cmp_ok($trash, '>=', 4, 'there is trash');
$t->wait_for(sub { my $s = $t->stats; !$s->{stored_messages} && !$s->{messages_in_trash} }, 'the trash to be emptied', 40);
my $gone = time - $start;
$stats = $t->stats;
is("$stats->{stored_messages} $stats->{messages_in_trash}", '0 0', 'in the end all is free');
cmp_ok($gone, '>=', 11, 'after more than ten seconds in the trash');

$t->done();
