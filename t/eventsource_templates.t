# EventSource: header and footer become comments. They are prepared once, also in an if block of the location.
#
# Proves protocol.md: header-and-footer-of-an-event-stream, events (templates).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_subscriber_connection_ttl 300ms;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /unset  { push_stream_subscriber eventsource; }
        location /lines  { push_stream_subscriber eventsource;
                           push_stream_header_template "one\ntwo\rthree\r\nfour"; push_stream_footer_template "bye"; }
        location /own    { push_stream_subscriber eventsource;
                           push_stream_header_template ": ready\n"; push_stream_footer_template ": gone\n"; }
        location /if     { push_stream_subscriber eventsource;
                           push_stream_header_template "head"; push_stream_footer_template "foot";
                           push_stream_message_template "<~text~>";
                           if ($arg_if) { push_stream_store_messages on; } }
        location /pub    { push_stream_publisher; push_stream_store_messages on; }
    }
EOC

$t->publish('/pub?id=a', 'Ola');
my %stream = (
    '/unset?id=a.b1'    => ": \ndata: Ola\n\n",
    '/lines?id=a.b1'    => ": one\n: two\n: three\n: four\ndata: Ola\n\n: bye\n",
    '/own?id=a.b1'      => ": ready\ndata: Ola\n\n: gone\n",
    '/if?id=a.b1'       => ": head\ndata: <Ola>\n\n: foot\n",
    '/if?id=a.b1&if=1'  => ": head\ndata: <Ola>\n\n: foot\n",
);
my %running = map { $_ => $t->subscribe($_) } sort keys %stream;
is($running{$_}->body, $stream{$_}, $_) for sort keys %stream;
$t->done();
