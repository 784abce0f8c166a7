# A WebSocket learns from a close frame 1008 why its subscription is refused.
#
# Proves protocol.md: closing, order-of-checks, refusals, handshake (101 comes first).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_max_channel_id_length 20;
    push_stream_max_subscribers_per_channel 1;
    push_stream_max_number_of_channels 3;
    push_stream_max_number_of_wildcard_channels 1;
    push_stream_wildcard_channel_prefix "bd_";
    push_stream_events_channel_id "ev";
    push_stream_header_template HEAD;
    push_stream_footer_template FOOT;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /ws    { push_stream_subscriber websocket; push_stream_wildcard_channel_max_qtd 1; }
        location /known { push_stream_subscriber websocket; push_stream_authorized_channels_only on; }
        location /pub   { push_stream_publisher; push_stream_store_messages on; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

sub refused {
    my ($uri, $length, $status, $explain, %o) = @_;
    my $ws = $t->websocket($uri, %o);
    is($ws->status, 101, "$uri: 101");
    my $frame = sprintf '88%s03f0', lc $length;
    $frame .= unpack 'H*', qq({"http_status": $status, "explain":"$explain"});
    is($ws->rest(2), $frame, "$uri: $explain, and the end");
    return;
}

my %http10 = (-version => '1.0', -host => undef);
refused('/ws',                  '3B', 400, 'No channel id provided.');
refused('/ws?id=/',             '3B', 400, 'No channel id provided.');
refused('/ws?id=ALL',           '4E', 403, 'Channel id not authorized for this method.', %http10);
refused('/ws?id=a*b',           '4E', 403, 'Channel id not authorized for this method.');
refused('/ws?id=' . 'x' x 21,   '3C', 400, 'Channel id is too large.', %http10);
refused('/known?id=a',          '49', 403, 'Subscriber could not create channels.', %http10);
refused('/ws?id=ev',            '52', 403, 'Subscription to events channel is not allowed.');
refused('/ws?id=bd_1',          '4A', 403, 'Subscribed too much wildcard channels.');
refused('/ws?id=a/bd_1/bd_2',   '4A', 403, 'Subscribed too much wildcard channels.', %http10);
is($t->stats->{channels}, 1, 'none of these makes a channel: there is the events channel');
is($t->stats->{wildcard_channels}, 0, 'nor a wildcard channel');

my $ws = $t->websocket('/ws?id=a/bd_1');
is($ws->raw, '810448454144', 'one that is not refused');
refused('/ws?id=a', '54', 403, 'Subscribers limit per channel has been exceeded.', %http10);
refused('/ws?id=b/c/bd_1', '54', 403, 'Subscribers limit per channel has been exceeded.');
refused('/known?id=b/bd_2', '49', 403, 'Subscriber could not create channels.');
refused('/ws?id=b/c', '45', 403, 'Number of channels were exceeded.', %http10);
refused('/ws?id=b/bd_2', '45', 403, 'Number of channels were exceeded.');
is($t->stats('/stats?id=b'), undef, 'no channel is left from a refused request');
is($t->stats->{subscribers}, 1, 'only the one is counted');

# the first reason in the order of the channels counts
refused('/ws?id=ALL/' . 'x' x 21, '4E', 403, 'Channel id not authorized for this method.');
refused('/ws?id=' . 'x' x 21 . '/ALL', '3C', 400, 'Channel id is too large.');

# a wildcard channel needs no permission; a channel with a message has it
$t->publish('/pub?id=b', 'Ola');
is($t->websocket('/known?id=b.b1')->raw, '810448454144', 'a known channel is not refused');

# frames that a refused client has sent already are no requests
my $late = $t->websocket('/ws?id=ALL');
$late->send_raw("GET / HTTP/1.0\r\n\r\n" x 100);
like($late->rest(2), qr/\A884e03f0/, 'the close frame is not lost');
unlike($t->log, qr/client sent/, 'and nothing is parsed');

$t->done();
