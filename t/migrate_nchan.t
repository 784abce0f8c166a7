# A site of nchan and the same site with this module (nginx-conf/from-nchan.conf): the same clients get the same messages,
# and what is different is what docs/guide/migrate-nchan.md says.
#
# Proves none of them: docs/guide/migrate-nchan.md. The half about nchan needs its module for this very nginx, at
# TEST_NCHAN_MODULE or where scripts/bench puts it.

use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP;
use Test::Nginx::PushStream;

my $root = "$FindBin::Bin/..";
my $EVENTS = 'text/event-stream';

sub slurp { local (@ARGV, $/) = @_; return scalar <> }

# The http block of a sample, on a port of the test's own.
sub http_of {
    my ($text) = slurp("$root/$_[0]") =~ /^http \{\n(.*)^\}/ms;
    return $text =~ s/127\.0\.0\.1:9080/127.0.0.1:%%PORT_8080%%/gr;
}

# The texts of a stream of events.
sub data_of { my ($bytes) = @_; return join '|', map { join "\n", /^data: ?(.*)$/mg } grep {/^data:/m} split /\n\n/, $bytes }

# ---- what both sites do

sub events_arrive {
    my ($t, $name) = @_;
    my $events = $t->subscribe('/events/news', Accept => $EVENTS, Origin => 'https://www.example.com');
    like($events->header('Content-Type'), qr{^text/event-stream}, "$name: an EventSource");
    is($events->header('Access-Control-Allow-Origin'), 'https://www.example.com', "$name: of a page of another origin");
    is($events->header('Access-Control-Allow-Credentials'), 'true', "$name: with its cookies");
    $t->post('/pub?id=news', 'fresh');
    my $text = $events->read_until(qr/data: fresh\n\n/);
    is(data_of($text), 'fresh', "$name: gets new messages and no old ones");
    my ($id) = $text =~ /^id: (.*)\ndata: fresh$/m;
    ok(length $id, "$name: each has an id");
    $events->close;
    $t->post('/pub?id=news', $_) for 'missed', "a\n\nb";
    $events = $t->subscribe('/events/news', Accept => $EVENTS, 'Last-Event-ID' => $id);
    is(data_of($events->read_until(qr/data: b\n\n/)), "missed|a\n\nb", "$name: comes back with it and has missed nothing");
    $events->close;
    return;
}

sub channels_together {
    my ($t, $name) = @_;
    $t->post("/pub?id=$_->[0]", $_->[1]) for ['first', 'one'], ['second', 'two'];
    my $both = $t->subscribe('/both/first,second', Accept => $EVENTS);
    is(data_of($both->read_until(qr/data: two\n\n/)), 'one|two', "$name: two channels in one stream, with what is stored");
    $both->close;
    return;
}

sub pages_talk {
    my ($t, $name) = @_;
    my ($one, $other) = map { $t->websocket('/chat/room') } 1 .. 2;
    $one->send_text('hello');
    is($other->text, 'hello', "$name: a WebSocket publishes to another one");
    is($one->text, 'hello', "$name: and gets its own message");
    $one->send_frame(2, "\x00\xFF", mask => "\x11\x22\x33\x44");
    is($other->raw, '820200ff', "$name: also a binary one");
    my $late = $t->websocket('/chat/room');
    is($late->text, 'hello', "$name: a page that comes later gets it too");
    $_->close for $one, $other, $late;
    return;
}

sub one_address_for_all {
    my ($t, $name, $text) = @_;
    $t->post('/pub?id=all', 'hi');
    my $events = $t->subscribe('/any/all', Accept => $EVENTS);
    is(data_of($events->read_until(qr/data: hi\n\n/)), 'hi', "$name: one address serves an EventSource,");
    $events->close;
    my $socket = $t->websocket('/any/all');
    is($socket->text, 'hi', "$name: a WebSocket");
    $socket->close;
    is($text->($t->get('/any/all', Accept => '*/*')->body), 'hi', "$name: and a long poll");
    return;
}

# Follows the polls of a page by the headers of the answers, and returns the texts of each.
sub polled {
    my ($t, $texts) = @_;
    $t->post('/pub?id=poll', $_) for qw(one two);
    my (@answers, $last);
    for (1 .. 2) {
        $last = $t->get('/poll/poll', $last ? (since => $last) : ());
        push @answers, $texts->($last->body);
        last if $answers[-1] =~ /two/;
    }
    my $waiting = $t->poll('/poll/poll', since => $last);
    # It waits, or comes too late to wait: it gets the message in both cases.
    $t->post('/pub?id=poll', 'three');
    return @answers, $texts->($waiting->body);
}

# ---- the site of nchan

sub nchan {
    my ($module) = grep { defined && -e } $ENV{TEST_NCHAN_MODULE},
        "$root/target/bench-nchan/usr/lib/nginx/modules/ngx_nchan_module.so";
    return undef, 'there is no module of nchan' if !defined $module;
    my $t = Test::Nginx::PushStream->new(module => 0, main => "load_module $module;")->http(http_of('docs/examples/nchan/nginx.conf'));
    return eval { $t->run } // (undef, 'the module of nchan is for another nginx');
}

SKIP: {
    my ($t, $why) = nchan();
    skip $why, 1 if !$t;

    is($t->post('/pub?id=news', 'old')->status, 202, 'nchan: a publish is answered by 202');
    my $listener = $t->subscribe('/events/heard', Accept => $EVENTS);
    is($t->post('/pub?id=heard', 'x')->status, 201, 'nchan: or by 201, if somebody listens');
    $listener->close;
    is($t->get('/pub?id=nothing')->status, 404, 'nchan: a channel that nobody has made');
    like($t->get('/pub?id=news', Accept => 'application/json')->body, qr/\{"messages": 1,/, 'nchan: the numbers of one');
    is($t->get('/events/news', Accept => '*/*')->status, 403, 'nchan: an EventSource has to ask for events');
    events_arrive($t, 'nchan');
    channels_together($t, 'nchan');
    pages_talk($t, 'nchan');
    one_address_for_all($t, 'nchan', sub { $_[0] });
    is_deeply([polled($t, sub { $_[0] })], [qw(one two three)], 'nchan: a poll is answered by one message');
    is($t->post('/pub?id=empty', '')->status, 202, 'nchan: an empty message is published');
    $t->post('/pub?id=typed', 'text', 'X-EventSource-Event' => 'upd');
    my $typed = $t->subscribe('/both/typed,none', Accept => $EVENTS);
    like($typed->read_until(qr/\n\n(?=.)?.*data: text\n\n/s), qr/^event: upd$/m, 'nchan: the type of an event');
    is($t->delete('/pub?id=typed')->status, 200, 'nchan: a channel is deleted');
    like($typed->body, qr/^:410: 410 Gone$/m, 'nchan: which an EventSource is told by a comment');
    $t->finish;

    # A site may move one location after the other.
    my ($module) = $t->{main} =~ /^load_module (.*);/;
    $t = Test::Nginx::PushStream->new(main => "load_module $module;")->http(<<'EOC')->run;
    push_stream_shared_memory_size 1m;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /old { nchan_publisher; nchan_channel_id $arg_id; }
        location /new { push_stream_publisher; push_stream_channels_path $arg_id; }
    }
EOC
    is_deeply([map { $t->post("/$_?id=news", 'x')->status } qw(old new)], [202, 200], 'both modules are loaded');
    $t->finish;
}

# ---- the same site with this module

sub texts_of { my ($body) = @_; return join '|', map { decode_json($_)->{text} } grep {length} split /\n/, $body }

my $t = Test::Nginx::PushStream->new->http(http_of('nginx-conf/from-nchan.conf'))->run;
is($t->post('/pub?id=news', 'old')->status, 200, 'ours: a publish is answered by 200');
is($t->get('/pub?id=nothing')->status, 404, 'ours: a channel that nobody has made');
like($t->get('/pub?id=news')->body, qr/"stored_messages": 1, "subscribers": 0/, 'ours: the numbers of one');
my $any = $t->subscribe('/events/heard', Accept => '*/*');
is($any->status, 200, 'ours: an EventSource need not ask for events');
$any->close;
events_arrive($t, 'ours');
channels_together($t, 'ours');
pages_talk($t, 'ours');
one_address_for_all($t, 'ours', \&texts_of);
is_deeply([polled($t, \&texts_of)], ['one|two', 'three'], 'ours: a poll is answered by all messages');

my $cursor = $t->get('/poll/poll')->header('X-Nginx-PushStream-Cursor');
$t->post('/pub?id=poll', 'four');
is(texts_of($t->get("/poll/poll?last=$cursor")->body), 'four', 'ours: a poll goes on at the cursor of an answer');
is($t->post('/pub?id=empty', '')->status, 400, 'ours: an empty message is refused');

$t->post('/pub?id=typed', 'text', 'X-EventSource-Event' => 'upd', 'Event-Type' => 'new');
my $typed = $t->subscribe('/both/typed,none', Accept => $EVENTS);
like($typed->read_until(qr/data: text\n\n/), qr/^event: new$/m, 'ours: the type of an event comes in another header');
is($t->delete('/pub?id=typed')->status, 200, 'ours: a channel is deleted');
like($typed->body, qr/^data: Channel deleted\n\n\z/m, 'ours: which an EventSource is told by a message');

# Pages that are open while the site moves come back with an id of nchan.
my $moved = $t->subscribe('/events/news', Accept => $EVENTS, 'Last-Event-ID' => '1795955406:1');
is($moved->header('X-Nginx-PushStream-Gap'), 'unknown', 'ours: an id of nchan is no place');
$t->post('/pub?id=news', 'live');
my $text = $moved->read_until(qr/data: live\n\n/);
like($text, qr/^event: gap\n/m, 'ours: of which the page is told');
is(data_of($text =~ s/^event: gap\n.*\n\n//mr), 'live', 'ours: and it gets what comes from now on');
$moved->close;

is($t->get('/status?id=news')->status, 200, 'ours: statistics');
is($t->get('/eventsource/news')->status, 404, 'ours: the locations behind /any/ are internal');

$t->done;
