# An idle worker uses no processor time, whichever method nginx has to wait for events. Poll and select are
# level-triggered: a writable socket must not be watched while nothing waits for it.
#
# Proves protocol.md: slow-readers.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

# Processor time of a process, in hundredths of a second.
sub ticks {
    my ($pid) = @_;
    open my $file, '<', "/proc/$pid/stat" or die "$pid: $!";
    my ($user, $system) = (split ' ', <$file> =~ s/.*\)//r)[11, 12];
    return $user + $system;
}

for my $method ('epoll', 'poll', 'select') {
    next if $method ne 'epoll' && !Test::Nginx::PushStream->has_feature("${method}_module");

    # select knows 1,024 descriptors.
    my $t = Test::Nginx::PushStream->new(workers => 1, events => "use $method;", connections => 512)->http(<<'EOC')->run();
    push_stream_shared_memory_size 8m;
    push_stream_channels_path $arg_id;
    client_body_buffer_size 64k;
    server {
        listen 127.0.0.1:%%PORT_8080%% sndbuf=16k;
        location /pub  { push_stream_publisher; push_stream_store_messages on; }
        location /sub  { push_stream_subscriber; push_stream_subscriber_max_buffered 64m; }
        location /ws   { push_stream_subscriber websocket; push_stream_subscriber_max_buffered 64m; }
        location /poll { push_stream_subscriber long-polling; }
    }
EOC
    my ($worker) = $t->worker_pids;

    # Little is done between these two lines but waiting.
    my $is_idle = sub {
        my ($quiet, $when) = @_;
        my $before = ticks($worker);
        ok($t->quiet_for($quiet, 1), "$method: silence $when");
        my $took = ticks($worker) - $before;
        ok($took < 10, "$method: no work $when") or diag "$took hundredths of a second in one";
    };

    my $quiet = $t->subscribe('/sub?id=quiet');
    my $waiting = $t->poll('/poll?id=a');
    $is_idle->($quiet, 'while subscribers wait for messages');

    my $subscriber = $t->subscribe_still('/sub?id=a');
    my $websocket = $t->websocket('/ws?id=a', rcvbuf => 4096);
    $websocket->client->pause;
    my $n = 0;
    is_deeply($t->publish_many('', sub { $n++ < 100 ? ('/pub?id=a', 'a' x 10_000) : () }), { 200 => 100 }, "$method: published");
    is($waiting->status, 200, "$method: a long poll ends");
    $is_idle->($quiet, 'while sockets take nothing');

    $subscriber->client->resume;
    $websocket->client->resume;
    ok($subscriber->wait_chunks(100), "$method: a slow subscriber gets everything");
    is(scalar(grep { length($websocket->text // '') == 10_000 } 1 .. 100), 100, "$method: so does a websocket");
    $is_idle->($quiet, 'when they have taken everything');
    $t->finish;
}
done_testing();
