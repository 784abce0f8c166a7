# A page written for the old client works with ours in its place: each mode, old messages, deletion, states, errors, and
# sending.
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

# The templates that old pages need.
my $json = '{\"id\":~id~,\"channel\":\"~channel~\",\"text\":\"~text~\",\"tag\":\"~tag~\",\"time\":\"~time~\",\"eventid\":\"~event-id~\"}';
$t->http(<<"EOC" . <<'EOC')->run;
    push_stream_shared_memory_size 8m;
    push_stream_store_messages on;
    push_stream_message_template "$json";
    types { text/html html; text/javascript js; }
EOC
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher admin; push_stream_channels_path $arg_id; }
        location /stats { push_stream_channels_statistics; push_stream_channels_path $arg_id; }
        location /page  { root %%TESTDIR%%; }
        location /denied { deny all; }
        location ~ ^/(?<cut>cut)?ev/(?<ids>.*) {
            push_stream_subscriber eventsource; push_stream_channels_path $ids;
            push_stream_last_received_message_time $arg_time; push_stream_last_received_message_tag $arg_tag; push_stream_last_event_id $arg_eventid;
        }
        location ~ ^/ws/(.*) {
            push_stream_subscriber websocket; push_stream_channels_path $1; push_stream_websocket_allow_publish on;
            push_stream_last_received_message_time $arg_time; push_stream_last_received_message_tag $arg_tag; push_stream_last_event_id $arg_eventid;
        }
        location ~ ^/shortws/(.*) {
            push_stream_subscriber websocket; push_stream_channels_path $1; push_stream_subscriber_connection_ttl 300ms;
        }
        location ~ ^/shortsub/(.*) {
            push_stream_subscriber; push_stream_channels_path $1; push_stream_subscriber_connection_ttl 300ms;
            push_stream_header_template "<html><head><script>parent.PushStream.register(this);</script></head><body onload='try { parent.PushStream.reset(this) } catch (e) {}'>";
            push_stream_footer_template "</body></html>";
            default_type "text/html; charset=utf-8";
        }
        location ~ ^/lp/(.*) {
            push_stream_subscriber long-polling; push_stream_channels_path $1; push_stream_longpolling_connection_ttl 1s;
        }
        location ~ ^/arg/(.*) {
            push_stream_subscriber long-polling; push_stream_channels_path $1; push_stream_longpolling_connection_ttl 1s;
            push_stream_last_received_message_time $arg_time; push_stream_last_received_message_tag $arg_tag; push_stream_last_event_id $arg_eventid;
        }
        location ~ ^/sub/(.*) {
            push_stream_subscriber; push_stream_channels_path $1; push_stream_ping_message_interval 200ms;
            push_stream_last_received_message_time $arg_time; push_stream_last_received_message_tag $arg_tag; push_stream_last_event_id $arg_eventid;
            push_stream_header_template "<html><head><script>try { document.domain = document.domain } catch (e) {} parent.PushStream.register(this);</script></head><body>";
            push_stream_message_template "<script>p(~id~,'~channel~','~text~','~event-id~', '~time~', '~tag~');</script>";
            push_stream_footer_template "</body></html>";
            default_type "text/html; charset=utf-8";
        }
    }
EOC

# ES5, as such pages are.
$page->file('old.html', <<'HTML');
<!DOCTYPE html><title>old</title><body><pre id="Log4jsLogOutput"></pre>
<script src="pushstream.js"></script>
<script>
var got = {}, streams = {};
function start(name, settings, channels) {
    var g = got[name] = { messages: [], states: [], errors: [], deleted: [], sent: [] };
    settings.host = location.hostname;
    settings.port = location.port;
    settings.reconnectOnTimeoutInterval = settings.reconnectOnTimeoutInterval || 100;
    settings.reconnectOnChannelUnavailableInterval = settings.reconnectOnChannelUnavailableInterval || 100;
    var s = streams[name] = new PushStream(settings);
    s.onmessage = function (text, id, channel, eventid, isLast, time) {
        g.messages.push([text, id, channel, eventid, isLast, typeof time]);
    };
    s.onstatuschange = function (state) { g.states.push(state); };
    s.onerror = function (error) { g.errors.push(error.type); };
    s.onchanneldeleted = function (channel) { g.deleted.push(channel); };
    for (var i = 0; i < channels.length; i++) s.addChannel(channels[i][0], channels[i][1]);
    s.connect();
}
</script>
HTML

my $browser = Test::Nginx::PushStream::Browser->new($t->dir);
my $url = $page->url('old.html');
my ($got, $number) = ({}, 0);
my $look = sub { return $got = $browser->run('return got') };
my $texts = sub { return [ map { $_->[0] } @{ $got->{ $_[0] }{messages} } ] };
my $start = sub {
    my ($name, $settings, @channels) = @_;
    my $encode = JSON::PP->new->canonical->allow_nonref;
    $browser->run('start(' . join(', ', map { $encode->encode($_) } $name, $settings, \@channels) . ')');
};
my $open = sub {
    my ($name) = @_;
    $t->wait_for(sub { $look->()->{$name}{states}[-1] == 2 }, "$name to be open");
};
$browser->open($url);
is_deeply($browser->run('return [typeof PushStream, PushStreamManager.length, PushStream.CLOSED, PushStream.CONNECTING, PushStream.OPEN, PushStream.LOG_LEVEL]'),
    [ 'function', 0, 0, 1, 2, 'error' ], 'two globals');

my %modes = (
    websocket => { modes => 'websocket' }, eventsource => { modes => 'eventsource' }, stream => { modes => 'stream' },
    headers => { modes => 'longpolling' }, arguments => { modes => 'longpolling', messagesControlByArgument => \1, urlPrefixLongpolling => '/arg' },
    jsonp => { modes => 'longpolling', useJSONP => \1, urlPrefixLongpolling => '/arg' },
);
my %types = (websocket => 'WebSocket', eventsource => 'EventSource', stream => 'Stream');

for my $mode (sort keys %modes) {
    my $ch = "$mode-a";
    my $client = $t->client;
    $t->publish("/pub?id=$ch", "old%20$_", client => $client, 'Event-Id' => "e$_") for 1 .. 3;
    my $own = $t->client;
    # A page opens with the last two messages, and gets what follows.
    $start->($mode, { %{ $modes{$mode} } }, [ $ch, { backtrack => 2 } ], ["$mode-b"]);
    $open->($mode);
    is($browser->run("return streams['$mode'].wrapper.type"), $types{$mode} // 'LongPolling', "$mode: type");
    $t->wait_for(sub { $look->(); @{ $texts->($mode) } == 2 }, "$mode: the old messages");
    $t->publish("/pub?id=$mode-b", '100%', client => $client);
    $t->wait_for(sub { $look->(); @{ $texts->($mode) } == 3 }, "$mode: a live message");
    my @burst = map {"n$_"} 1 .. 20;
    $t->publish("/pub?id=$ch", $_, client => $client) for @burst;
    $t->wait_for(sub { $look->(); @{ $texts->($mode) } >= 23 }, "$mode: many messages");
    is_deeply($texts->($mode), [ 'old 2', 'old 3', '100%', @burst ], "$mode: each once, in order, decoded");
    is_deeply($got->{$mode}{messages}[1], [ 'old 3', 3, $ch, 'e3', $got->{$mode}{messages}[1][4], 'string' ], "$mode: what a message has");
    is_deeply([ map { $_->[4] ? 1 : 0 } @{ $got->{$mode}{messages} }[0, 1] ], [ $types{$mode} ? 1 : 0, 1 ], "$mode: the last one of a batch");
    is_deeply($got->{$mode}{errors}, [], "$mode: no error");

    # It publishes, by a frame or a request.
    $browser->run("streams['$mode'].sendMessage('caf\\u00e9 & 1%', function () { got['$mode'].sent.push('ok') }, function (s) { got['$mode'].sent.push(s) })");
    $t->wait_for(sub { $look->(); @{ $texts->($mode) } >= 25 && @{ $got->{$mode}{sent} } }, "$mode: its own message, on both channels");
    is_deeply([ @{ $texts->($mode) }[23, 24] ], [ ("caf\x{e9} & 1%") x 2 ], "$mode: sent");
    is_deeply($got->{$mode}{sent}, ['ok'], "$mode: and told");

    # Deletion; between two polls nobody would see it.
    $t->wait_subscribers("/stats?id=$mode-b", 1);
    $t->delete("/pub?id=$mode-b");
    $t->wait_for(sub { $look->(); @{ $got->{$mode}{deleted} } }, "$mode: deleted");
    is_deeply($got->{$mode}{deleted}, ["$mode-b"], "$mode: which one");

    # A callback that throws is seen, and ends nothing.
    $browser->run("got.thrown = []; onerror = function (text) { got.thrown.push(text); return true; };"
        . "streams['$mode'].onchanneldeleted = function () { throw new Error('mine'); }");
    $t->wait_subscribers("/stats?id=$ch", 1);
    my $states = @{ $got->{$mode}{states} };
    $t->delete("/pub?id=$ch");
    $t->wait_for(sub { @{ $look->()->{thrown} } }, "$mode: it throws");
    like($got->{thrown}[0], qr/mine/, "$mode: and is seen");
    $t->wait_subscribers("/stats?id=$ch", 1);
    is(scalar @{ $look->()->{$mode}{states} }, $states, "$mode: the polls go on") if !$types{$mode};

    # The end
    $browser->run("streams['$mode'].disconnect()");
    $t->wait_subscribers("/stats?id=$ch", 0);
    is($browser->run("return streams['$mode'].readyState"), 0, "$mode: closed");
    is(scalar @{ $texts->($mode) }, 25, "$mode: nothing twice");
}

# States: adding a channel connects anew.
$start->('add', { modes => 'websocket' }, ['add-1']);
$open->('add');
$browser->run("streams.add.addChannel('add-2')");
$t->wait_for(sub { @{ $look->()->{add}{states} } >= 5 }, 'five states');
is_deeply($got->{add}{states}, [ 1, 2, 0, 1, 2 ], 'CONNECTING, OPEN, CLOSED, CONNECTING, OPEN');
$browser->run("streams.add.disconnect()");
is_deeply($browser->run("return streams.add.channelsCount"), 2, 'two channels');
for my $wrong (q{streams.add.addChannel('add-2')}, q{streams.add.addChannel('a b')}, q{new PushStream({}).connect()},
    q{var s = new PushStream({ port: 'x' }); s.addChannel('x'); s.connect()}, q{var s = new PushStream({ modes: 'pigeon' }); s.addChannel('x'); s.connect()}) {
    is($browser->run("try { $wrong; return 'fine' } catch (e) { return typeof e }"), 'string', "throws a string: $wrong");
}

# Errors: what cannot be reached is "load" and moves on to the next mode, an end is "timeout"; both come back.
$start->('next', { modes => 'eventsource|websocket', urlPrefixEventsource => '/pub' }, ['next']);
$open->('next');
is_deeply($got->{next}{errors}, ['load'], 'an error while connecting');
is_deeply($got->{next}{states}, [ 1, 0, 1, 2 ], 'and the next mode');
is($browser->run("return streams.next.wrapper.type"), 'WebSocket', 'which works');
$browser->run("streams.next.disconnect()");
for my $case ([ 'websocket', 'Websocket' ], [ 'eventsource', 'Eventsource' ], [ 'stream', 'Stream' ], [ 'longpolling', 'Longpolling' ],
    [ 'longpolling', 'Longpolling', useJSONP => \1 ]) {
    my ($mode, $prefix, %more) = @$case;
    my $name = join '-', 'refused', $mode, sort keys %more;
    my $is_poll = $mode eq 'longpolling';
    $start->($name, { modes => $mode, "urlPrefix$prefix" => $is_poll ? '/denied' : '/pub', autoReconnect => \0, %more }, ['x']);
    $t->wait_for(sub { @{ $look->()->{$name}{errors} } }, "$name: an error");
    is_deeply($got->{$name}{errors}, ['load'], "$name: load");
    # A poll counts as open after 150 ms, before or after its answer.
    is_deeply([ grep { $_ != 2 || !$is_poll } @{ $got->{$name}{states} } ], [ 1, 0 ], "$name: states");
}
for ([ shortws => 'websocket', 'urlPrefixWebsocket' ], [ shortsub => 'stream', 'urlPrefixStream' ]) {
    my ($name, $mode, $option) = @$_;
    $start->($name, { modes => $mode, $option => "/$name" }, [$name]);
    $t->wait_for(sub { @{ $look->()->{$name}{states} } >= 5 }, "$name comes back");
    is($got->{$name}{errors}[0], 'timeout', "$name: an end is a timeout");
    is_deeply([ @{ $got->{$name}{states} }[0 .. 4] ], [ 1, 2, 0, 1, 2 ], "$name: states");
    $browser->run("streams.$name.disconnect()");
}
$start->('never', { modes => 'stream', timeout => 200, autoReconnect => \0, urlPrefixStream => '/lp' }, ['never']);
$t->wait_for(sub { @{ $look->()->{never}{errors} } }, 'a frame that never registers');
is_deeply($got->{never}{errors}, ['load'], 'is a load error');
is_deeply($got->{never}{states}, [ 1, 0 ], 'and without autoReconnect the end');
like($browser->run("return document.getElementById('Log4jsLogOutput').textContent"), qr/load/, 'the log has it');

# A place: since a time, since the epoch, behind an event id.
$t->publish('/pub?id=place', "p$_", 'Event-Id' => "e$_") for 1 .. 4;
my %place = (epoch => { messagesPublishedAfter => -1 }, ago => { messagesPublishedAfter => 3600 }, event => { lastEventId => 'e2' });
for my $name (sort keys %place) {
    for my $mode (qw(websocket eventsource stream longpolling)) {
        $start->("$name-$mode", { modes => $mode, messagesControlByArgument => \1, urlPrefixLongpolling => '/arg', %{ $place{$name} } }, ['place']);
        my @want = $name eq 'event' ? qw(p3 p4) : qw(p1 p2 p3 p4);
        $t->wait_for(sub { $look->(); @{ $texts->("$name-$mode") } >= @want }, "$name, $mode");
        is_deeply($texts->("$name-$mode"), \@want, "$name, $mode");
        $browser->run("streams['$name-$mode'].disconnect()");
    }
}

$browser->quit;
$t->done();
