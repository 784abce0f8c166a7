# The words with json: give a JSON string with its quotes, or null, in all modes and whatever a message holds.
#
# Proves protocol.md: templates (the words for JSON), events (a template with the text as JSON).

use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP ();
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_store_messages on;
    push_stream_message_template '{"text":~json:text~,"channel":~JSON:Channel~,"id":~json:event-id~,"type":~json:event-type~}';
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub  { push_stream_publisher; }
        location /sub  { push_stream_subscriber; }
        location /ev   { push_stream_subscriber eventsource; }
        location /keep { push_stream_subscriber eventsource; push_stream_eventsource_blank_lines keep; }
        location /ws   { push_stream_subscriber websocket; }
        location /poll { push_stream_subscriber polling; }
    }
EOC

my @since = ('If-Modified-Since' => 'Thu, 01 Jan 1970 00:00:00 GMT');
my @cases = (
    [ 'Ola',               'Ola' ],
    [ qq(say "hi" \\),     qq(say "hi" \\) ],
    [ "a\r\n\n\nb\n",      "a\r\n\n\nb\n" ],
    [ "\0\x01\t\x1f\x7f",  "\0\x01\t\x1f\x7f" ],
    [ '~id~~json:text~',   '~id~~json:text~' ],
    [ "</script>\xe2\x80\xa8", "</script>\x{2028}" ],
    [ "a\xffb\xe2\x80",    "a\x{fffd}b\x{fffd}" ],
);
my $stream = $t->subscribe('/sub?id=%22a');
my $events = $t->subscribe('/ev?id=%22a');
my $keep = $t->subscribe('/keep?id=%22a');
my $socket = $t->websocket('/ws?id=%22a');
my $number = 0;
for my $case (@cases) {
    my ($published, $text) = @$case;
    my $has = $number++ % 2;
    $t->publish('/pub?id=%22a', $published, $has ? ('Event-Id' => "e\"$number", 'Event-Type' => 't') : ());
    my $expected = { text => $text, channel => '"a', id => $has ? "e\"$number" : undef, type => $has ? 't' : undef };
    my $is = sub {
        my ($bytes, $name) = @_;
        unlike($bytes, qr/[\0-\x1f<]/, "$name: one line, and nothing that ends a script");
        is_deeply(JSON::PP->new->utf8->decode($bytes), $expected, "$name: the message");
    };
    $is->($stream->read_until(qr/\}/), 'streaming');
    for ([ $events, 'eventsource' ], [ $keep, 'eventsource, blank lines kept' ]) {
        my ($from, $name) = @$_;
        my ($event) = $from->read_until(qr/\}\n\n/) =~ /^data: (.*)\n\n\z/m;
        $is->($event, $name);
    }
    $is->($socket->text, 'websocket');
    $is->($t->get('/poll?id=%22a.b1')->body, 'polling');
}

$t->done();
