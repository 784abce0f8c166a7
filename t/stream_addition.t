# The texts of add_before_body and add_after_body come before and after the whole stream. What waits for the
# first of them is bounded as what waits for a slow socket is. So nothing is written past a body filter.
#
# Proves protocol.md: streaming (body filters), slow-readers; directives.md: push_stream_force_filters.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Http2;

Test::More::plan(skip_all => 'nginx without the addition filter')
    unless Test::Nginx::PushStream->has_feature('http_addition_module');

my $http2 = Test::Nginx::PushStream->has_feature('http_v2_module');
my $t = Test::Nginx::PushStream->new->http(<<'EOC' . ($http2 ? <<'EOC' : ''))->run();
    push_stream_shared_memory_size 8m;
    push_stream_subscriber_max_buffered 100k;
    push_stream_channels_path $arg_id;
    addition_types *;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub    { push_stream_publisher admin; push_stream_store_messages on; }
        location /sub    { push_stream_subscriber; push_stream_header_template HEAD;
                           push_stream_footer_template FOOT; push_stream_message_template "~text~;";
                           add_before_body /before; add_after_body /after; }
        location /before { return 200 BEFORE; }
        location /after  { return 200 AFTER; }
        location /gated  { push_stream_subscriber; push_stream_message_template "~text~;"; add_before_body /gate; }
        location /gate   { proxy_pass http://127.0.0.1:%%PORT_8080%%/poll?id=gate; }
        location /poll   { push_stream_subscriber long-polling; }
        location /ssi    { push_stream_subscriber; push_stream_message_template "~text~;"; ssi on; ssi_types *; }
        location /stats  { push_stream_channels_statistics; }
    }
EOC
    server {
        listen 127.0.0.1:%%PORT_8082%% http2;
        location /bare   { push_stream_subscriber; push_stream_message_template "~text~;"; add_before_body /before; }
        location /before { return 200 BEFORE; }
    }
EOC

for my $old ('', 'old;') {
    my $id = $old ? 'stored' : 'new';
    $t->publish("/pub?id=$id", 'old') if $old;
    my $s = $t->subscribe("/sub?id=$id.b1");
    is($s->read_until(qr/HEAD\Q$old\E/), "BEFOREHEAD$old", "$id: the beginning comes at once, in order");
    $t->publish("/pub?id=$id", $_) for qw(one two);
    is($s->read_until(qr/two;/), 'one;two;', 'messages come as they are published');
    $t->delete("/pub?id=$id");
    $s->wait_end;
    is($s->so_far, "BEFOREHEAD${old}one;two;Channel deleted;FOOTAFTER", 'the end comes last');
    ok($s->complete, 'and ends in order');
}

# What a message itself makes nginx ask for comes in its place, and those behind it come after it.
my $ssi = $t->start('GET', '/ssi?id=ssi');    # whose head nginx keeps until something follows
$t->wait_subscribers('/stats?id=ssi', 1);
$t->publish('/pub?id=ssi', 'one<!--# include virtual="/before" -->');
$t->publish('/pub?id=ssi', 'two');
is($ssi->read_until(qr/two;/), 'oneBEFORE;two;', 'an include in a message');

# Over HTTP/2 nginx has sent the header already, and there is nothing else to send.
SKIP: {
    Test::More::skip('nginx has no HTTP/2', 2) unless $http2;
    my $h2 = Test::Nginx::PushStream::Http2->new($t->client(port => 8082));
    my $bare = $h2->request(GET => '/bare?id=bare');
    is($h2->data($bare, 6), 'BEFORE', 'HTTP/2: what comes before comes at once');
    $t->publish('/pub?id=bare', $_) for qw(one two);
    is($h2->data($bare, 14), 'BEFOREone;two;', 'and then the messages');
}

# Until the gate opens: a portion of the old messages, and so many live ones.
my ($worker) = $t->worker_pids;
my $old = join '', map { 'x' x 9_990 . sprintf('%03d', $_) . ';' } 1 .. 300;
$t->publish('/pub?id=big', $_) for $old =~ /([^;]+);/g;
my $before = $t->memory_of($worker);
my @gated = map { $t->start('GET', '/gated?id=big.b300', worker => $worker) } 1 .. 10;
$t->wait_subscribers('/stats?id=gate', 10);
$t->wait_subscribers('/stats?id=big', 10);
my $each = ($t->memory_of($worker) - $before) / @gated;
cmp_ok($each, '<', 1_500_000, 'a stream that waits for what comes before it costs a portion') or diag "$each bytes each";
$t->publish('/pub?id=big', 'live');
$t->publish('/pub?id=gate', 'GATE;');
is(scalar(grep { ($_->read_until(qr/live;/, 60) // '') ne "GATE;${old}live;" } @gated), 0, 'and then gets everything, in order');
$_->close for @gated;

my $closed = $t->start('GET', '/gated?id=flood', worker => $worker);
$t->wait_subscribers('/stats?id=flood', 1);
$t->publish('/pub?id=flood', 'x' x 9_990) for 1 .. 30;
ok($t->wait_subscribers('/stats?id=flood', 0), 'too many live ones end it');
ok($closed->closed, 'with its connection');

$t->done();
