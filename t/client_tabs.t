# Seven tabs with the browser client, over HTTP/1.1, all get all messages: more than a browser has connections for requests.
#
# Proves client.md: transports (the default order), several-tabs.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Browser;
use Test::Nginx::PushStream::ClientPage;

Test::More::plan(skip_all => 'chromedriver is not installed') unless Test::Nginx::PushStream::Browser->available;

my $t = Test::Nginx::PushStream->new(workers => 2);
my $page = Test::Nginx::PushStream::ClientPage->new($t);
$t->http($page->http . 'server { listen 127.0.0.1:%%PORT_8080%%;' . $page->locations . '}')->run;

my $browser = Test::Nginx::PushStream::Browser->new($t->dir);
my @tabs = ($browser->current, map { $browser->new_tab } 2 .. 7);
for my $tab (@tabs) {
    $page->open_in($browser->switch($tab));
    $page->follow($browser, 'tab', channels => ['a']);
}
$t->wait_subscribers('/stats?id=a', 7);
my @texts = map {"$_"} 1 .. 50;
$t->publish('/pub?id=a', $_) for @texts;

my $number = 0;
for my $tab (@tabs) {
    my $got;
    $number++;
    $browser->switch($tab);
    $t->wait_for(sub { $got = $browser->run('return got.tab'); @{ $got->{texts} } >= 50 }, "all messages in tab $number");
    is_deeply($got->{texts}, \@texts, "tab $number");
}
is_deeply($browser->run('return got.tab.opens'), ['websocket'], 'by WebSockets, which do not count');

# With fetch first, the browser lets the seventh wait without an error. It does not wait for ever.
for my $tab (@tabs) {
    $browser->switch($tab)->run('subscribers.tab.close()');
    $page->follow($browser, 'fetch', transports => [qw(fetch websocket)], channels => ['b']);
}
$t->wait_subscribers('/stats?id=b', 7, 60);
$t->publish('/pub?id=b', $_) for @texts;
my %opens;
for my $tab (@tabs) {
    my $got;
    $browser->switch($tab);
    $t->wait_for(sub { $got = $browser->run('return got.fetch'); @{ $got->{texts} } >= 50 }, 'all messages');
    is_deeply($got->{texts}, \@texts, 'fetch, or what is left');
    $opens{ $got->{opens}[-1] }++;
}
is_deeply(\%opens, { fetch => 6, websocket => 1 }, 'six of them with fetch');

$browser->quit;
$t->done();
