# A cursor of a server that was started anew since: the client is told, gets no old messages, and goes on.
#
# Proves protocol.md: cursors, gaps.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $conf = <<'EOC';
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_store_messages on;
    push_stream_cursor on;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub  { push_stream_publisher; }
        location /poll { push_stream_subscriber polling; }
    }
EOC

my $t = Test::Nginx::PushStream->new->http($conf)->run;
my $HEADER = 'X-Nginx-PushStream-Cursor';
$t->publish('/pub?id=a', 'one');
my $cursor = $t->get('/poll?id=a')->header($HEADER);
$t->reload;
is($t->get('/poll?id=a', 'Last-Event-Id' => $cursor)->header('X-Nginx-PushStream-Gap'), undef, 'a reload changes nothing');
$t->finish;

$t = Test::Nginx::PushStream->new->http($conf)->run;
$t->publish('/pub?id=a', 'two');
my $answer = $t->get('/poll?id=a', 'Last-Event-Id' => $cursor);
is($answer->status . ' ' . $answer->header('X-Nginx-PushStream-Gap'), '200 restarted', 'it is told');
is($answer->body, '{"channel":"a","reason":"restarted","missed":null}', 'in the body too, and gets no old message');
$t->publish('/pub?id=a', 'three');
is($t->get('/poll?id=a', 'Last-Event-Id' => $answer->header($HEADER))->body, 'three', 'and goes on');
$t->done();
