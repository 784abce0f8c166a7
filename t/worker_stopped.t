# A worker that stands still for a while gets everything that it has missed, however much that is.
#
# Proves promises.md: deaths-and-changes.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new(workers => 2)->http(<<'EOC')->run();
    push_stream_shared_memory_size 16m;
    push_stream_channels_path $arg_id;
    keepalive_requests 100000;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; push_stream_channel_info_on_publish off; }
        location /sub   { push_stream_subscriber; push_stream_message_template "~text~;"; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

my ($still, $busy) = $t->worker_pids;
my @subscribers = map { $t->subscribe('/sub?id=a', worker => $still) } 1 .. 3;
my $other = $t->subscribe('/sub?id=b', worker => $still);
my $pub = $t->client(worker => $busy);
$t->publish('/pub?id=b', 'before', client => $pub);
is($other->read_until(qr/;/), 'before;', 'it works');

$t->freeze($still);
my $count = 5000;
my $next = 0;
$t->publish_many('', sub { $next++ < $count ? ('/pub?id=a', $next) : () }, worker => $busy);
$t->publish('/pub?id=b', 'meanwhile', client => $pub);
is(length $subscribers[0]->so_far, 0, 'it stands still');
$t->thaw($still);
my $all = join '', map {"$_;"} 1 .. $count;
ok($_->read_until(qr/;$count;/, 60) eq $all, 'all, once, in order') for @subscribers;
is($other->read_until(qr/meanwhile;/, 60), 'meanwhile;', 'another channel too');
$t->done();
