# The browser client notices a connection that is dead although nobody has closed it, and goes on with another one.
#
# Proves client.md: life-of-a-page, options, errors.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Browser;
use Test::Nginx::PushStream::ClientPage;

Test::More::plan(skip_all => 'chromedriver is not installed') unless Test::Nginx::PushStream::Browser->available;

my $t = Test::Nginx::PushStream->new(workers => 1);
my $page = Test::Nginx::PushStream::ClientPage->new($t);
$t->http($page->http . 'server { listen 127.0.0.1:%%PORT_8080%%;' . $page->locations . <<'EOC' . '}')->run;
        location ~ ^/ev2/(.*) { push_stream_subscriber eventsource; push_stream_channels_path $1; push_stream_ping_message_interval 200ms; }
        location ~ ^/ws2/(.*) { push_stream_subscriber websocket; push_stream_channels_path $1; push_stream_ping_message_interval 200ms; }
EOC

my $browser = Test::Nginx::PushStream::Browser->new($t->dir);
$page->open_in($browser);
my @transports = qw(fetch websocket);
$page->follow($browser, $_, transports => [$_], silence => 2000, channels => ['a'], locations => { fetch => '/ev2', websocket => '/ws2' })
    for @transports;
$t->wait_subscribers('/stats?id=a', 2);
my $got;
my $last_is = sub {
    my ($text) = @_;
    $t->wait_for(sub { $got = $browser->run('return got'); !grep { ($got->{$_}{texts}[-1] // '') ne $text } @transports }, $text, 60);
};
$t->publish('/pub?id=a', 'one');
$last_is->('one');

my ($worker) = $t->worker_pids;
$t->freeze($worker);
$t->wait_for(sub { $got = $browser->run('return got'); !grep { !@{ $got->{$_}{errors} } } @transports }, 'both to notice', 30);
is_deeply($got->{$_}{errors}[0], [ 'silence', undef, undef ], "$_: silence") for @transports;
$t->thaw($worker);

$t->publish('/pub?id=a', 'two');
$last_is->('two');
is_deeply($got->{$_}{texts}, [ 'one', 'two' ], "$_: goes on") for @transports;
is_deeply($got->{$_}{gaps}, [], "$_: without a gap") for @transports;

$browser->quit;
$t->done();
