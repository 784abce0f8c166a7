# Everything works in one process without a master.
#
# Proves protocol.md: reload-stop-and-death.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $conf = <<'EOC';
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher admin; push_stream_store_messages on; }
        location /sub   { push_stream_subscriber; push_stream_message_template "~id~~text~;"; push_stream_footer_template F;
                          push_stream_ping_message_interval 10m; }
        location /stats { push_stream_channels_statistics; }
    }
EOC
my $t = Test::Nginx::PushStream->new(workers => 1, master => 0)->http($conf)->run();

$t->publish('/pub?id=a', 'x');
my @s = map { $t->subscribe('/sub?id=a.b1') } 1 .. 20;
is(scalar(grep { $_->next_chunk eq '1x;' } @s), 20, 'replay');
$t->publish('/pub?id=a', 'y');
is(scalar(grep { $_->next_chunk eq '2y;' } @s), 20, 'live');
my $stats = $t->stats;
is($stats->{subscribers}, 20, 'counted');
is_deeply([ map { "$_->{pid} $_->{subscribers}" } @{ $stats->{by_worker} } ], [ $t->master_pid . ' 20' ], 'one worker');
is_deeply($t->publish_many('/pub?id=b', 2000), { 200 => 2000 }, 'many publishes');
is($t->delete('/pub?id=b')->status, 200, 'deletion');
ok($t->stop, 'stop');
is(scalar(grep { $_->body eq '1x;2y;F' && $_->complete } @s), 20, 'goodbye');
$t->finish;

$t = Test::Nginx::PushStream->new(workers => 1, master => 0)->http("push_stream_message_ttl 1s; $conf")->run();
$t->publish('/pub?id=a', 'x');
ok($t->wait_for(sub { $t->stats->{stored_messages} == 0 }, 'expiry', 20), 'ticks run');
$t->done();
