# The configuration of docs/guide/production.md runs; its log says how each subscriber ended; its table says how many
# messages a zone holds; and the settings for the system are there.
#
# Proves directives.md: variables, push_stream_shared_memory_size.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $root = "$FindBin::Bin/..";
sub slurp { local (@ARGV, $/) = @_; return scalar <> }

my ($http) = slurp("$root/nginx-conf/production.conf") =~ /^http \{\n(.*)^\}/ms;
$http =~ s/127\.0\.0\.1:(\d+)/127.0.0.1:%%PORT_$1%%/g;
$http =~ s{access_log logs/push.log push [^;]*;}{access_log %%TESTDIR%%/push.log push;};
my $t = Test::Nginx::PushStream->new(main => 'worker_shutdown_timeout 30s;')->http($http)->run;
my ($public, @inside) = (9080, port => 9081);

# ---- the log

my $events = $t->subscribe('/ev/news', port => $public);
my $socket = $t->websocket('/ws/news', port => $public);
$t->publish('/pub?id=news', 'hello', @inside);
like($events->read_until(qr/data: hello\n\n/), qr/^retry: 1\d{3}$/m, 'a browser is told when to come back');
like($socket->text, qr/"text":"hello"/, 'a WebSocket has JSON');
my ($cursor) = $events->so_far =~ /^id: (.*)\ndata: hello$/m;
$events->close;
$t->publish('/pub?id=news', 'missed', @inside);
like($t->get("/lp/news?last=$cursor", port => $public)->body, qr/\A\{[^\n]*"text":"missed"\}\n\z/, 'a long poll goes on at a cursor');
$t->delete('/pub?id=news', @inside);
is($socket->closed, 1, 'a WebSocket ends when its channel is deleted');
my %want = (
    eventsource => qr/sent=1 skipped=0 waiting=0 end=client gap=- /,
    'long-polling' => qr/sent=1 skipped=0 waiting=0 end=answered gap=- /,
    websocket => qr/sent=\d+ skipped=0 waiting=0 end=deleted gap=- /,
);
for my $mode (sort keys %want) {
    my $line;
    ok($t->wait_for(sub { ($line) = slurp($t->dir . '/push.log') =~ /^(.* mode=\Q$mode\E .*)$/m }, "a line about $mode"), "$mode has a line");
    like($line, qr/$want{$mode}seconds=\d/, 'which says how it ended');
}
$t->finish;

# ---- the size of the zone

# Each row of the guide's table: so many messages with a text of that length fit into 1 MB, of which 128 KB are for workers.
my ($table) = slurp("$root/docs/guide/production.md") =~ /^\| Text up to.*\n\|[-:|]+\n((?:\|.*\n)+)/m;
my @rows = map { [map {tr/,//dr} /(\d[\d,]*)/g] } split /\n/, $table;
ok(@rows > 5, 'the guide says how large messages are');
for my $row (@rows) {
    my ($bytes, $takes) = @$row;
    my $messages = int((1024 * 1024 - 128 * 1024) / $takes);
    my $t = Test::Nginx::PushStream->new->http(<<"EOC")->run;
    push_stream_shared_memory_size 1m;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub { push_stream_publisher; push_stream_channels_path \$arg_id; push_stream_store_messages on; push_stream_channel_info_on_publish off; }
    }
EOC
    my $answers = $t->publish_many('/pub?id=news', $messages, body => 'x' x $bytes);
    is_deeply($answers, { 200 => $messages }, "$messages messages of $bytes bytes fit into 1 MB");
    $t->finish;
}

# ---- the system

my %have = map { /^([a-z.0-9_]+) = (.*)$/m ? ($1 => $2) : () } split /\n/, slurp("$root/docs/examples/production/sysctl.conf");
is_deeply([grep { my $path = '/proc/sys/' . tr{.}{/}r; !-e $path } sort keys %have], [], 'the system has these settings');
my ($limit) = slurp("$root/docs/examples/production/limits.conf") =~ /^LimitNOFILE=(\d+)$/m;
my $text = slurp("$root/nginx-conf/production.conf");
my ($files) = $text =~ /^worker_rlimit_nofile (\d+);/m;
my ($connections) = $text =~ /^\s+worker_connections (\d+);/m;
ok($limit >= $files && $files > $connections, 'the limits for files are large enough for the connections');
is(($text =~ /backlog=(\d+);/)[0], $have{'net.core.somaxconn'}, 'and the queue is as long as nginx asks');

done_testing();
