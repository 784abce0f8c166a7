# push_stream_forget_request frees the header of an open stream. All that nginx needs at its end is still there:
# request line, host, variables in logs, limit_conn, the next request of the connection.
#
# Proves directives.md: push_stream_forget_request.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new(workers => 1)->http(<<'EOC')->run;
    log_format all '$request|$request_method|$request_uri|$uri|$args|$arg_id|$arg_more|$host|$server_protocol|$remote_user|'
                   '$early|$status|$limited|agent=$http_user_agent|type=$sent_http_content_type|'
                   'control=$sent_http_cache_control|$push_stream_mode $push_stream_close_reason;';
    access_log %%TESTDIR%%/access.log all;
    map $http_x_key $limited { default $http_x_key; }
    limit_conn_zone $limited zone=keys:1m;
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $1;
    push_stream_forget_request on;
    # Everything that is large has memory of its own, as in nginx-conf/many-subscribers.conf.
    connection_pool_size 256;
    request_pool_size 224;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        set $early $http_x_early;
        location ~ ^/pub/(.*)   { push_stream_publisher admin; }
        location ~ ^/sub/(.*)   { push_stream_subscriber; limit_conn keys 1; push_stream_footer_template FOOT; }
        location ~ ^/head/(.*)  { push_stream_subscriber; push_stream_header_template HEAD; }
        location ~ ^/ev/(.*)    { push_stream_subscriber eventsource; push_stream_footer_template FOOT; }
        location ~ ^/short/(.*) { push_stream_subscriber; push_stream_subscriber_connection_ttl 200ms; }
        location ~ ^/ws/(.*)    { push_stream_subscriber websocket; push_stream_websocket_allow_publish on; }
        location ~ ^/gzip/(.*)  { push_stream_subscriber; gzip on; gzip_types *; gzip_min_length 0; }
        location ~ ^/lp/(.*)    { push_stream_subscriber long-polling; }
        location ~ ^/off/(.*)   { push_stream_subscriber; push_stream_forget_request off; }
        location ~ ^/post/(.*)  { push_stream_subscriber; post_action /after; }
        location = /after       { internal; add_header X-A $http_user_agent; return 200 after; }
        location /plain         { return 200 "plain $http_x_early"; }
        location /stats         { push_stream_channels_statistics; push_stream_channels_path $arg_id; }
    }
EOC

sub line {
    my ($request) = @_;
    my $line;
    $t->wait_for(sub {
        open my $file, '<', $t->dir . '/access.log' or return 0;
        ($line) = grep { index($_, "$request|") == 0 && /;$/ } <$file>;
        return defined $line;
    }, "a line about $request");
    return $line // '';
}

my @headers = ('User-Agent' => 'a browser', 'X-Early' => 'kept', Authorization => 'Basic bWU6c2VjcmV0');
my $kept = sub {
    my ($mode, $uri, $reason, $status, %o) = @_;
    my ($path) = $uri =~ /\A([^?]+)/;
    my $agent = $o{knows} ? 'a browser' : '-';
    my $control = $o{knows} ? 'no-cache, no-store, must-revalidate' : '-';
    return qr/\A\QGET $uri HTTP\/1.1|GET|$uri|$path|x=1&id=7&more=%41|7|%41|localhost|HTTP\/1.1|me|kept|$status|\E[^|]*
        \|agent=\Q$agent\E\|type=[^|]+\|control=\Q$control\E\|\Q$mode $reason;\E/x;
};

# ---- streams

for my $round (1 .. 3) {
    my $uri = "/sub/a$round?x=1&id=7&more=%41";
    my $s = $t->subscribe($uri, @headers, host => 'localhost', 'X-Key' => 'k');
    is($t->get('/sub/other', 'X-Key' => 'k')->status, 503, 'limit_conn counts the open stream');
    $t->publish("/pub/a$round", "one$_;") for 1 .. 3;
    is($s->read_until(qr/one3;/), 'one1;one2;one3;', 'messages come');
    $t->delete("/pub/a$round");
    $s->wait_end;
    like($s->body, qr/Channel deletedFOOT\z/, 'an orderly end');
    like(line("GET $uri HTTP/1.1"), $kept->('streaming', $uri, 'deleted', 200, knows => 0), 'the log knows the request');
}

my $uri = '/off/a?x=1&id=7&more=%41';
$t->subscribe($uri, @headers, host => 'localhost')->close;
like(line("GET $uri HTTP/1.1"), $kept->('streaming', $uri, 'client', 200, knows => 1), 'off: it knows all headers');

$uri = '/ev/a?x=1&id=7&more=%41';
my $s = $t->subscribe($uri, @headers, host => 'localhost');
$t->publish('/pub/a', 'x');
like($s->read_until(qr/data: x\r?\n/), qr/data: x/, 'an EventSource');
$s->close;
like(line("GET $uri HTTP/1.1"), $kept->('eventsource', $uri, 'client', 200, knows => 0), 'and its line');

# ---- WebSockets, with frames that come along with the request

$uri = '/ws/w?x=1&id=7&more=%41';
my $ws = $t->websocket($uri, @headers, host => 'localhost');
$ws->send_text('hello');
is($ws->text, 'hello', 'a WebSocket gets what it publishes');
$ws->close;
like(line("GET $uri HTTP/1.1"), $kept->('websocket', $uri, 'client', 101, knows => 0), 'and its line');

# ---- a header in large buffers

my @large = map { ("X-Large-$_" => 'l' x 3000) } 1 .. 5;
$uri = '/sub/large?x=1&id=7&more=%41';
my $c = $t->client;
for my $round (1 .. 3) {
    $s = $t->subscribe("$uri&round=$round", @headers, @large, host => 'localhost', client => $c);
    $t->publish('/pub/large', 'x');
    is($s->next_chunk, 'x', 'a message after a large header');
    $t->delete('/pub/large');
    $s->wait_end;
    like(line("GET $uri&round=$round HTTP/1.1"), qr/\|me\|kept\|200\|\|agent=-\|/, 'and its line');
    is($t->get('/plain', client => $c, 'X-Early' => "next$round")->body, "plain next$round", 'the connection goes on');
}

# ---- the connection is used again, also by a request that waits already

$c = $t->client;
for my $round (1 .. 3) {
    $s = $t->subscribe("/short/b?round=$round", client => $c, @headers);
    ok(defined $s->body && $s->complete, "stream $round of one connection ends");
    is($t->get('/plain', client => $c, 'X-Early' => 'e' x 500)->body, 'plain ' . 'e' x 500, 'another request on it');
}
$c = $t->client;
$s = $t->start('GET', '/sub/c', client => $c);
my $second = $t->start('GET', '/plain', client => $c, 'X-Early' => 'second');
$t->wait_subscribers('/stats?id=c', 1);
$t->delete('/pub/c');
is($s->body, 'Channel deletedFOOT', 'a stream with a request behind it ends');
is($second->body, 'plain second', 'and the request is answered');
$c = $t->client;
$s = $t->subscribe('/sub/d', client => $c);
$second = $t->start('GET', '/plain', client => $c, 'X-Early' => 'later');
$t->publish('/pub/d', 'x');
is($s->next_chunk, 'x', 'the next request comes while the stream is open');
$t->delete('/pub/d');
is($s->body, 'xChannel deletedFOOT', 'the stream ends');
is($second->body, 'plain later', 'and that request is answered');

# ---- responses that need more

$s = $t->subscribe('/gzip/g', 'Accept-Encoding' => 'gzip', 'User-Agent' => 'packed');
$s->close;
like(line('GET /gzip/g HTTP/1.1'), qr/\|agent=packed\|/, 'a body filter: nothing is forgotten');
$s = $t->poll('/lp/l', 'User-Agent' => 'waits');
$t->wait_subscribers('/stats?id=l', 1);
$t->publish('/pub/l', 'x');
is($s->body, 'x', 'a poll is answered');
like(line('GET /lp/l HTTP/1.1'), qr/\|agent=waits\|/, 'and keeps its header');
$s = $t->start('GET', '/head/body', 'Content-Length' => 4);
$s->client->send('12');
is($s->next_chunk, 'HEAD', 'a body that has not come yet');
$s->client->send('34');
$t->publish('/pub/body', 'x');
is($s->next_chunk, 'x', 'and then has');
$s->close;
$s = $t->subscribe('/sub/old', version => '1.0');
$t->publish('/pub/old', 'x;');
is($s->read_until(qr/;/), 'x;', 'HTTP/1.0');
$s->close;
$s = $t->subscribe('/post/p', 'User-Agent' => 'p');
$s->close;
ok($t->wait_subscribers('/stats?id=p', 0), 'post_action');

# ---- the error log names the request, and a worker that ends says goodbye

my $last = $t->subscribe('/head/last', @headers);
my $last_ws = $t->websocket('/ws/last');
$t->reload;
is($last->body, 'HEAD', 'a reload ends the stream');
ok($last_ws->closed, 'and the WebSocket');
$t->done;
