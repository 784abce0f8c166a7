# Notices are counted, limited and stamped like any message: 20 subscribers on 20 channels make 40 notices.
#
# Proves protocol.md: notices, the-channel-of-events (limits), terms (tag).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new(workers => 2)->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_events_channel_id events;
    push_stream_channel_inactivity_time 1s;
    push_stream_max_messages_stored_per_channel 20;
    push_stream_message_template "~time~|~tag~;";
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher admin; push_stream_store_messages off; }
        location /sub   { push_stream_subscriber; }
        location /watch { push_stream_subscriber polling; push_stream_allow_connections_to_events_channel on; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

sub events { return $t->stats('/stats?id=events') }
my @visitors = map { $t->subscribe("/sub?id=c$_") } 1 .. 20;
is(events()->{published_messages}, 40, '20 channels created, 20 subscribers');
is(events()->{stored_messages}, 20, 'stored up to the limit');
$t->delete("/pub?id=c$_") for 1 .. 10;
$t->wait_for(sub { events()->{published_messages} >= 60 }, 'the deleted channels to be destroyed', 15);
is(events()->{published_messages}, 60, 'deleting 10 of them is 20 more');
$_->close for @visitors[10 .. 19];
$t->wait_for(sub { events()->{published_messages} >= 80 }, 'the idle channels to be destroyed', 20);
is(events()->{published_messages}, 80, 'and the other 10 leaving 20 more');

my %last;
my $falls = 0;
for my $stamp ($t->get('/watch?id=events.b20')->body =~ /([^;]+);/g) {
    my ($time, $tag) = $stamp =~ /(.*)\|(\d+)/;
    $falls++ if exists $last{$time} && $tag != $last{$time} + 1;
    $last{$time} = $tag;
}
is($falls, 0, 'tags count up within each second');
$t->done();
