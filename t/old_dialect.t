# Old configurations do what they did: channels named by set, modes spread over two directives, settings for
# http in other places, and a content type of their own.
#
# Proves directives.md: old-configurations.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $none = 'No channel id provided.';
my $t = Test::Nginx::PushStream->new(workers => 1)->http(<<'EOC')->run;
    push_stream_max_reserved_memory 1m;

    server {
        listen 127.0.0.1:%%PORT_8080%%;
        push_stream_min_message_buffer_timeout 1h;

        location /pub    { push_stream_publisher; push_stream_publisher_admin on; set $push_stream_channel_id $arg_id;
                           push_stream_store_messages on; push_stream_max_channel_id_length 10; }
        location /stats  { push_stream_channels_statistics; set $push_stream_channel_id $arg_id; }
        location ~ ^/sub/(.*)$ { push_stream_subscriber; set $push_stream_channels_path $1;
                           push_stream_content_type "text/x-old"; push_stream_subscriber_connection_timeout 500ms;
                           push_stream_header_template "H"; }
        location /id     { push_stream_subscriber; set $push_stream_channel_id $arg_id;
                           push_stream_subscriber_connection_ttl 500ms; push_stream_header_template "I"; }
        location /path   { push_stream_publisher; set $push_stream_channels_path $arg_id; }
        location /both   { push_stream_publisher; set $push_stream_channel_id $arg_id; set $push_stream_channels_path wrong; }
        location /wins   { push_stream_publisher; set $push_stream_channel_id wrong; push_stream_channels_path $arg_id; }
        location /unset  { push_stream_publisher; }
        location /ev     { push_stream_eventsource_support on; push_stream_subscriber; set $push_stream_channels_path $arg_id;
                           push_stream_subscriber_connection_ttl 500ms; push_stream_content_type "text/x-old"; }
        location /evpoll { push_stream_subscriber polling; push_stream_eventsource_support on;
                           set $push_stream_channels_path $arg_id; push_stream_content_type "text/x-old"; }
        location /poll   { push_stream_subscriber polling; set $push_stream_channels_path $arg_id;
                           push_stream_content_type "text/x-old"; }
        location /ws     { push_stream_websocket; set $push_stream_channels_path $arg_id; }
    }
EOC

sub answered { my ($answer) = @_; return $answer->status . ' ' . ($answer->header('X-Nginx-PushStream-Explain') // '') }

# ---- the variables

is($t->post('/pub?id=a', 'x')->status, 200, 'publish by $push_stream_channel_id');
is($t->stats('/stats?id=a')->{published_messages}, 1, 'statistics by $push_stream_channel_id');
is($t->post('/path?id=a', 'x')->status, 200, 'publish by $push_stream_channels_path');
is($t->stats('/stats?id=a')->{published_messages}, 2, 'it is the same channel');
$t->publish('/both?id=b', 'x');
is($t->stats('/stats?id=b')->{published_messages}, 1, 'a publisher prefers the channel id');
$t->publish('/wins?id=w', 'x');
is($t->stats('/stats?id=w')->{published_messages}, 1, 'the directive wins');
$t->publish('/pub?id=sp%2520ace', 'x');
is($t->stats('/stats?id=sp%20ace'), undef, 'decoded once, as the value of the directive is');
is(answered($t->post('/pub', 'x')), "400 $none", 'an empty value is no channel');
is(answered($t->post('/unset?id=a', 'x')), "400 $none", 'neither is one that this location does not set');
unlike($t->log, qr/uninitialized/, 'which is nothing to warn about');

my $sub = $t->subscribe('/sub/b/a.b1');
is($sub->read_until(qr/Hx/), 'Hx', 'subscribe by $push_stream_channels_path, with backtrack');
is($t->get('/id?id=a')->status, 200, 'subscribe by $push_stream_channel_id');

# ---- content type

is($sub->header('Content-Type'), 'text/x-old', 'content type of a stream');
my $poll = $t->get('/poll?id=a.b1');
is($poll->status, 200, 'a poll finds the message');
is($poll->header('Content-Type'), 'text/x-old', 'content type of a poll');
like($t->get('/poll?id=a.b1&callback=f')->header('Content-Type'), qr{\Aapplication/javascript}, 'not with a callback');

# ---- modes

like($t->get('/ev?id=none')->header('Content-Type'), qr{\Atext/event-stream; charset=utf-8\z}, 'event source support');
my $events = $t->get('/evpoll?id=a.b1');
is($events->header('Content-Type'), 'text/event-stream; charset=utf-8', 'event source support of a poll');
is($events->body, ": \ndata: x\n\n", 'frames its messages');
is($t->websocket('/ws?id=a')->status, 101, 'push_stream_websocket');
is($t->delete('/pub?id=w')->status, 200, 'push_stream_publisher_admin');

# ---- hoisted

is($t->post('/wins?id=' . 'x' x 11, 'x')->status, 400, 'the longest channel id counts in every location');

$t->finish;

# ---- a variable with another source than set

$t = Test::Nginx::PushStream->new(workers => 1)->http(<<'EOC')->run;
    push_stream_shared_memory_size 1m;
    map $arg_id $push_stream_channel_id { one first; two second; }
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; }
        location /stats { push_stream_channels_statistics; push_stream_channels_path $arg_id; }
        location ~ ^/named/(?<push_stream_channels_path>.*)$ { push_stream_publisher; }
    }
EOC
is($t->post('/pub?id=two', 'x')->status, 200, 'a map names the channel');
is($t->stats('/stats?id=second')->{published_messages}, 1, 'and is evaluated');
is(answered($t->post('/pub?id=three', 'x')), "400 $none", 'a map may say nothing');
is($t->post('/named/third', 'x')->status, 200, 'a named capture names the channel');
is($t->stats('/stats?id=third')->{published_messages}, 1, 'if nothing else does');

$t->finish;

# ---- the sample configuration

my $sample = do { local (@ARGV, $/) = "$FindBin::Bin/../nginx-conf/old-dialect.conf"; <> };
my ($http) = $sample =~ /^http \{\n(.*)^\}/ms;
$t = Test::Nginx::PushStream->new->http($http =~ s/127\.0\.0\.1:9080/127.0.0.1:%%PORT_8080%%/r)->run;

my $waiting = $t->poll('/sub/news');
ok($t->wait_for(sub { ($t->get('/pub?id=news')->body // '') =~ /"subscribers": "?1/ }, 'a waiting poll'),
    'a long poll waits');
is($t->publish('/pub?id=news', 'first')->status, 200, 'a message is published');
is($waiting->body, 'first', 'and answers it');
is($waiting->header('Content-Type'), 'text/javascript', 'with the content type of old');
is($t->delete('/pub?id=news')->status, 200, 'an admin deletes the channel');

$t->done;
