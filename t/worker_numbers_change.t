# A reload may change the number of workers, and nginx's helper processes are not taken for workers.
#
# Proves protocol.md: reload-stop-and-death, fields (by_worker); promises.md: deaths-and-changes.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new(workers => 1)->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    proxy_cache_path %%TESTDIR%%/cache keys_zone=cache:1m;   # brings cache manager and loader
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; push_stream_store_messages on; }
        location /sub   { push_stream_subscriber; push_stream_message_template "~id~;"; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

my $n = 0;
for my $workers (1, 4, 2, 7, 3, 1) {
    if ($n) {
        ok($t->reload(workers => $workers, wait_old => 1), "reload to $workers workers");
    }
    my @pids = $t->worker_pids;
    is(scalar @pids, $workers, "$workers workers");
    my $listed = join ' ', sort map { $_->{pid} } @{ $t->stats->{by_worker} };
    is($listed, join(' ', sort @pids), 'statistics list these, and no cache manager');
    my @s = map { $t->subscribe('/sub?id=a', worker => $_) } @pids;
    is($t->stats->{subscribers}, $workers, 'a subscriber in each, counted before it has its header');
    for my $publisher (@pids) {
        $t->publish('/pub?id=a', 'x', worker => $publisher);
        $n++;
        is(scalar(grep { ($_->next_chunk // '') eq "$n;" } @s), $workers, "published by $publisher: all get it");
    }
}

# killed ones come back into a world of another size
$t->reload(workers => 5, wait_old => 1);
my @pids = $t->worker_pids;
$t->kill_worker(@pids[1, 3]);
@pids = $t->worker_pids;
my @s = map { $t->subscribe('/sub?id=a', worker => $_) } @pids;
for my $publisher (@pids) {
    $t->publish('/pub?id=a', 'x', worker => $publisher);
    $n++;
    is(scalar(grep { ($_->next_chunk // '') eq "$n;" } @s), 5, "after kills, published by $publisher: all get it");
}
is(scalar @{ $t->stats->{by_worker} }, 5, 'five entries');

$t->done();
