# The browser client over HTTP/2 and TLS, and with a server of another origin; by default it takes the transport that suits.
#
# Proves client.md: transports, what-the-server-needs.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Browser;
use Test::Nginx::PushStream::ClientPage;

Test::More::plan(skip_all => 'chromedriver is not installed') unless Test::Nginx::PushStream::Browser->available;

my $t = Test::Nginx::PushStream->new(workers => 2);
my $page = Test::Nginx::PushStream::ClientPage->new($t);
$t->http($page->http . <<'EOC' . $page->locations . <<'MORE' . $page->locations . '}');
    ssl_certificate %%TESTDIR%%/cert.pem;
    ssl_certificate_key %%TESTDIR%%/key.pem;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        listen 127.0.0.1:%%PORT_8443%% ssl http2;
EOC
    }
    server {
        listen 127.0.0.1:%%PORT_8081%%;
        push_stream_allowed_origins $http_origin;
MORE
my $dir = $t->dir;
system("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout $dir/key.pem -out $dir/cert.pem >$dir/openssl.log 2>&1") == 0
    or die 'openssl cannot make a certificate';
$t->run;

my $browser = Test::Nginx::PushStream::Browser->new($dir);
my $got;
my $texts_of = sub {
    my ($name, $n) = @_;
    $t->wait_for(sub { $got = $browser->run('return got')->{$name}; @{ $got->{texts} } >= $n }, "$n texts of $name");
    return $got->{texts};
};

# HTTP/2: fetch, because all tabs share one connection.
$browser->open('https://127.0.0.1:' . $t->port(8443) . '/page/index.html');
$t->wait_for(sub { $browser->run('return typeof follow') eq 'function' }, 'the script of the page');
$page->follow($browser, 'usual', channels => ['a']);
$page->follow($browser, $_, transports => [$_], channels => ['a']) for qw(fetch longpolling eventsource);
$t->wait_subscribers('/stats?id=a', 4);
$t->publish('/pub?id=a', $_) for 1 .. 20;
is_deeply($texts_of->($_, 20), [ 1 .. 20 ], "$_ over HTTP/2") for qw(usual fetch longpolling eventsource);
is_deeply($browser->run('return got.usual.opens'), ['fetch'], 'by default fetch');
$browser->open('about:blank');
$t->wait_subscribers('/stats?id=a', 0);

# Another origin: what the client sends is allowed, and it goes on.
my $other = 'http://127.0.0.1:' . $t->port(8081);
$page->file('page.js', do { local (@ARGV, $/) = $t->dir . '/page/page.js'; <> } =~ s{Subscriber\('/'}{Subscriber('$other'}r);
$page->file('foreign.html', qq{<!DOCTYPE html><title>push</title><script type="module" src="page.js"></script>\n});
$browser->open($page->url('foreign.html'));
$t->wait_for(sub { $browser->run('return typeof follow') eq 'function' }, 'the script of the page');
$page->follow($browser, $_, transports => [$_], channels => ['b']) for qw(fetch longpolling eventsource websocket);
$t->wait_subscribers('/stats?id=b', 4);
$t->publish('/pub?id=b', $_) for 1 .. 5;
$texts_of->($_, 5) for qw(fetch longpolling eventsource websocket);
$browser->run('Object.values(subscribers).forEach(s => s.reconnect())');
$t->publish('/pub?id=b', $_) for 6 .. 10;
is_deeply($texts_of->($_, 10), [ 1 .. 10 ], "$_ from another origin") for qw(fetch longpolling eventsource websocket);
is_deeply($got->{errors}, [], 'without an error');
$browser->run(q{subscribers.fetch.publish('b', 'mine')});
is($texts_of->('fetch', 11)->[10], 'mine', 'and it publishes there');

$browser->quit;
$t->done();
