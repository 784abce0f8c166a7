# With nginx's default settings, the request of a waiting subscriber takes one block of memory that is as large as it
# has to be. Another request_pool_size stays as it is written.
#
# Proves directives.md: memory-of-a-subscriber.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new(workers => 1, connections => 4000)->http(<<'EOC')->run;
    access_log off;
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $1;
    # The first server of an address decides about the memory of its requests.
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        server_name nothing;
    }
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        server_name localhost;
        location ~ ^/pub/(.*) { push_stream_publisher; }
        location ~ ^/sub/(.*) { push_stream_subscriber; }
        location ~ ^/ev/(.*)  { push_stream_subscriber eventsource; push_stream_allowed_origins $http_origin;
                                add_header X-More $http_user_agent; }
        location ~ ^/ws/(.*)  { push_stream_subscriber websocket; push_stream_websocket_allow_publish on; }
        location ~ ^/lp/(.*)  { push_stream_subscriber long-polling; }
        location = /stats     { push_stream_channels_statistics; push_stream_channels_path $arg_id; }
    }
    server {
        listen 127.0.0.1:%%PORT_8081%%;
        request_pool_size 12k;
        location ~ ^/sub/(.*) { push_stream_subscriber; }
    }
EOC
my ($worker) = $t->worker_pids;

# Browsers send some 500 bytes of headers, which nginx keeps elsewhere, and a place in a list for each.
my @browser = (
    'User-Agent' => 'Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0', 'Accept' => '*/*',
    'Accept-Language' => 'en-US,en;q=0.5', 'Accept-Encoding' => 'identity', 'Referer' => 'http://localhost/page.html',
    'Origin' => 'http://localhost', 'Sec-Fetch-Dest' => 'empty', 'Sec-Fetch-Mode' => 'cors', 'DNT' => 1,
    'Sec-Fetch-Site' => 'same-origin', 'Cookie' => 'session=0123456789abcdef', 'Pragma' => 'no-cache',
);

# Memory of each of 300 subscribers, after some that have made room which others use again.
sub each_of {
    my ($name, $connect) = @_;
    my @idle = map { $connect->($name) } 1 .. 200;
    $t->wait_subscribers("/stats?id=$name", 200);
    my $before = $t->memory_of($worker);
    push @idle, map { $connect->($name) } 1 .. 300;
    $t->wait_subscribers("/stats?id=$name", 500);
    my $each = ($t->memory_of($worker) - $before) / 300;
    note("$name: $each bytes");
    return ($each, @idle);
}

my %by_mode = (
    streaming => sub { $t->subscribe("/sub/$_[0]", @_[1 .. $#_]) },
    eventsource => sub { $t->subscribe("/ev/$_[0]", @browser) },
    websocket => sub { $t->websocket("/ws/$_[0]", @browser) },
    polling => sub { $t->poll("/lp/$_[0]", @browser) },
);
SKIP: {
    skip 'under a checker', 5 if $ENV{TEST_NGINX_SLOW};
    for my $mode (sort keys %by_mode) {
        my ($each, @idle) = each_of($mode, $by_mode{$mode});
        cmp_ok($each, '<', 8000, "memory of $mode");
    }
    my ($each) = each_of('large', sub { $t->subscribe("/sub/$_[0]", port => 8081) });
    # Its last pages are never touched, so it is not all there.
    cmp_ok($each, '>', 8500, 'a size that is written counts');
}

# A response that needs more than the block has gets it.
my $s = $t->subscribe('/ev/long', @browser[2 .. $#browser], 'User-Agent' => 'x' x 900);
is($s->header('X-More'), 'x' x 900, 'a long header');
$t->publish('/pub/long', "message $_") for 1 .. 3;
like($s->read_until(qr/message 3\n/), qr/message 1\n.*message 2\n.*message 3\n/s, 'and the messages behind it');

$t->done;
