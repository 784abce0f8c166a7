# The browser client gets each message once and in order, over each transport, with one channel and with several, while
# nginx is reloaded and its workers are killed; under a strict policy with Trusted Types.
#
# Proves client.md: transports, going-on, several-channels, content-security-policy.

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
$page->open_in($browser);
my @transports = qw(fetch websocket longpolling eventsource);

$page->follow_one_and_two($browser, @transports);
my $got;
my $look = sub { $got = $browser->run('return got') };
my ($of_a, $all) = $t->publish_through_cuts(3, 100);
my @one = @$of_a;
my @two = @$all;
$t->wait_for(sub {
    $look->();
    return !grep { $got->{"$_ one"}{texts}[-1] ne $one[-1] || $got->{"$_ two"}{texts}[-1] ne $two[-1] } @transports;
}, 'the last message of each', 60);

for my $transport (@transports) {
    my ($one, $two) = @$got{"$transport one", "$transport two"};
    is_deeply($one->{texts}, [ 'first a', @one ], "$transport, one channel");
    is_deeply($two->{texts}, [ 'first a', 'first b', @two ], "$transport, two channels, in the order of publishing");
    is_deeply([ @{ $one->{gaps} }, @{ $two->{gaps} } ], [], "$transport: no gap");
    # A poll may be between two requests, and notice nothing.
    cmp_ok(scalar @{ $one->{opens} }, '>', 1, "$transport: it was cut") if $transport ne 'longpolling';
}
is_deeply($got->{violations}, [], 'nothing against the policy');

# It leaves when it is told to.
$browser->run('Object.values(subscribers).forEach(s => s.close())');
$t->wait_subscribers('/stats?id=a', 0);
is_deeply($browser->run('return Object.values(subscribers).map(s => s.state)'), [ ('closed') x 8 ], 'closed');

$browser->quit;
$t->done();
