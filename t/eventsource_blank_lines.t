# With push_stream_eventsource_blank_lines keep, a browser joins the lines of an event to the text that was
# published. The default drops empty lines. The parser below follows WHATWG HTML, "Interpreting an event
# stream".
#
# Proves protocol.md: events (empty lines); directives.md: push_stream_eventsource_blank_lines.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub  { push_stream_publisher admin; push_stream_store_messages on; }
        location /drop { push_stream_subscriber eventsource; }
        location /in/  { push_stream_eventsource_blank_lines keep;
            location /in/keep  { push_stream_subscriber eventsource; push_stream_header_template "a\n\nb"; push_stream_footer_template "c\n\nd"; }
            location /in/drop  { push_stream_subscriber eventsource; push_stream_eventsource_blank_lines drop; }
            location /in/json  { push_stream_subscriber eventsource; push_stream_message_template '{"n":~size~}'; }
            location /in/pad   { push_stream_subscriber eventsource; push_stream_padding_by_user_agent ".,0,100"; }
            location /in/plain { push_stream_subscriber; }
            location /in/ws    { push_stream_subscriber websocket; }
        }
    }
EOC

# [ id, type, data ] of each event.
sub events {
    my ($stream) = @_;
    my ($id, $type, $data, @found) = ('', '');
    for my $line (split /\r\n|\n|\r/, $stream, -1) {
        if ($line eq '') {
            push @found, [ $id, $type, $data =~ s/\n\z//r ] if defined $data;
            ($type, $data) = ('', undef);
        } elsif ($line =~ /\A(id|event|data)(?:: ?(.*))?\z/) {
            my ($name, $value) = ($1, $2 // '');
            if ($name eq 'id') { $id = $value } elsif ($name eq 'event') { $type = $value } else { $data .= "$value\n" }
        }
    }
    return @found;
}

my %since = ('If-Modified-Since' => 'Thu, 01 Jan 1970 00:00:00 GMT');

# all old messages of the channel, as one complete answer
sub all { my ($uri) = @_; return $t->get("$uri?id=a", %since, 'X-Nginx-PushStream-Mode' => 'polling')->body }

my @texts = ('plain', "a\n\nb", "\na", "a\n", "\n", "\n\n\n", "a\r\n\r\nb\r\n", "\r", "a\r\rb", "a\n\r\nb", "a\r\n\nb",
    "  two spaces\n\n    four\n", "# Title\n\n- one\n- two\n\n```\ncode\n```\n", ": \n\ndata: x\n\nevent: y\n", " ", ' 
');
my $live = $t->subscribe('/in/keep?id=a');
for my $text (@texts) {
    $t->publish('/pub?id=a', $text, 'Event-Id' => 'e', 'Event-Type' => 't');
    $live->next_chunk if $text eq $texts[0];
    my ($event) = events($live->next_chunk);
    (my $joined = $text) =~ s/\r\n?/\n/g;
    is_deeply($event, [ 'e', 't', $joined ], 'live: ' . join ' ', unpack '(H2)*', $text);
}
is_deeply([ map { $_->[2] } events(all('/in/keep')) ], [ map { s/\r\n?/\n/gr } @texts ], 'the same for old messages');

# what stays as it is
my @dropped = grep { length } map { join "\n", grep { length } split /[\r\n]+/ } @texts;
is_deeply([ map { $_->[2] } events(all($_)) ], \@dropped, "$_: without empty lines") for '/drop', '/in/drop';
is(all('/drop'), all('/in/drop'), 'byte for byte');
is(all('/in/plain'), join('', @texts), 'a stream is no event stream');
like(all('/in/keep'), qr/\A: a\n: b\nid: .*\n: c\n: d\n\z/s, 'header and footer are comments without empty lines');

# templates and padding
$t->delete('/pub?id=a');
$t->publish('/pub?id=a', "ab\n\nc\n");
is(all('/in/json'), qq(: \ndata: {"n":2}\ndata: {"n":0}\ndata: {"n":1}\ndata: {"n":0}\n\n), 'the template for each line');
my $padded = $t->subscribe('/in/pad?id=a', %since, 'User-Agent' => 'x');
is($padded->read_until(qr/:::\n/), ": \ndata: ab\ndata: \ndata: c\ndata: \n\n" . ':' x 99 . "\n", 'padding comes after the event');
my $socket = $t->websocket('/in/ws?id=a', %since);
is($socket->text, "ab\n\nc\n", 'a WebSocket has its frame');

$t->done();
