# The browser client is told how many messages it missed, and of a server that was started anew; over each transport.
#
# Proves client.md: gaps.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Browser;
use Test::Nginx::PushStream::ClientPage;

Test::More::plan(skip_all => 'chromedriver is not installed') unless Test::Nginx::PushStream::Browser->available;

my $t = Test::Nginx::PushStream->new(workers => 2);
my $page = Test::Nginx::PushStream::ClientPage->new($t);
$t->http($page->http . 'push_stream_max_messages_stored_per_channel 5; server { listen 127.0.0.1:%%PORT_8080%%;' . $page->locations . <<'EOC' . '}')->run;
    # Without cursors: these tell by the ids.
    location ~ ^/time/(.*) { push_stream_subscriber eventsource; push_stream_channels_path $1; push_stream_cursor off; }
EOC

my $browser = Test::Nginx::PushStream::Browser->new($t->dir);
$page->open_in($browser);
my %options = map { $_ => { transports => [$_] } } qw(fetch websocket longpolling eventsource);
$options{time} = { transports => ['fetch'], locations => { fetch => '/time' } };
my @names = sort keys %options;

my $got;
my $last_is = sub {
    my ($text) = @_;
    $t->wait_for(sub { $got = $browser->run('return got'); !grep { ($got->{$_}{texts}[-1] // '') ne $text } @names }, $text, 60);
};

$t->publish('/pub?id=a', $_) for 1 .. 3;
$page->follow($browser, $_, %{ $options{$_} }, channels => [ { id => 'a', backtrack => 2 } ]) for @names;
$last_is->(3);
is_deeply($got->{$_}{gaps}, [], "$_: what is older than a backtrack is not missed") for @names;

$browser->offline(1);
$t->wait_for(sub { $got = $browser->run('return got'); !grep { $got->{$_}{states}[-1] eq 'open' } @names }, 'nobody to be connected');
$t->publish('/pub?id=a', $_) for 4 .. 20;
$browser->offline(0);
$last_is->(20);
for my $name (@names) {
    is_deeply($got->{$name}{texts}, [ 2, 3, 16 .. 20 ], "$name: what was still there");
    is(scalar @{ $got->{$name}{gaps} }, 1, "$name: one gap");
    is($got->{$name}{gaps}[0]{channel}, 'a', "$name: in this channel");
    is($got->{$name}{gaps}[0]{missed}, 12, "$name: of so many messages");
}

# Another life of the memory: ids begin again.
$t->stop;
$t->run;
$t->wait_for(sub { ($t->stats('/stats?id=a') // { subscribers => 0 })->{subscribers} == @names }, 'all to be counted', 60);
$t->publish('/pub?id=a', 'anew');
$last_is->('anew');
for my $name (@names) {
    is(scalar @{ $got->{$name}{gaps} }, 2, "$name: one more gap");
    is($got->{$name}{gaps}[1]{missed}, undef, "$name: nobody knows how much");
    is($got->{$name}{texts}[-2], 20, "$name: and goes on");
}

$browser->quit;
$t->done();
