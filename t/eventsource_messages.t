# EventSource: a message is one event, and nothing in its text, id or type can forge another field.
#
# Proves protocol.md: event-stream, events, pings, notices.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 4m;
    push_stream_channels_path $arg_id;
    push_stream_events_channel_id events;
    push_stream_ping_message_text "another ping text";
    default_type text/html;
    client_max_body_size 2m;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; push_stream_store_messages on; }
        location /ev    { push_stream_subscriber eventsource; push_stream_footer_template bye;
                          push_stream_subscriber_connection_ttl 30s;
                          push_stream_allow_connections_to_events_channel on; }
        location /json  { push_stream_subscriber eventsource;
                          push_stream_message_template '{"id":~id~,"text":"~text~","size":~size~}'; }
        location /ready { push_stream_subscriber eventsource;
                          push_stream_message_template "data: <~text~>\n"; }
        location /ping  { push_stream_subscriber eventsource; push_stream_ping_message_interval 200ms;
                          push_stream_message_template "x~text~x"; }
        location /ttl   { push_stream_subscriber eventsource; push_stream_footer_template bye;
                          push_stream_ping_message_interval 700ms;
                          push_stream_subscriber_connection_ttl 1100ms; }
        location /short { push_stream_subscriber eventsource; push_stream_message_template "~id~/~text~"; }
    }
EOC

my $pub = $t->client;
sub publish { return $t->publish('/pub?id=' . shift, shift, client => $pub, @_) }

my $ev = $t->subscribe('/ev?id=a', Accept => 'text/html');
is($ev->status, 200, 'accepted');
is($ev->header('Content-Type'), 'text/event-stream; charset=utf-8', 'whatever default_type says');
is($ev->header('Transfer-Encoding'), 'chunked', 'chunked');
ok(!defined $ev->header('Last-Modified') && !defined $ev->header('Etag'), 'no validators');
is($ev->next_chunk, ": \n", 'a comment opens the stream at once');

my $json  = $t->subscribe('/json?id=a');
my $ready = $t->subscribe('/ready?id=a');
$_->next_chunk for $json, $ready;

# the table of section 4, and the same through templates
publish('a', 'Ola');
is($ev->next_chunk, "data: Ola\n\n", 'a message is one chunk');
is($json->next_chunk, qq(data: {"id":1,"text":"Ola","size":3}\n\n), 'in a template');
is($ready->next_chunk, "data: <Ola>\n\n", 'a template with the prefix is used as it is');

my @cases = (
    ['an event id',            ['Event-Id' => 'e9'],                        'Ola', "id: e9\ndata: Ola\n\n"],
    ['an event type',          ['Event-Type' => 'upd'],                     'Ola', "event: upd\ndata: Ola\n\n"],
    ['both',                   ['Event-Id' => 'e9', 'Event-Type' => 'upd'], 'Ola', "id: e9\nevent: upd\ndata: Ola\n\n"],
    ['CRLF, CR and LF end a line', [], "a\nb\rc\r\nd",   "data: a\ndata: b\ndata: c\ndata: d\n\n"],
    ['empty lines vanish',     [], "a\n\nb\n",           "data: a\ndata: b\n\n"],
    ['line ends alone',        [], "\n\n",               "\n"],
    ['backslash and n stay',   [], 'a\nb',               "data: a\\nb\n\n"],
    ['a NUL is a byte',        [], "a\0b\ndata: c",      "data: a\0b\ndata: data: c\n\n"],
    ['fields in the text',     [], "x\r\rid: 1\n\nevent: y", "data: x\ndata: id: 1\ndata: event: y\n\n"],
);
for my $case (@cases) {
    my ($name, $headers, $text, $bytes) = @$case;
    publish('a', $text, @$headers);
    is($ev->next_chunk, $bytes, $name);
}
$json->read_until(qr/"data: c","size":7\}\n\n/);
like($json->read_until(qr/\n\n/),
    qr/\Adata: \{"id":10,"text":"x","size":1\}\ndata: \{"id":10,"text":"id: 1","size":5\}\ndata: /,
    'the template is applied to each line, with its size');

# the event id stays for the next event in a browser, so it must not be forged either
my $raw = $t->client;
$raw->send("POST /pub?id=b HTTP/1.1\r\nHost: h\r\nEvent-Id: one\x01two\r\nContent-Length: 1\r\n\r\nx");
$raw->take(qr/\}\r\n/);
my $b = $t->subscribe('/ev?id=b.b1');
$b->read_until(qr/: \n/);
like($b->read_until(qr/\n\n/), qr/\Aid: [^\r\n\0]*\ndata: x\n\n\z/, 'an odd id stays one line');

# linear time: every byte a line
publish('c', "x\n" x 100_000);
my $many = $t->subscribe('/short?id=c.b1');
$many->read_until(qr/\n\n/, 20);
is(() = $many->so_far =~ /^data: 1\/x$/mg, 100_000, 'a message of 100,000 lines');

# pings: fixed bytes, whatever the texts say
my $ping = $t->subscribe('/ping?id=d');
is($ping->next_chunk, ": \n", 'opened');
is($ping->next_chunk, ": -1\n", 'a ping') for 1 .. 2;

# the events channel gives its notice's type
my $events = $t->subscribe('/ev?id=events');
$events->next_chunk;
my $visitor = $t->subscribe('/json?id=fresh');
is($events->read_until(qr/subscribed.*\n\n/),
    ": \n" . qq(event: channel_created\ndata: {"type": "channel_created", "channel": "fresh"}\n\n)
        . qq(event: client_subscribed\ndata: {"type": "client_subscribed", "channel": "fresh"}\n\n),
    'notices are events of their type');

# the whole stream
my $ttl = $t->subscribe('/ttl?id=e');
publish('e', 'Ola', 'Event-Id' => 'e9');
$ttl->body;
is(join('', $ttl->chunks), ": \nid: e9\ndata: Ola\n\n: -1\n: bye\n", 'from the first comment to the footer');
ok($ttl->complete, 'and an orderly end');

is($t->request('POST', '/ev?id=a', body => 'x')->status, 405, 'nothing but GET');
$t->done();
