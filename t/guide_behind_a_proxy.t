# The proxies of docs/guide/behind-a-proxy.md: everything passes at once and in every mode, the push server knows the browser's
# address, and a load balancer sends all who use a channel to one server.
#
# Proves none of them: the page itself.

use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP qw(decode_json);
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Page;

my $page = Test::Nginx::PushStream::Page->new('docs/guide/behind-a-proxy.md');

# A push server, and another. The second has other ports.
sub push_server {
    my ($shift) = @_;
    my $t = $page->nginx('behind-a-proxy.conf');
    $t->{http} =~ s/%%PORT_(90\d\d)%%/'%%PORT_' . ($1 + $shift) . '%%'/ge;
    $t->{http} = "access_log %%TESTDIR%%/access.log;\n$t->{http}";
    return $t->run;
}
my @push = map { push_server($_) } 0, 10;

# A proxy of its own, which has no module, but knows the ports of the push servers.
sub proxy {
    my ($conf, $more) = @_;
    my $t = $page->nginx($conf, module => 0);
    $t->{http} .= $more // '';
    for my $n (0, 1) {
        $t->{ports}{ 9080 + 10 * $n } = $push[$n]->port(9080 + 10 * $n);
        $t->{ports}{ 9081 + 10 * $n } = $push[$n]->port(9081 + 10 * $n);
    }
    $t->{first_port} = 9070;
    return $t->run;
}

# One more server, which holds back unless it is asked not to, as nginx does with HTTP/1.0 to the push server.
my $proxy = proxy('proxy.conf', 'server { listen 127.0.0.1:%%PORT_9075%%; location / { proxy_pass http://push; } }');
# The page's addresses are those of both.
$push[0]{ports}{9070} = $proxy->port(9070);
$page->follow($push[0])->stop;
$push[0]->wait_subscribers('/of-the-test', 0);

my $cursor = decode_json($proxy->get('/lp/news?eventid=none', -port => 9070, 'If-Modified-Since' => 'Thu, 01 Jan 1970 00:00:01 GMT')->body)->{cursor};
ok($cursor, 'a long poll passes, with the header that asks for old messages');
my $waiting = $proxy->poll('/lp/news', -port => 9070, 'Last-Event-ID' => $cursor);
my $events = $proxy->subscribe('/ev/news', -port => 9070, 'Last-Event-ID' => $cursor);
my $held = $proxy->subscribe('/ev/news', -port => 9075);
my $socket = $proxy->websocket("/ws/news?eventid=$cursor", -port => 9070);
$push[0]->wait_subscribers('/of-the-test', 4);
$push[0]->publish('/pub?id=news', 'second', -port => 9081);
like($events->read_until(qr/data: .*\n\n/), qr/"text":"second"/, 'an event stream, from where it was');
like($held->read_until(qr/data: .*\n\n/), qr/"text":"second"/, 'the header of the push server lets it pass a proxy that holds back');
is(decode_json($socket->text)->{text}, 'second', 'a WebSocket');
is(decode_json($waiting->body)->{text}, 'second', 'a long poll that waited');
$_->close for $events, $held, $socket;

# The address of the browser: the loopback network has many.
my $url = 'http://127.0.0.1:' . $proxy->port(9070) . '/lp/news?eventid=' . $cursor;
system("curl -s -o /dev/null --interface 127.0.0.5 -H 'X-Real-IP: 192.0.2.1' '$url'");
$push[0]->wait_for(sub { Test::Nginx::PushStream::_slurp($push[0]->dir . '/access.log') =~ /^127\.0\.0\.5 /m }, 'the line of the log');
my $log = Test::Nginx::PushStream::_slurp($push[0]->dir . '/access.log');
like($log, qr/^127\.0\.0\.5 /m, 'the push server logs the address of the browser');
unlike($log, qr/^192\.0\.2\.1 /m, 'and not what the browser says itself');
$proxy->finish;

# The load balancer.
my $balancer = proxy('balancer.conf');
my @channels = map {"room-$_"} 1 .. 20;
my @subscribers = map { $balancer->subscribe("/ev/$_", -port => 9070) } @channels;
$_->read_until(qr/id: .*\n\n/) for @subscribers;
$balancer->publish("/pub?id=$_", "for $_", -port => 9071) for @channels;
my @got = map { ($_->read_until(qr/data: .*\n\n/) // '') =~ /"text":"([^"]*)"/ } @subscribers;
is_deeply(\@got, [ map {"for $_"} @channels ], 'each subscriber gets what is published to its channel');
my @numbers = map { my $t = $push[$_]; scalar grep { $t->get("/pub?id=$_", -port => 9081 + ($t == $push[1] ? 10 : 0))->status == 200 } @channels } 0, 1;
is($numbers[0] + $numbers[1], 20, 'each channel is on one server');
ok($numbers[0] && $numbers[1], 'and both servers have some');
$_->close for @subscribers;
$balancer->finish;
$push[1]->finish;
$push[0]->done;
