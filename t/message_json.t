# With push_stream_message_format json each message is one JSON object: a line in streams and polls, an event, a
# text frame. So are pings, the notice of a deletion and the end of a long poll.
#
# Proves protocol.md: messages-as-json; directives.md: push_stream_message_format.

use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP ();
use MIME::Base64 qw(decode_base64);
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_store_messages on;
    push_stream_timeout_with_body on;
    push_stream_message_format json;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher admin; }
        location /bin   { push_stream_subscriber websocket; push_stream_websocket_allow_publish on; push_stream_websocket_binary on; }
        location /sub   { push_stream_subscriber; }
        location /ev    { push_stream_subscriber eventsource; }
        location /keep  { push_stream_subscriber eventsource; push_stream_eventsource_blank_lines keep; }
        location /ws    { push_stream_subscriber websocket; }
        location /poll  { push_stream_subscriber polling; }
        location /lp    { push_stream_subscriber long-polling; push_stream_longpolling_connection_ttl 300ms; }
        location /wait  { push_stream_subscriber long-polling; }
        location /pad   { push_stream_subscriber; push_stream_padding_by_user_agent ".,0,400"; }
        location /wrap  { push_stream_subscriber polling; push_stream_header_template "H\n"; push_stream_footer_template "F\n"; }
        location /ping/ {
            push_stream_ping_message_interval 100ms;
            location /ping/sub { push_stream_subscriber; }
            location /ping/ev  { push_stream_subscriber eventsource; }
            location /ping/ws  { push_stream_subscriber websocket; }
        }
        location /stats { push_stream_channels_statistics; }
    }
EOC

my $json = JSON::PP->new->utf8;
my @all = ('If-Modified-Since' => 'Thu, 01 Jan 1970 00:00:00 GMT');
my @null = (cursor => undef, event_id => undef, event_type => undef);

# the objects of a body with one on each line
sub lines { my ($body) = @_; return map { $json->decode($_) } $body =~ /([^\r\n]+)[\r\n]/g }
# those of an event stream
sub events { my ($body) = @_; return map { $json->decode($_) } $body =~ /^data: (.*)\n\n/mg }

# bytes first: the object as it is documented
my $before = time;
$t->publish('/pub?id=b', 'Ola');
my $body = $t->get('/poll?id=b', @all)->body;
my ($time) = $body =~ /"time":(\d+)/;
ok($time >= $before && $time <= time + 1, 'the time is in seconds');
is($body, qq({"id":1,"channel":"b","cursor":null,"time":$time,"tag":1,"event_id":null,"event_type":null,"text":"Ola"}\n),
    'the object, byte by byte');

# the same objects in all modes
my @texts = ('Ola', qq("quotes"\\), "a\r\n\n\tb\0", '</script>~text~', "a\xc3\xa7\xe2\x80\xa8\xf0\x9f\x98\x80", "\xff\0\xfe");
my %stream = map { $_ => $t->subscribe("$_?id=a") } qw(/sub /ev);
my $socket = $t->websocket('/ws?id=a');
$t->publish('/pub?id=a', $_, $_ eq 'Ola' ? ('Event-Id' => 'e"9', 'Event-Type' => 'upd') : ()) for @texts;
# A binary message of a WebSocket is a text frame as well, in base64 only if it is not UTF-8.
my $publisher = $t->websocket('/bin?id=a');
for my $text ('binary', "\xfe\x00") {
    $publisher->send_frame(2, $text);
    push @texts, $text;
    $publisher->frame;
}
my @stored = lines($t->get('/poll?id=a', @all)->body);
is(scalar @stored, scalar @texts, 'an object for each message');
for my $number (0 .. $#texts) {
    my ($got, $text) = ($stored[$number], $texts[$number]);
    is_deeply([ $got->{id}, $got->{channel} ], [ $number + 1, 'a' ], "message $number: id and channel");
    my $is_text = utf8::decode(my $chars = $text);
    is($got->{text}, $is_text ? $chars : undef, 'the text, if it is UTF-8');
    is($is_text ? $got->{base64} : decode_base64($got->{base64}), $is_text ? undef : $text, 'else base64');
    is_deeply([ sort keys %$got ],
        [ sort qw(id channel cursor time tag event_id event_type), $is_text ? 'text' : 'base64' ], 'and nothing else');
}
is_deeply([ @{ $stored[0] }{qw(event_id event_type)} ], [ 'e"9', 'upd' ], 'event id and type');
is_deeply([ @{ $stored[1] }{qw(event_id event_type)} ], [ undef, undef ], 'null where it has none');

my $count = @texts;
my $last = qr/"id":$count,.*\}\n/;
is_deeply([ lines($stream{'/sub'}->read_until($last)) ], \@stored, 'streaming');
my $event_stream = $stream{'/ev'}->read_until(qr/"id":$count,.*\}\n\n/);
is_deeply([ events($event_stream) ], \@stored, 'an event each');
like($event_stream, qr/^id: e"9\n/m, 'with the id for the browser');
for my $number (0 .. $count - 1) {
    my $frame = $socket->frame;
    is($frame->{opcode}, 1, "frame $number is a text frame");
    is_deeply($json->decode($frame->{payload}), $stored[$number], 'the same object');
}
is_deeply([ events($t->get("$_?id=a", @all, 'X-Nginx-PushStream-Mode' => 'polling')->body) ], \@stored, "$_: polled events")
    for '/ev', '/keep';

# around the objects
$body = $t->get('/wrap?id=b', @all)->body;
like($body, qr/\AH\n\{.*\}\nF\n\z/, 'header and footer stay as they are');
like($t->get('/poll?id=a.b2&callback=cb')->body, qr/\Acb\(\[\{.*\}\n,\{.*\}\n\]\);\z/, 'a callback gets an array');
my ($array) = $t->get('/poll?id=a.b2&callback=cb')->body =~ /\Acb\((.*)\);\z/s;
is(scalar @{ $json->decode($array) }, 2, 'which can be read');
my $padded = $t->subscribe('/pad?id=b', @all, 'User-Agent' => 'x')->read_until(qr/\}\n(?:\r\n)+/);
is_deeply([ lines($padded) ], [ lines($t->get('/poll?id=b', @all)->body) ], 'padding is empty lines');

# special messages
my %none = (tag => 0, time => 0, @null);
is_deeply([ lines($t->subscribe('/ping/sub?id=p')->read_until(qr/\n/)) ], [ { id => -1, channel => '', text => ' ', %none } ],
    'a ping in a stream');
is_deeply([ (events($t->subscribe('/ping/ev?id=p')->read_until(qr/\n\n/)))[0] ], [ { id => -1, channel => '', text => ' ', %none } ],
    'as an event');
my $ping = $t->websocket('/ping/ws?id=p')->frame;
is($ping->{opcode}, 1, 'as a text frame');
is_deeply($json->decode($ping->{payload}), { id => -1, channel => '', text => ' ', %none }, 'which says the same');
is_deeply([ lines($t->get('/lp?id=none')->body) ], [ { id => -3, channel => '', text => 'Timed out', %none } ], 'the end of a long poll');
my $waiting = $t->poll('/wait?id=d');
my $deleted = $t->subscribe('/sub?id=d');
$t->wait_subscribers('/stats?id=d', 2);
$t->delete('/pub?id=d');
is_deeply([ lines($_->body) ], [ { id => -2, channel => 'd', text => 'Channel deleted', %none } ], 'a deletion')
    for $waiting, $deleted;

$t->done();
