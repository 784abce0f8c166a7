# Header, messages and footer are whole unmasked text frames with the length in its shortest form.
#
# Proves protocol.md: frames-from-the-server, closing (last channel deleted), templates.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 8m;
    push_stream_channels_path $arg_id;
    push_stream_channel_deleted_message_text "gone";
    client_max_body_size 1m;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher admin; push_stream_store_messages on; }
        location /ws    { push_stream_subscriber websocket; push_stream_message_template "~id~:~channel~:~text~"; }
        location /plain { push_stream_subscriber websocket; }
        location /full  {
            push_stream_subscriber websocket;
            push_stream_header_template HEAD;
            push_stream_footer_template FOOT;
            push_stream_message_template "[~id~|~event-id~|~event-type~|~size~|~text~]";
            push_stream_user_agent "x";
            push_stream_padding_by_user_agent "x,1024,1024";
            if ($arg_if) { push_stream_last_event_id e1; }
        }
        location /stats { push_stream_channels_statistics; }
    }
EOC

# the examples of the manual
my $ws = $t->websocket('/ws?id=news');
$t->publish('/pub?id=news', 'x') for 1 .. 6;
$ws->frame for 1 .. 6;
$t->publish('/pub?id=news', 'Ola');
is($ws->raw, '810a373a6e6577733a4f6c61', 'message 7');
$ws->close;
is($t->websocket('/full?id=news')->raw, '810448454144', 'header template');

# lengths
$ws = $t->websocket('/plain?id=long');
for (5 => '8105', 15 => '810f', 125 => '817d', 126 => '817e007e', 65_535 => '817effff',
    65_536 => '817f0000000000010000', 131_073 => '817f0000000000020001') {
    if (/\A8/) {
        my $raw = $ws->raw;
        is(substr($raw, 0, length $_), $_, "a head of $_");
        is(substr($raw, length $_), '71' x $t->{sent}, 'and so many bytes');
    }
    else { $t->{sent} = $_; $t->publish('/pub?id=long', 'q' x $_) }
}

# bytes that are no text are sent as text all the same
$t->publish('/pub?id=long', "\xff\xfe\0\xc3(");
is($ws->raw, '8105fffe00c328', 'not UTF-8');

# lines, event fields, padding: nothing of the other modes
$ws = $t->websocket('/full?id=f', 'User-Agent' => 'x');
is($ws->raw, '810448454144', 'header');
$t->publish('/pub?id=f', "a\r\nb\nc", 'Event-Id' => 'e1', 'Event-Type' => 't1');
is($ws->text, "[1|e1|t1|6|a\r\nb\nc]", 'one message is one frame');
is($t->delete('/pub?id=f')->status, 200, 'the channel is deleted');
is($ws->text, '[-2|||4|gone]', 'its subscriber is told');
is($ws->rest, '8104464f4f54' . '8800', 'gets the footer and a close frame');

# two channels: the end comes with the last one
$ws = $t->websocket('/full?id=f/g', 'User-Agent' => 'x');
is($ws->raw, '810448454144', 'header');
$t->delete('/pub?id=f', body => 'bye');
is($ws->text, '[-2|||3|bye]', 'the first of two channels is deleted');
$t->publish('/pub?id=g', 'still');
is($ws->text, '[1|||5|still]', 'the other one goes on');
$t->delete('/pub?id=g');
is($ws->text, '[-2|||4|gone]', 'until it is deleted too');
is($ws->rest, '8104464f4f54' . '8800', 'then the end');
is($t->stats->{subscribers}, 1 + 1, 'the other two connections are still there');

# both deleted in one request: the close frame is the last
$ws = $t->websocket('/full?id=f/g', 'User-Agent' => 'x');
$ws->raw;
$t->delete('/pub?id=f/g');
is($ws->text, '[-2|||4|gone]', 'deleted') for 1 .. 2;
is($ws->rest, '8104464f4f54' . '8800', 'and the end behind both');

# in an if block header and footer are framed once
$t->publish('/pub?id=i', 'old', 'Event-Id' => 'e1');
$t->publish('/pub?id=i', 'Ola');
$ws = $t->websocket('/full?id=i&if=1', 'User-Agent' => 'x');
is($ws->raw, '810448454144', 'if block: header');
is($ws->text, '[2|||3|Ola]', 'if block: its own setting');
$t->delete('/pub?id=i');
is($ws->text, '[-2|||4|gone]', 'if block: deleted');
is($ws->rest, '8104464f4f54' . '8800', 'if block: footer');

$t->done();
