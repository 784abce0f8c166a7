# The compatible face gets each message once and in order, in each mode, while nginx is reloaded and its workers are killed.
#
# Proves client.md: the-compatible-face.

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
var got = {}, streams = {};
function start(name, settings) {
    settings.host = location.hostname;
    settings.port = location.port;
    settings.reconnectOnTimeoutInterval = settings.reconnectOnChannelUnavailableInterval = 50;
    got[name] = [];
    streams[name] = new PushStream(settings);
    streams[name].onmessage = function (text) { got[name].push(+text); };
    streams[name].addChannel('a', { backtrack: 1 });
    streams[name].connect();
}
start('stream', { modes: 'stream', messagesControlByArgument: true });
start('jsonp', { modes: 'longpolling', useJSONP: true });
start('websocket', { modes: 'websocket', messagesControlByArgument: true });
start('eventsource', { modes: 'eventsource', messagesControlByArgument: true });
start('arguments', { modes: 'longpolling', messagesControlByArgument: true });
start('headers', { modes: 'longpolling' });
JS
$page->file('old.html', qq{<!DOCTYPE html><title>old</title><body><script src="pushstream.js"></script><script src="old.js"></script>\n});

my $browser = Test::Nginx::PushStream::Browser->new($t->dir);
$t->publish('/pub?id=a', 1);
$browser->open($page->url('old.html'));
my @names = qw(stream jsonp websocket eventsource arguments headers);
my $got;
my $last_is = sub {
    my ($n) = @_;
    $t->wait_for(sub { $got = $browser->run('return got'); !grep { ($got->{$_}[-1] // 0) != $n } @names }, "message $n", 60);
};
$last_is->(1);

my $count = 1;
my $publish = sub {
    my $pub = $t->client;
    $t->publish('/pub?id=a', ++$count, client => $pub) for 1 .. 60;
    $pub->close;
};
for (1 .. 2) {
    $publish->();
    $t->reload;
    $publish->();
    $t->kill_worker(($t->worker_pids)[0]);
}
$publish->();
$last_is->($count);
is_deeply($got->{$_}, [ 1 .. $count ], $_) for @names;

$browser->quit;
$t->done();
