# The access log shows a WebSocket as 101, with its mode and the reason of its end.
#
# Proves directives.md: variables.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    log_format push "$uri?$args $status $push_stream_mode $push_stream_messages_sent $push_stream_close_reason;";
    access_log %%TESTDIR%%/access.log push;
    push_stream_shared_memory_size 8m;
    push_stream_channels_path $arg_id;
    client_max_body_size 1m;
    server {
        listen 127.0.0.1:%%PORT_8080%% sndbuf=32k;
        location /pub   { push_stream_publisher admin; push_stream_store_messages on; }
        location /ws    { push_stream_subscriber websocket; push_stream_websocket_allow_publish on; }
        location /ttl   { push_stream_subscriber websocket; push_stream_subscriber_connection_ttl 500ms; }
        location /slow  { push_stream_subscriber websocket; push_stream_subscriber_max_buffered 10k; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

sub logged {
    my ($uri, $expected, $what) = @_;
    my $line;
    $t->wait_for(sub {
        open my $file, '<', $t->dir . '/access.log' or return 0;
        ($line) = grep { index($_, "$uri ") == 0 && /;$/ } <$file>;
        return defined $line;
    }, "a line about $uri");
    like($line, qr/\A\Q$uri\E $expected;\n\z/, $what);
    return;
}

$t->publish('/pub?id=old', 'one');
my $ws = $t->websocket('/ws?id=old.b1');
$ws->send_text('two')->send_raw("\x88\x00");
$ws->rest, $ws->close;
logged('/ws?id=old.b1', '101 websocket 2 client', 'closed by the client');
$t->websocket('/ws?id=left')->close;
logged('/ws?id=left', '101 websocket 0 client', 'left without a word');
$ws = $t->websocket('/ws?id=bad');
$ws->send_raw("\xff\x00");
$ws->rest, $ws->close;
logged('/ws?id=bad', '101 websocket 0 protocol', 'a protocol error');
$t->websocket('/ws?id=ALL')->close;
logged('/ws?id=ALL', '101 websocket 0 refused', 'refused in the WebSocket');
$t->get('/ws?id=no');
logged('/ws?id=no', '400 websocket - -', 'refused before');
$ws = $t->websocket('/ttl?id=t');
$ws->rest, $ws->close;
logged('/ttl?id=t', '101 websocket 0 ttl', 'its time was over');
$ws = $t->websocket('/ws?id=gone');
$t->delete('/pub?id=gone') if $t->publish('/pub?id=gone', 'x');
$ws->rest, $ws->close;
logged('/ws?id=gone', '101 websocket 2 deleted', 'its channel was deleted');
$ws = $t->websocket('/slow?id=s', rcvbuf => 4096);
$ws->client->pause;
$t->wait_for(sub { $t->publish('/pub?id=s', 'x' x 9000); $t->stats('/stats?id=s')->{subscribers} == 0 }, 'it to be dropped', 30);
$ws->client->resume;
$ws->rest(10), $ws->close;
$t->wait_log(qr/too slow/);
logged('/slow?id=s', '101 websocket \d+ slow', 'too slow');
my $last = $t->websocket('/ws?id=last');
$t->reload(wait_old => 1);
logged('/ws?id=last', '101 websocket 0 shutdown', 'the worker ended');

$t->done();
