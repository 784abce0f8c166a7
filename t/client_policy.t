# The compatible face under a strict policy with Trusted Types: hidden frame, JSONP, and all else, without a violation.
#
# Proves client.md: content-security-policy, the-compatible-face.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Browser;
use Test::Nginx::PushStream::ClientPage;

Test::More::plan(skip_all => 'chromedriver is not installed') unless Test::Nginx::PushStream::Browser->available;

my $t = Test::Nginx::PushStream->new(workers => 2);
my $page = Test::Nginx::PushStream::ClientPage->new($t);
$t->http($page->http . 'server { listen 127.0.0.1:%%PORT_8080%%;' . $page->locations . '}')->run;
$page->file('old.js', <<'JS');
var got = { violations: [] }, streams = {};
addEventListener('securitypolicyviolation', function (e) { got.violations.push(e.effectiveDirective + ' ' + e.blockedURI + ' ' + e.sample); });
function start(name, settings) {
    settings.host = location.hostname;
    settings.port = location.port;
    got[name] = [];
    streams[name] = new PushStream(settings);
    streams[name].onmessage = function (text) { got[name].push(text); };
    streams[name].addChannel('a');
    streams[name].connect();
}
start('stream', { modes: 'stream' });
start('jsonp', { modes: 'longpolling', useJSONP: true });
start('websocket', { modes: 'websocket' });
start('eventsource', { modes: 'eventsource' });
start('longpolling', { modes: 'longpolling' });
JS
$page->file('old.html', qq{<!DOCTYPE html><title>old</title><body><script src="pushstream.js"></script><script src="old.js"></script>\n});

my $browser = Test::Nginx::PushStream::Browser->new($t->dir);
$browser->open($page->url('old.html'));
$t->wait_subscribers('/stats?id=a', 5);
my @texts = map {"<b>$_ \" ' \\ %</script>"} 1 .. 10;
$t->publish('/pub?id=a', $_) for @texts;
my $got;
my @names = qw(stream jsonp websocket eventsource longpolling);
$t->wait_for(sub { $got = $browser->run('return got'); !grep { @{ $got->{$_} } < 10 } @names }, 'all messages');
is_deeply($got->{$_}, \@texts, $_) for @names;
is_deeply($got->{violations}, [], 'nothing against the policy');

$browser->quit;
$t->done();
