# A binary upgrade: two masters run side by side, each with its own zone. Subscribers of the old one stay
# until it ends and get their orderly end then. Until that, the upgrade can be taken back, and the old zone is
# intact.
#
# Proves protocol.md: reload-stop-and-death (USR2), cursors; promises.md: deaths-and-changes.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new(workers => 2, daemon => 1)->http(<<'EOC')->run();
    push_stream_shared_memory_size 4m;
    push_stream_channels_path $arg_id;
    push_stream_store_messages on;
    push_stream_message_template "~id~:~text~;";
    push_stream_footer_template "FOOT";
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher admin; }
        location /sub   { push_stream_subscriber; }
        location /lp    { push_stream_subscriber long-polling; }
        location /ws    { push_stream_subscriber websocket; }
        location /poll  { push_stream_subscriber polling; push_stream_cursor on; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

my ($here, $there) = $t->worker_pids;
my $publisher = $t->client(worker => $here);
$t->publish('/pub?id=a', "old$_", client => $publisher) for 1 .. 3;
my $sub = $t->subscribe('/sub?id=a.b3', worker => $there);
my $ws  = $t->websocket('/ws?id=a.b3', worker => $here);
my $lp  = $t->poll('/lp?id=a', worker => $there);
$t->wait_subscribers('/stats?id=a', 3);

my ($HEADER, $GAP) = ('X-Nginx-PushStream-Cursor', 'X-Nginx-PushStream-Gap');
my $cursor = $t->get('/poll?id=a')->header($HEADER);

my $old = $t->upgrade;
# A worker takes no new connections while it stands still.
$t->freeze($_) for $here, $there;
my $new_publisher = $t->client(worker => ($t->worker_pids)[0]);
is($t->publish('/pub?id=a', 'new1', client => $new_publisher)->body =~ /"published_messages": "?1\b/, 1, 'the new zone is empty');
my $new_sub = $t->subscribe('/sub?id=a.b9', worker => ($t->worker_pids)[1]);
is($new_sub->read_until(qr/;/), '1:new1;', 'and has its own messages');
is($t->stats('/stats?id=a', client => $new_publisher)->{subscribers}, 1, 'and subscribers');
my $told = $t->get('/poll?id=a', 'Last-Event-Id' => $cursor, client => $new_publisher);
is($told->status . ' ' . $told->header($GAP), '200 restarted', 'a cursor is one of the old zone');
$t->thaw($_) for $here, $there;

$t->publish('/pub?id=a', 'old4', client => $publisher);
is($sub->read_until(qr/old4;/), join('', map {"$_:old$_;"} 1 .. 4), 'the old subscribers go on');
is(join('', map { $ws->text } 1 .. 4), join('', map {"$_:old$_;"} 1 .. 4), 'in all modes');
is($lp->body, '4:old4;FOOT', 'with what is published at the old workers');

# The old workers end, and the old master stays: the clients come to the new binary.
my $waiting = $t->poll('/lp?id=a', client => $lp->client, since => $lp);
$t->wait_for(sub { $t->stats('/stats?id=a', client => $publisher)->{subscribers} == 3 }, 'the poll to wait');
kill 'WINCH', $old;
is($sub->body, join('', map {"$_:old$_;"} 1 .. 4) . 'FOOT', 'goodbye to a stream');
ok($sub->complete, 'in order');
is($ws->rest(5), '8104' . unpack('H*', 'FOOT') . '8800', 'to a WebSocket');
is($waiting->status, 304, 'and to a long poll');
ok($t->wait_for(sub { !$t->is_running($here) && !$t->is_running($there) }, 'the old workers to end'), 'they end');
$t->publish('/pub?id=a', 'new2');
is($new_sub->read_until(qr/new2;/), '2:new2;', 'everybody is served by the new ones');

# The way back: the old master has kept its zone.
my $failed = $t->follow($old);
$t->signal('HUP');
ok($t->wait_for(sub { $t->worker_pids == 2 }, 'workers of the old master'), 'which starts workers again');
kill 'QUIT', $failed;
is($new_sub->body, '1:new1;2:new2;FOOT', 'goodbye of the new ones');
ok($t->wait_for(sub { -s $t->dir . '/nginx.pid' && !$t->is_running($failed) }, 'the new master to end'), 'they end too');
my $back = $t->subscribe('/sub?id=a.b9');
is($back->read_until(qr/old4;/), join('', map {"$_:old$_;"} 1 .. 4), 'what was stored before is there');
$t->publish('/pub?id=a', 'old5');
is($back->read_until(qr/old5;/), '5:old5;', 'and goes on');

# Once more, to the end: whoever stays until the old master quits is told then.
$old = $t->upgrade;
kill 'QUIT', $old;
is($back->body, join('', map {"$_:old$_;"} 1 .. 5) . 'FOOT', 'goodbye at QUIT');
ok($t->wait_for(sub { !$t->is_running($old) }, 'the old master to end'), 'the old master ends');
$t->publish('/pub?id=a', 'newer');
is($t->get('/lp?id=a.b9')->body, '1:newer;FOOT', 'the new one serves alone');
$t->done();
