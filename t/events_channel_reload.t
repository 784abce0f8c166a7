# A reload may add, rename and remove the events channel. Notices go on, from and to the new workers.
#
# Proves protocol.md: the-channel-of-events (reload), notices.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

sub configuration {
    my ($id) = @_;
    my $directive = defined $id ? "push_stream_events_channel_id $id;" : '';
    return <<"EOC";
    push_stream_shared_memory_size 1m;
    push_stream_channels_path \$arg_id;
    $directive
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher admin; }
        location /sub   { push_stream_subscriber; push_stream_allow_connections_to_events_channel on; }
        location /none  { push_stream_subscriber; }
        location /stats { push_stream_channels_statistics; }
    }
EOC
}

my $t = Test::Nginx::PushStream->new(workers => 2)->http(configuration())->run();
$t->publish('/pub?id=one', 'an ordinary message');
is($t->stats->{channels}, 1, 'no events channel');

$t->reload(configuration('one'));
my $watch = $t->subscribe('/sub?id=one');
$t->publish('/pub?id=a', 'x');
is($watch->next_chunk, '{"type": "channel_created", "channel": "a"}', 'added: an existing channel takes the part');
is($t->post('/pub?id=one', 'x')->status, 403, 'and is closed');

my $visitor = $t->subscribe('/sub?id=a');
$watch->next_chunk;
$t->reload(configuration('one'));
ok(defined $watch->body, 'a reload ends its subscribers like all others');
$watch = $t->subscribe('/sub?id=one.b9');
$watch->read_until(qr/unsubscribed", "channel": "a"\}/);
like($watch->so_far, qr/client_unsubscribed", "channel": "a"/, 'notices of the subscriptions that the reload ended');
$t->publish('/pub?id=b', 'x');
like($watch->read_until(qr/"b"\}/), qr/channel_created", "channel": "b"/, 'from new workers to new workers');

$t->reload(configuration('two'));
is($t->get('/none?id=two')->status, 403, 'renamed: the new one is closed');
is($t->publish('/pub?id=one', 'x')->status, 200, 'and the old one is an ordinary channel');
is($t->stats('/stats?id=two')->{published_messages}, 0, 'told of nothing yet');
$t->publish('/pub?id=c', 'x');
is($t->stats('/stats?id=two')->{published_messages}, 1, 'it is told from now on');

$t->reload(configuration());
is($t->publish('/pub?id=two', 'x')->status, 200, 'removed: an ordinary channel');
my $sum = $t->stats;
my $stored = 0;
$stored += $_->{stored_messages} for @{ $t->stats('/stats?id=ALL')->{infos} };
is($sum->{stored_messages}, $stored, 'whose messages are counted again');
$t->done();
