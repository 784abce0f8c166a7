# A location's settings come from all its levels: inner ones win, an empty string is a value, and an if block
# changes only what it may.
#
# Proves directives.md: start-up-checks; protocol.md: values-from-the-request, templates (prepared once).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new(workers => 1);
$t->write_file('header.html', "file\r\n\\n\$arg_id");
$t->http(<<'EOC')->run;
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_header_template "http";
    push_stream_message_template "H~text~";
    push_stream_footer_template "F";
    push_stream_subscriber_connection_ttl 1s;

    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub      { push_stream_publisher admin; push_stream_store_messages on; }
        location /quiet    { push_stream_publisher; push_stream_channel_info_on_publish off;
                             location /quiet/loud { push_stream_publisher; push_stream_channel_info_on_publish on; }
                             location /quiet/same { push_stream_publisher; } }
        location /if       { push_stream_publisher; push_stream_store_messages off;
                             if ($arg_store) { push_stream_store_messages on; }
                             if ($arg_other) { push_stream_channels_path other; } }
        location /except   { push_stream_publisher; limit_except GET POST { deny all; } }
        location /constant { push_stream_publisher; push_stream_channels_path "a%20b"; }
        location /stats    { push_stream_channels_statistics; }

        location /s/http   { push_stream_subscriber; }
        location /s/own    { push_stream_subscriber; push_stream_header_template "own"; push_stream_message_template "O~text~";
                             push_stream_footer_template ""; }
        location /s/empty  { push_stream_subscriber; push_stream_header_template ""; }
        location /s/file   { push_stream_subscriber; push_stream_header_template_file %%TESTDIR%%/header.html; }
        location /s/ev     { push_stream_subscriber eventsource; if ($arg_if) { push_stream_last_event_id $arg_last; } }
        location /s/ws     { push_stream_subscriber websocket; if ($arg_if) { push_stream_last_event_id $arg_last; } }
        location /s/lp     { push_stream_subscriber long-polling; push_stream_subscriber_connection_ttl 60s; }
    }
    server {
        listen 127.0.0.1:%%PORT_8081%%;
        push_stream_header_template_file %%TESTDIR%%/header.html;
        location /s/file   { push_stream_subscriber; }
        location /s/text   { push_stream_subscriber; push_stream_header_template "text"; }
    }
EOC

# ---- templates

sub stream { my ($uri, @rest) = @_; return $t->get($uri, @rest)->body }

is(stream('/s/http?id=a'), 'httpF', 'all from http');
is(stream('/s/own?id=a'), 'own', 'all its own, the empty footer included');
is(stream('/s/empty?id=a'), 'F', 'an empty header is a header');
is(stream('/s/file?id=a'), "file\r\n\\n\$arg_idF", 'a file instead of the text of http, byte by byte');
is(stream('/s/file?id=a', port => 8081), "file\r\n\\n\$arg_idF", 'a file of the server');
is(stream('/s/text?id=a', port => 8081), 'textF', 'a text instead of the file of the server');

my $own = $t->subscribe('/s/own?id=t');
my $http = $t->subscribe('/s/http?id=t');
$t->publish('/pub?id=t', 'x');
is($own->read_until(qr/x/), 'ownOx', 'its own message template');
is($http->read_until(qr/x/), 'httpHx', 'the message template of http');

# ---- event stream: prepared once, also in the if block

is(stream('/s/ev?id=a'), ": http\n: F\n", 'header and footer as comments');
is(stream('/s/ev?id=a&if=1'), ": http\n: F\n", 'the same in an if block');

# ---- websocket: header and footer are framed once, also in the if block

for my $if ('', '&if=1') {
    my $ws = $t->websocket("/s/ws?id=a$if");
    is($ws->text, 'http', "the header is one frame$if");
    is($ws->text, 'F', "the footer is one frame$if");
}

# ---- lifetimes

my $poll = $t->get('/s/lp?id=a');
is($poll->status, 304, 'a long poll ends');
cmp_ok($poll->duration, '<', 10, 'after the time that outer levels gave, not its own');

# ---- publishers

is($t->post('/quiet?id=q', 'x')->body, '', 'no info');
isnt($t->post('/quiet/loud?id=q', 'x')->body, '', 'info, nested');
is($t->post('/quiet/same?id=q', 'x')->body, '', 'no info, inherited');

$t->publish('/if?id=i', 'x');
is($t->stats('/stats?id=i')->{stored_messages}, 0, 'not stored');
$t->publish('/if?id=i&store=1', 'x');
is($t->stats('/stats?id=i')->{stored_messages}, 1, 'stored, by the if block');
$t->publish('/if?id=i', 'x');
is($t->stats('/stats?id=i')->{stored_messages}, 1, 'each request for itself');
$t->publish('/if?id=i&other=1', 'x');
is($t->stats('/stats?id=other')->{published_messages}, 1, 'another path, by the if block');

is($t->post('/except?id=e', 'x')->status, 200, 'limit_except lets through what it excepts');
is($t->put('/except?id=e', 'x')->status, 403, 'and denies the rest');

for my $time (1 .. 3) {
    is($t->post('/constant', 'x')->status, 200, "a constant path, request $time");
    is($t->stats('/stats?id=a%20b')->{published_messages}, $time, 'is decoded the same each time');
}

$t->done;
