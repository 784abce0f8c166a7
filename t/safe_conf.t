# nginx-conf/safe.conf lets in the clients that it should, and nobody else. Only the address that may publish
# is changed for the test, so that requests can come from both sides.
#
# Proves directives.md: a-safe-configuration.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $sample = do { local (@ARGV, $/) = "$FindBin::Bin/../nginx-conf/safe.conf"; <> };
my ($http) = $sample =~ /^http \{\n(.*)^\}/ms or die 'no http block';
$http =~ s/\b127\.0\.0\.1:9080/127.0.0.1:%%PORT_8080%%/ or die 'no listener';
(my $outside = $http) =~ s/\ballow 127\.0\.0\.1;/allow 127.0.0.2;/g;

my $t = Test::Nginx::PushStream->new(workers => 1)->http($http)->run;
my $site = 'https://www.example.com';

# ---- from inside

is($t->post('/pub?id=news', 'hello')->status, 200, 'inside: a publish is accepted');
is($t->get('/channels-stats?id=news')->status, 200, 'inside: statistics');
is($t->post('/pub?id=news', 'x' x 70_000)->status, 413, 'a body beyond the limit is refused');

# ---- listening

is($t->get('/sub/unknown')->status, 403, 'nobody makes channels by listening');
my $s = $t->start('GET', '/sub/news.b1', Origin => $site)->wait_subscribed;
is($s->header('Access-Control-Allow-Origin'), $site, 'a known origin may read');
my $other = $t->start('GET', '/sub/news.b1', Origin => 'https://evil.example')->wait_subscribed;
is($other->header('Access-Control-Allow-Origin'), undef, 'another one may not');

is($t->websocket('/ws/news', Origin => 'https://evil.example')->status, 403,
    'a WebSocket from a page of another site is refused');
my $ws = $t->websocket('/ws/news', Origin => $site);
is($ws->status, 101, 'one of our own is not');
my $program = $t->websocket('/ws/news');
is($program->status, 101, 'nor is one of a program');

my @more = map { $t->start('GET', '/sub/news') } 1 .. 16;
$_->wait_subscribed for @more;
is($t->get('/sub/news')->status, 503, 'an address has so many connections and no more');
$_->close for $s, $other, $ws, $program, @more;

# ---- from outside

$t->http($outside)->reload;
is($t->post('/pub?id=news', 'hello')->status, 403, 'outside: a publish is refused');
is($t->delete('/pub?id=news')->status, 403, 'and a deletion');
is($t->get('/pub?id=news')->status, 403, 'and the numbers of a channel');
is($t->get('/channels-stats')->status, 403, 'and statistics');
is($t->start('GET', '/sub/news.b1')->wait_subscribed->status, 200, 'but listening goes on');

$t->done;
