# Reload, stop, quit and the ttl give each WebSocket its footer and a close frame, at once.
#
# Proves protocol.md: closing, orderly-end, reload-stop-and-death.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Time::HiRes qw(time);

my $conf = <<'EOC';
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    lingering_timeout 60s;
    lingering_time 60s;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; push_stream_store_messages on; }
        location /ttl   { push_stream_subscriber websocket; push_stream_footer_template FOOT; push_stream_subscriber_connection_ttl 10m; }
        location /ping  { push_stream_subscriber websocket; push_stream_footer_template FOOT; push_stream_ping_message_interval 10m; }
        location /none  { push_stream_subscriber websocket; push_stream_footer_template FOOT; }
        location /bare  { push_stream_subscriber websocket; }
        location /short { push_stream_subscriber websocket; push_stream_footer_template FOOT; push_stream_subscriber_connection_ttl 2s; push_stream_ping_message_interval 700ms; }
        location /stats { push_stream_channels_statistics; }
    }
EOC
my %last = (ttl => '8104464f4f548800', ping => '8104464f4f548800', none => '8104464f4f548800', bare => '8800');

for my $signal (qw(TERM INT QUIT HUP)) {
    my $t = Test::Nginx::PushStream->new->http($conf)->run();
    my @ws;
    for my $worker ($t->worker_pids) {
        push @ws, map { [ $_, $t->websocket("/$_?id=a", worker => $worker) ] } sort keys %last;
    }
    $t->publish('/pub?id=a', 'Ola');
    is($_->[1]->text, 'Ola', 'it runs') for @ws;
    my $from = time;
    if ($signal eq 'HUP') { ok($t->reload(wait_old => 1), 'reload: the old workers are gone') }
    else                  { ok($t->stop($signal), "$signal: nginx ends") }
    cmp_ok(time - $from, '<', 20, 'without waiting for clients that say nothing more');
    is($_->[1]->rest(2), $last{ $_->[0] }, "$signal: $_->[0]") for @ws;
    if ($signal eq 'HUP') {
        is($t->stats->{subscribers}, 0, 'nobody is counted after a reload');
        is($t->websocket('/none?id=a.b1')->text, 'Ola', 'messages survive');
    }
    $t->finish;
}

# its time is over
my $t = Test::Nginx::PushStream->new->http($conf)->run();
my $from = time;
my $ws = $t->websocket('/short?id=a');
is($ws->raw, '8900', 'a ping') for 1 .. 2;
is($ws->raw, '8104464f4f54', 'and the footer');
is($t->stats->{subscribers}, 0, 'not counted any more');
is($ws->rest(2), '8800', 'and the close frame');
my $took = time - $from;
ok($took > 1.7 && $took < 2.6, 'after its time') or diag $took;

# without a master
my $single = Test::Nginx::PushStream->new(master => 0)->http($conf)->run();
$ws = $single->websocket('/none?id=a');
ok($single->stop('QUIT'), 'a single process ends');
is($ws->rest(2), $last{none}, 'in order');
$single->finish;

$t->done();
