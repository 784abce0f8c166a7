# nginx's limit_rate holds for WebSockets, and nothing is lost or late because of it.
#
# Proves protocol.md: slow-readers.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Time::HiRes qw(time);

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /ws { push_stream_subscriber websocket; push_stream_websocket_allow_publish on; limit_rate 50k; }
    }
EOC
my $ws = $t->websocket('/ws?id=a');
my $from = time;
$ws->send_text('x' x 120_000)->send_text('next');
ok(($ws->text // '') eq 'x' x 120_000, 'a long message arrives');
cmp_ok(time - $from, '>', 0.9, 'but not at once');
is($ws->text, 'next', 'and what came behind it');
$ws->send_frame(9, 'p', mask => 'mmmm');
is($ws->raw, '8a0170', 'a ping is answered');
$ws->send_raw("\x88\x00");
is($ws->rest, '8800', 'and the end');

$t->done();
