# The browser client survives what happens to a page: the network goes and comes, the page is frozen, or put aside and
# restored by the back button. It gets each message once and in order.
#
# Proves client.md: life-of-a-page.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Browser;
use Test::Nginx::PushStream::ClientPage;

Test::More::plan(skip_all => 'chromedriver is not installed') unless Test::Nginx::PushStream::Browser->available;

my $t = Test::Nginx::PushStream->new(workers => 2);
my $page = Test::Nginx::PushStream::ClientPage->new($t);
$t->http($page->http . 'server { listen 127.0.0.1:%%PORT_8080%%;' . $page->locations . '}')->run;
$page->file('other.html', "<!DOCTYPE html><title>other</title>\n");

my $browser = Test::Nginx::PushStream::Browser->new($t->dir);
$page->open_in($browser);
$browser->run(q{addEventListener('pageshow', e => got.persisted = e.persisted); document.addEventListener('resume', () => got.resumed = true);
    document.addEventListener('freeze', () => got.frozen = true)});
my @transports = qw(fetch websocket longpolling eventsource);

my $got;
my $look = sub { $got = $browser->run('return got') };
my $count = 0;
my $publish = sub { $t->publish('/pub?id=a', ++$count) for 1 .. $_[0] };
my $all_there = sub {
    my ($what) = @_;
    $t->wait_for(sub { $look->(); !grep { ($got->{$_}{texts}[-1] // '') ne $count } @transports }, "the last message after $what", 60);
    is_deeply($got->{$_}{texts}, [ 1 .. $count ], "$_: each once after $what") for @transports;
    is_deeply($got->{$_}{gaps}, [], "$_: no gap after $what") for @transports;
};

$publish->(1);
$page->follow($browser, $_, transports => [$_], channels => [ { id => 'a', backtrack => 1 } ]) for @transports;
$all_there->('the beginning');

$browser->offline(1);
$t->wait_for(sub { $look->(); !grep { $got->{$_}{states}[-1] eq 'open' } @transports }, 'nobody to be connected');
$publish->(5);
$t->wait_for(sub { $look->(); !grep { !@{ $got->{$_}{errors} } } @transports }, 'errors');
is($got->{$_}{errors}[0][0], 'network', "$_: without a network") for @transports;
$browser->offline(0);
$all_there->('being offline');

$browser->devtools('Page.setWebLifecycleState', { state => 'frozen' });
$publish->(5);
$browser->devtools('Page.setWebLifecycleState', { state => 'active' });
$all_there->('being frozen');
ok($got->{frozen} && $got->{resumed}, 'it was frozen');

$browser->run("location.href = 'other.html'");
$t->wait_for(sub { $browser->run('return document.title') eq 'other' }, 'the other page');
$t->wait_subscribers('/stats?id=a', 0);
$publish->(5);
$browser->back;
$t->wait_for(sub { $browser->run('return typeof follow') eq 'function' }, 'the page again');
$look->();
ok($got->{persisted}, 'the page came back as it was');
$all_there->('being put aside');

$browser->run('subscribers.fetch.close()');
$t->wait_subscribers('/stats?id=a', 3);
$browser->quit;
$t->done();
