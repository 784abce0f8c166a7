# A subscriber whose request has a slow body is served at once, and the worker notices when it leaves.
#
# Proves protocol.md: common-headers (unused bodies).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; }
        location /sub   { push_stream_subscriber; }
        location /lp    { push_stream_subscriber long-polling; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

for my $uri ('/sub?id=a', '/lp?id=a') {
    # half of a body, the rest of it, and the end
    my $s = $t->start('GET', $uri, 'Content-Length' => 10);
    $s->client->send('12345');
    ok($t->wait_subscribers('/stats?id=a', 1), "$uri does not wait for the body");
    $s->client->send('67890');
    if ($uri =~ /sub/) {
        $t->publish('/pub?id=a', 'live');
        is($s->next_chunk, 'live', 'a message comes');
    }
    $s->close;
    ok($t->wait_subscribers('/stats?id=a', 0), "$uri is missed when it goes after its body");

    $s = $t->start('GET', $uri, 'Content-Length' => 10);
    $s->client->send('12345');
    $t->wait_subscribers('/stats?id=a', 1);
    $s->close;
    ok($t->wait_subscribers('/stats?id=a', 0), "$uri is missed when it goes within its body");
}

# the body is not taken for a request, and the connection can be used again
my $poll = $t->start('GET', '/lp?id=b', 'Content-Length' => 38);
$poll->client->send('GET /stats HTTP/1.1');
$t->wait_subscribers('/stats?id=b', 1);
$poll->client->send("\r\nHost: x\r\n\r\n      ");
$t->publish('/pub?id=b', 'one');
is($poll->body, 'one', 'a poll is answered');
is($t->get('/stats?id=b', client => $poll)->status, 200, 'and the next answer is for the next request');

$t->done();
