# A page that reads no headers goes on from the last message of its answer, also if that tells of a gap alone: it is told
# once, gets nothing twice, and waits.
#
# Proves protocol.md: gaps-told-in-the-stream, resuming, jsonp.

use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP qw(decode_json);
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_cursor on;
    push_stream_last_received_message_time $arg_time;
    push_stream_last_received_message_tag $arg_tag;
    push_stream_last_event_id $arg_last;
    push_stream_message_template '{"id":~id~,"channel":~json:channel~,"text":~json:text~,"tag":"~tag~","time":"~time~","cursor":"~cursor~"}';
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub  { push_stream_publisher admin; push_stream_store_messages on; }
        location /pass { push_stream_publisher; }
        location /poll { push_stream_subscriber polling; }
        location /lp   { push_stream_subscriber long-polling; push_stream_longpolling_connection_ttl 100ms; }
        location /json { push_stream_subscriber long-polling; push_stream_longpolling_connection_ttl 100ms; push_stream_message_format json; }
        location /sub  { push_stream_subscriber; }
        location /ws   { push_stream_subscriber websocket; }
        location /sse  { push_stream_subscriber eventsource; }
    }
EOC

sub escaped { return $_[0] =~ s/([^A-Za-z0-9_-])/sprintf '%%%02x', ord $1/ger }
# A page keeps the cursor that it has, if a message has none.
my $first;
my %place = (
    time   => sub { my ($message) = @_; return 'time=' . escaped($message->{time}) . "&tag=$message->{tag}" },
    cursor => sub { my ($message) = @_; return 'last=' . ($message->{cursor} || $first->{cursor}) },
);

sub messages {
    my ($answer) = @_;
    return [] if $answer->status == 304;
    return decode_json($answer->body =~ s/\Acb\((.*)\);\z/$1/sr);
}
sub shown { return join ' ', map {"$_->{id} $_->{text}"} @{ $_[0] } }
sub gap { my ($channel, $missed) = @_; return qq(-4 {"channel":"$channel","reason":"unstored","missed":$missed}) }

# The page has all that is stored, and one more message was not stored.
$t->publish('/pub?id=a', 'm1');
($first) = @{ messages($t->get('/poll?id=a&time=Thu,%2001%20Jan%201970%2000:00:01%20GMT&callback=cb')) };
$t->publish('/pass?id=a', 'm2');
for my $by (sort keys %place) {
    for my $mode (qw(poll lp), $by eq 'cursor' ? 'json' : ()) {
        my $ask = sub { return messages($t->get("/$mode?id=a&callback=cb&" . $place{$by}->($_[0]))) };
        my $told = $ask->($first);
        is(shown($told), gap('a', 1), "$mode by $by: the gap alone");
        is(shown($ask->($told->[-1])), '', "$mode by $by: from there it is not told again, and gets nothing twice");
    }
}

# Two channels: the last gap has the place, so that nobody has it who was not told of all.
$t->publish('/pass?id=b', 'n1');
my $told = messages($t->get('/poll?id=a/b&callback=cb&' . $place{cursor}->($first)));
is(shown($told), gap('a', 1) . ' ' . gap('b', 1), 'two channels');
is($told->[0]{cursor}, '', 'the first gap has no place');
my $two = $t->websocket('/ws?id=a/b&' . $place{cursor}->($first))->wait_subscribed;
like($two->text, qr/"cursor":""/, 'nor in a WebSocket');
like($two->text, qr/"cursor":"p/, 'but the last one');
$two->close;
is(shown(messages($t->get('/poll?id=a/b&callback=cb&' . $place{cursor}->($told->[1])))), '', 'and nothing is told again');

# The next gap is counted from there.
my ($alone) = @{ messages($t->get('/poll?id=a&callback=cb&' . $place{cursor}->($first))) };
$t->publish('/pass?id=a', 'm3');
$t->publish('/pass?id=a', 'm4');
is(shown(messages($t->get('/poll?id=a&callback=cb&' . $place{cursor}->($alone)))), gap('a', 2), 'the next gap is counted from there');

# A long poll that names an event id only is told when its time is over.
my ($late) = @{ messages($t->get('/lp?id=a&callback=cb&last=none')) };
is("$late->{id} $late->{text}", '-4 {"channel":"a","reason":"unknown","missed":null}', 'an event id that is not there');
is(shown(messages($t->get("/poll?id=a&callback=cb&$_"))), '', 'it goes on from there') for map { $_->($late) } @place{qw(time cursor)};

# In a stream the place of the gap is the one before the next message.
$t->publish('/pub?id=a', 'm5');
my %read = (
    sub => sub { my $s = $t->subscribe($_[0]); my $all = $s->read_until(qr/m5.*?\}/); $s->close; return $all =~ /(\{"id":-4.*?"cursor":"[^"]*"\})/ },
    ws  => sub { my $s = $t->websocket($_[0])->wait_subscribed; my $gap = $s->text; $s->close; return $gap },
);
for my $mode (sort keys %read) {
    for my $by (sort keys %place) {
        my $gap = decode_json(($read{$mode}->("/$mode?id=a&" . $place{$by}->($first)))[0]);
        is(shown([$gap]), gap('a', 3), "$mode by $by: a gap");
        is(shown(messages($t->get('/poll?id=a&callback=cb&' . $place{$by}->($gap)))), '5 m5', "$mode by $by: nothing is told again, or comes twice, or is missing");
    }
}
my $live = $t->websocket('/ws?id=b&' . $place{cursor}->($first))->wait_subscribed;
is(shown(messages($t->get('/poll?id=b&callback=cb&' . $place{cursor}->(decode_json($live->text))))), '', 'also if no old message follows');
$live->close;
# An event stream says it by an id, behind the gap.
my $sse = $t->subscribe('/sse?id=a&' . $place{cursor}->($first));
like($sse->read_until(qr/m5.*\n\n/), qr/\A: \nevent: gap\ndata: .*\n\nid: \S+\n\nid: /, 'an event stream is as it was');
$sse->close;

# In front of old messages of a poll it has none: these say where the client is.
my ($front, $behind) = @{ messages($t->get('/poll?id=a&callback=cb&' . $place{cursor}->($first))) };
is("$front->{id} $front->{tag} <$front->{cursor}>", '-4 0 <>', 'in front of messages it has none');
is($behind->{text}, 'm5', 'they have theirs');

$t->done;
