# The browser client and a server that answers something else: a state and an error tell, it never asks in a tight loop, and
# it gets on when the server is well again.
#
# Proves client.md: errors, states.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Browser;
use Test::Nginx::PushStream::ClientPage;

Test::More::plan(skip_all => 'chromedriver is not installed') unless Test::Nginx::PushStream::Browser->available;

my $t = Test::Nginx::PushStream->new(workers => 2);
my $page = Test::Nginx::PushStream::ClientPage->new($t);
# Accepts connections, and says nothing.
my $silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 10) or die $!;
$t->http($page->http . 'access_log %%TESTDIR%%/access.log; server { listen 127.0.0.1:%%PORT_8080%%;' . $page->locations . <<'EOC' =~ s/%%SILENT%%/$silent->sockport/er . '}')->run;
        default_type text/event-stream;
        location /html/   { default_type text/html; return 200 "<!DOCTYPE html><p>Please log in"; }
        location /error/  { return 500; }
        location /bad/    { return 502 "<!DOCTYPE html><p>Bad gateway"; }
        location /loop/   { return 302 /loop/again; }
        location /empty/  { return 204; }
        location /half/   { return 200 "data: {\"id\":1,\"channel\":\"a"; }
        location /other/  { return 200 "data: hello\n\ndata: {\"id\":\"x\"}\n\ndata: [1]\n\n"; }
        location /denied/ { return 403; }
        location /no/     { return 401; }
        location /gone/   { return 404; }
        location /busy/   { add_header Retry-After 3600 always; return 503; }
        location /silent/ { proxy_pass http://127.0.0.1:%%SILENT%%; }
        # Wrong methods and so on: a location of another kind.
        location /pubs/   { push_stream_publisher; push_stream_channels_path $arg_id; }
EOC

my $browser = Test::Nginx::PushStream::Browser->new($t->dir);
$page->open_in($browser);
my $got;
my $look = sub { $got = $browser->run('return got') };
my $follow = sub {
    my ($name, $transport, %more) = @_;
    $page->follow($browser, "$name $transport", transports => [$transport], locations => { $transport => "/$name" },
        channels => ['a'], retry => { min => 100, max => 400 }, %more);
};
my $requests = sub { my ($name) = @_; local (@ARGV, $/) = $t->dir . '/access.log'; return () = <> =~ m{"GET /$name/}g };

# Ends it: nothing of this will heal.
for my $case ([ html => 200 ], [ empty => 204 ], [ pubs => 400 ]) {
    my ($name, $status) = @$case;
    $follow->($name, 'fetch');
    $t->wait_for(sub { $look->()->{"$name fetch"}{states}[-1] eq 'closed' }, "$name to end it");
    my $list = $got->{"$name fetch"};
    is_deeply($list->{states}, [ 'connecting', 'closed' ], "$name: states");
    is_deeply([ @{ $list->{errors}[0] }[0, 1] ], [ 'refused', $status ], "$name: error");
    is($requests->($name), 1, "$name: one request");
}
is($got->{'pubs fetch'}{errors}[0][2], 'No channel id provided.', 'with the reason of the server');

# Asked again, later and later, with each transport; and the error says why.
my %status = (error => 500, bad => 502, loop => undef);
for my $name (sort keys %status) {
    $follow->($name, $_) for qw(fetch longpolling websocket eventsource);
    $t->wait_for(sub { $look->(); !grep { @{ $got->{"$name $_"}{errors} } < 4 } qw(fetch longpolling websocket eventsource) }, "$name: errors");
    is_deeply([ @{ $got->{"$name $_"}{errors}[3] }[0, 1] ], [ 'network', $status{$name} ], "$name: $_") for qw(fetch longpolling);
    is_deeply([ @{ $got->{"$name $_"}{errors}[3] }[0, 1] ], [ 'network', undef ], "$name: $_ does not see the status") for qw(websocket eventsource);
    ok(!@{ $got->{"$name fetch"}{opens} }, "$name: never open");
    $browser->run('Object.values(subscribers).forEach(s => s.close())');
}

# A refusal that may heal, or a server that wants a pause: not before that.
for my $case ([ denied => 'refused', 403, 1 ], [ gone => 'refused', 404, 1 ], [ no => 'refused', 401, 2 ], [ busy => 'network', 503, 1 ]) {
    my ($name, $kind, $status, $asked) = @$case;
    $follow->($name, 'fetch');
    $t->wait_for(sub { $look->()->{"$name fetch"}{states}[-1] eq 'waiting' }, "$name to wait");
    is_deeply([ @{ $got->{"$name fetch"}{errors}[-1] }[0, 1] ], [ $kind, $status ], "$name: error");
    is($requests->($name), $asked, "$name: asked so often");
    $follow->($name, 'longpolling', retry => { refused => JSON::PP::false }) if $kind eq 'refused';
    $t->wait_for(sub { $look->()->{"$name longpolling"}{states}[-1] eq 'closed' }, "$name, refused: false") if $kind eq 'refused';
}

# Half a message, and what is none, are no message. A stream that only ends is asked for later and later.
$follow->($_, 'fetch', retry => { min => 100, max => 400, attempts => 4 }) for qw(half other);
$t->wait_for(sub { $look->(); !grep { $got->{"$_ fetch"}{states}[-1] ne 'closed' } qw(half other) }, 'it to give up');
for my $name (qw(half other)) {
    is_deeply($got->{"$name fetch"}{texts}, [], "$name: no message");
    is($requests->($name), 4, "$name: so many attempts");
}
is(scalar(grep { $_->[0] eq 'format' } @{ $got->{'other fetch'}{errors} }), 12, 'each is reported');

# No answer at all: the next transport.
$page->follow($browser, 'silent', transports => [qw(fetch websocket)], locations => { fetch => '/silent' }, channels => ['a']);
$t->wait_for(sub { @{ $look->()->{silent}{opens} } }, 'another transport', 40);
is_deeply($got->{silent}{opens}, ['websocket'], 'one that never answers is left');
is($got->{silent}{errors}[0][0], 'network', 'and that is told');

# And well again, after a wait that the page cuts short.
$browser->run("follow('heals', { transports: ['fetch'], locations: { get fetch() { return window.isWell ? '/ev' : '/busy' } }, channels: ['a'] })");
$t->wait_for(sub { $look->()->{heals}{states}[-1] eq 'waiting' }, 'it to wait');
$browser->run('window.isWell = true; subscribers.heals.reconnect()');
$t->wait_for(sub { $look->()->{heals}{states}[-1] eq 'open' }, 'it to be open');
$t->publish('/pub?id=a', 'well');
$t->wait_for(sub { @{ $look->()->{heals}{texts} } }, 'a message');
is_deeply($got->{heals}{texts}, ['well'], 'well again');

$browser->quit;
$t->done();
