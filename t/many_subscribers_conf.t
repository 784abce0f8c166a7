# nginx-conf/many-subscribers.conf serves all modes, and a subscriber keeps little memory. Only the address and the
# worker's number of connections are changed for the test.
#
# Proves directives.md: many-subscribers.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $sample = do { local (@ARGV, $/) = "$FindBin::Bin/../nginx-conf/many-subscribers.conf"; <> };
my ($http) = $sample =~ /^http \{\n(.*)^\}/ms or die 'no http block';
$http =~ s/\b127\.0\.0\.1:9080/127.0.0.1:%%PORT_8080%%/ or die 'no listener';
like($sample, qr/worker_connections (\d{5,})/, 'it is for many connections');

my $t = Test::Nginx::PushStream->new(workers => 1, connections => 2000)->http($http)->run;

my @streams = map { $t->subscribe("/$_/news") } qw(sub ev);
my $ws = $t->websocket('/ws/news');
my $poll = $t->poll('/lp/news');
$t->wait_for(sub { $t->get('/pub?id=news')->body =~ /"subscribers":\s*"?4\b/ }, 'four subscribers');
$t->publish('/pub?id=news', 'hello');
is($streams[0]->read_until(qr/\n/), "hello\n", 'streaming');
like($streams[1]->read_until(qr/hello/), qr/data: hello/, 'EventSource');
is($ws->text, 'hello', 'WebSocket');
is($poll->body, "hello\n", 'long polling');
$t->publish('/pub?id=news', "message $_") for 1 .. 3;
is($t->subscribe('/sub/news.b2')->read_until(qr/3\n/), "message 2\nmessage 3\n", 'old messages');
is($ws->text, "message $_", 'more for the WebSocket') for 1 .. 3;

# A browser's header, which takes more than the first buffer. The first ones make room that others use again.
my @browser = ('User-Agent' => 'x' x 150, Accept => 'text/event-stream', Cookie => 'y' x 1500);
my @idle = map { $t->subscribe('/ev/idle', @browser) } 1 .. 200;
my ($worker) = $t->worker_pids;
my $before = $t->memory_of($worker);
push @idle, map { $t->subscribe('/ev/idle', @browser) } 1 .. 300;
my $each = ($t->memory_of($worker) - $before) / 300;
# With default settings it would be more than 18,000, because of the large header.
SKIP: {
    skip 'under a checker', 1 if $ENV{TEST_NGINX_SLOW};
    cmp_ok($each, '<', 6000, 'memory of an idle subscriber');
}
$t->publish('/pub?id=idle', 'news');
is((grep { $_->read_until(qr/news/) !~ /data: news/ } @idle), 0, 'each of them gets a message');

$t->done;
