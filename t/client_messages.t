# What the browser client gets and sends: old messages, any text and channel name, event types, deletion; a page that is
# loaded again goes on; each transport.
#
# Proves client.md: subscriber, options, events, going-on.

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

my $got;
my $wait = sub {
    my ($name, $list, $n) = @_;
    $t->wait_for(sub { $got = $browser->run('return got')->{$name}; @{ $got->{$list} } >= $n }, "$n $list of $name");
    return $got->{$list};
};

# Old messages: so many, or since a time; and none if nobody asks. A browser has six connections to a host, so one
# transport after the other.
my $close = sub {
    $browser->run('Object.values(subscribers).forEach(s => s.close())');
    $t->wait_subscribers("/stats?id=$_[0]", 0);
};
for my $transport (@transports) {
    my $id = "old-$transport";
    $t->publish("/pub?id=$id", "old $_") for 1 .. 5;
    $page->follow($browser, 'back', transports => [$transport], channels => [ { id => $id, backtrack => 2 } ]);
    $browser->run("follow('since', { transports: ['$transport'], channels: ['$id'], since: new Date(Date.now() - 3600e3) })");
    $page->follow($browser, 'new', transports => [$transport], channels => [$id]);
    is_deeply($wait->('back', 'texts', 2), [ 'old 4', 'old 5' ], "$transport: backtrack");
    is_deeply($wait->('since', 'texts', 5), [ map {"old $_"} 1 .. 5 ], "$transport: since");
    $t->wait_subscribers("/stats?id=$id", 3);
    $t->publish("/pub?id=$id", 'new');
    is_deeply($wait->('new', 'texts', 1), ['new'], "$transport: only what comes from now on");
    is_deeply($wait->('back', 'texts', 3), [ 'old 4', 'old 5', 'new' ], "$transport: and then live");
    $close->($id);
}

# Names and texts that need care on their way; the page publishes them itself.
my @channels = ('a b', 'a+b', '100%', "caf\x{e9}", 'a?b&c=d#e', 'a.b');
my @texts = ("line\nline\r\n\n", '{"a":"}{"}', '</script>', "\x{1f600} \x{2028} \\u0041", '%C3%A9 100 % +', ' ');
$browser->run(q{window.results = {}; window.publishAll = async (channels, texts) => {
    for (const channel of channels) for (const text of texts) {
        const info = await subscribers.names.publish(channel, text, { eventId: 'e 1', eventType: 'upd' });
        results[channel] = info.published_messages;
    }
}});
for my $transport (qw(fetch websocket longpolling)) {
    $page->follow($browser, 'names', transports => [$transport], channels => \@channels);
    $t->wait_subscribers('/stats?id=a%20b', 1);
    my $encode = JSON::PP->new->ascii->canonical;
    # Each channel alone, because live messages of several channels come in the order of publishing.
    $browser->run('publishAll(' . $encode->encode(\@channels) . ', ' . $encode->encode(\@texts) . ')');
    my $all = $wait->('names', 'texts', @channels * @texts);
    is_deeply($all, [ map {@texts} @channels ], "$transport: any text on any channel");
    $close->('a%20b');
}
is_deeply($browser->run('return results'), { map { $_ => 3 * @texts } @channels }, 'the answers to publishing');

# What belongs to a message.
$browser->run(q{follow('whole', { transports: ['fetch'], channels: ['whole'] }).on('message', m => got.whole.message = [m.channel, m.id, m.text,
    m.eventId, m.eventType, m.tag > 0, Math.abs(m.time - Date.now()) < 100e3, m.cursor === subscribers.whole.cursor, m.json(), [...m.bytes()]])});
$t->wait_subscribers('/stats?id=whole', 1);
$t->publish('/pub?id=whole', '[1]', 'Event-Id' => 'e7', 'Event-Type' => 'upd');
$wait->('whole', 'texts', 1);
is_deeply($got->{message}, [ 'whole', 1, '[1]', 'e7', 'upd', (JSON::PP::true) x 3, [1], [ 91, 49, 93 ] ], 'a message');

$close->('whole');

# Deletion, and the channel made again.
for my $transport (@transports) {
    $page->follow($browser, "$transport del", transports => [$transport], channels => ['del']);
}
$t->wait_subscribers('/stats?id=del', 4);
$t->publish('/pub?id=del', 'before');
$wait->("$_ del", 'texts', 1) for @transports;
$t->wait_subscribers('/stats?id=del', 4);
$t->delete('/pub?id=del');
is_deeply($wait->("$_ del", 'deleted', 1), ['del'], "$_: deleted") for @transports;
$t->wait_subscribers('/stats?id=del', 4);
$t->publish('/pub?id=del', 'after');
for my $transport (@transports) {
    is_deeply($wait->("$transport del", 'texts', 2), [ 'before', 'after' ], "$transport: the channel was made again");
    is_deeply($got->{gaps}, [], "$transport: and that is no gap");
}
$close->('del');

# A page that is loaded again goes on where it was.
$t->publish('/pub?id=keep', $_) for 1 .. 3;
for my $transport (@transports) {
    $page->open_in($browser);
    $browser->run("follow('first', { transports: ['$transport'], channels: [{ id: 'keep', backtrack: 3 }] }).on('message', m => sessionStorage.place = m.cursor)");
    my $seen = $wait->('first', 'texts', 3);
    $t->publish('/pub?id=keep', $seen->[-1] + 1);
    $wait->('first', 'texts', 4);
    $browser->open('about:blank');
    $t->wait_subscribers('/stats?id=keep', 0);
    $t->publish('/pub?id=keep', $seen->[-1] + $_) for 2 .. 3;
    $page->open_in($browser);
    $browser->run("follow('second', { transports: ['$transport'], channels: ['keep'], cursor: sessionStorage.place })");
    is_deeply($wait->('second', 'texts', 2), [ $seen->[-1] + 2, $seen->[-1] + 3 ], "$transport: what was published while the page was away");
}

$browser->quit;
$t->done();
