# The events channel tells about other channels and their subscribers, never about itself, and stays when
# idle.
#
# Proves protocol.md: the-channel-of-events, notices, refusals (the events channel).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new(workers => 2)->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_events_channel_id events;
    push_stream_channel_inactivity_time 1s;
    push_stream_message_template "~event-type~ ~text~;";
    push_stream_wildcard_channel_prefix "w_";
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub    { push_stream_publisher admin; }
        location /sub    { push_stream_subscriber; }
        location /ttl    { push_stream_subscriber; push_stream_subscriber_connection_ttl 300ms; }
        location /watch  { push_stream_subscriber; push_stream_allow_connections_to_events_channel on; }
        location /lp     { push_stream_subscriber long-polling; }
        location /poll   { push_stream_subscriber polling; }
        location /stats  { push_stream_channels_statistics; }
    }
EOC

sub notice { my ($type, $channel) = @_; return qq($type {"type": "$type", "channel": "$channel"};) }

# it is there from the start
is($t->stats->{channels}, 1, 'there before anything else');
my $info = $t->stats('/stats?id=events');
is($info->{published_messages}, 0, 'without a message');

# closed to the outside
$t->is_refusal($t->post('/pub?id=events', 'x'), 403, 'Only internal routines can change events channel.', 'POST');
$t->is_refusal($t->put('/pub?id=events', 'x'),  403, 'Only internal routines can change events channel.', 'PUT');
$t->is_refusal($t->delete('/pub?id=events'),    403, 'Only internal routines can change events channel.', 'DELETE');
is($t->get('/pub?id=events')->status, 200, 'GET tells of it');
$t->is_refusal($t->get('/sub?id=events'), 403, 'Subscription to events channel is not allowed.', 'subscribing');
$t->is_refusal($t->get('/sub?id=other/events'), 403, 'Subscription to events channel is not allowed.',
    'also together with another channel');
is($t->get('/pub?id=other')->status, 404, 'which was not created');

# the story of a channel
my $watch = $t->subscribe('/watch?id=events');
is($t->stats('/stats?id=events')->{published_messages}, 0, 'nothing about itself');
$t->publish('/pub?id=news', 'x');
my $sub = $t->subscribe('/sub?id=news');
$sub->client->abort;
is($watch->read_until(qr/un\w+", "channel": "news"\};/),
    notice(channel_created => 'news') . notice(client_subscribed => 'news') . notice(client_unsubscribed => 'news'),
    'created, subscribed, unsubscribed');
is($watch->read_until(qr/destroyed.*?;/), notice(channel_destroyed => 'news'), 'destroyed when it was idle long enough');

# a deletion: first who listened, later the channel
$sub = $t->subscribe('/sub?id=del');
$watch->read_until(qr/client_subscribed.*?;/);
$t->delete('/pub?id=del');
is($watch->read_until(qr/destroyed.*?;/), notice(client_unsubscribed => 'del') . notice(channel_destroyed => 'del'),
    'unsubscribed, then destroyed');

# ttl; polls; wildcard channels; ids that JSON must escape
my $ttl = $t->subscribe('/ttl?id=t');
$ttl->body;
is($watch->read_until(qr/unsubscribed.*?;/),
    join('', map { notice($_ => 't') } qw(channel_created client_subscribed client_unsubscribed)), 'a ttl');
my $poll = $t->poll('/lp?id=p');
is($watch->read_until(qr/client_subscribed.*?"p".*?;/), notice(channel_created => 'p') . notice(client_subscribed => 'p'),
    'a waiting poll is a subscriber');
$t->publish('/pub?id=p', 'x');
$poll->body;
is($watch->read_until(qr/client_unsubscribed.*?"p".*?;/), notice(client_unsubscribed => 'p'), 'until it is answered');
$t->get('/poll?id=q');
is($watch->read_until(qr/"q".*?;/), notice(channel_created => 'q'), 'polling creates, and no more');
$t->publish('/pub?id=w_%22%5C', 'x');
is($watch->read_until(qr/"w_.*?;/), notice(channel_created => 'w_\\"\\\\'), 'escaped as JSON');

# the first notice of a connection that asks for the events channel and a new one
my $mixed = $t->subscribe('/watch?id=events/mixed');
is($mixed->read_until(qr/;/), notice(client_subscribed => 'mixed'), 'its own subscription to the other channel');
$_->client->abort for $mixed, $watch;

# how it is counted
$t->publish('/pub?id=count', $_) for 1 .. 3;
my $sum = $t->stats;
is($sum->{stored_messages}, 0, 'its stored messages are not in the sum');
is($sum->{published_messages}, 6, 'nor are its published ones');
cmp_ok($t->stats('/stats?id=events')->{stored_messages}, '>', 10, 'but they are stored, whatever the locations say');
$t->wait_for(sub { $t->stats->{channels} == 1 && $t->stats->{wildcard_channels} == 0 }, 'all others to be collected', 30);
is($t->stats('/stats?id=events')->{subscribers}, 0, 'it stays, idle or not');
$t->done();
