# In locations without cursors too, the browser client gets each message once, in the order of its channel, while nginx is
# reloaded and its workers are killed.
#
# Proves client.md: going-on, several-channels, what-the-server-needs.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Browser;
use Test::Nginx::PushStream::ClientPage;

Test::More::plan(skip_all => 'chromedriver is not installed') unless Test::Nginx::PushStream::Browser->available;

my $t = Test::Nginx::PushStream->new(workers => 2);
my $page = Test::Nginx::PushStream::ClientPage->new($t);
$t->http($page->http . 'server { listen 127.0.0.1:%%PORT_8080%%;' . $page->locations =~ s/push_stream_cursor on/push_stream_cursor off/r . '}')->run;

my $browser = Test::Nginx::PushStream::Browser->new($t->dir);
$page->open_in($browser);
my @transports = qw(fetch websocket longpolling);

$page->follow_one_and_two($browser, @transports);
my $got;
my $look = sub { $got = $browser->run('return got') };
my ($of_a, $all) = $t->publish_through_cuts(3, 100);
my @one = @$of_a;
my @two = @$all;
$t->wait_for(sub {
    $look->();
    return !grep { $got->{"$_ one"}{texts}[-1] ne $one[-1] || @{ $got->{"$_ two"}{texts} } < @two + 2 } @transports;
}, 'the last message of each', 60);

for my $transport (@transports) {
    my ($one, $two) = @$got{"$transport one", "$transport two"};
    is_deeply($one->{texts}, [ 'first a', @one ], "$transport, one channel");
    my %is_a = map { $_ => 1 } @one, 'first a';
    my @a = grep { $is_a{$_} } @{ $two->{texts} };
    my @b = grep { !$is_a{$_} } @{ $two->{texts} };
    is_deeply(\@a, [ 'first a', @one ], "$transport, the first of two channels");
    is_deeply(\@b, [ 'first b', grep { !$is_a{$_} } @two ], "$transport, the second of two channels");
    is_deeply([ @{ $one->{gaps} }, @{ $two->{gaps} } ], [], "$transport: no gap");
}

# It leaves when it is told to.
$browser->run('Object.values(subscribers).forEach(s => s.close())');
$t->wait_subscribers('/stats?id=a', 0);
is_deeply($browser->run('return Object.values(subscribers).map(s => s.state)'), [ ('closed') x 6 ], 'closed');

$browser->quit;
$t->done();
