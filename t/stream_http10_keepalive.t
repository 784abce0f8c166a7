# HTTP/1.0 gets an unframed stream; an HTTP/1.1 connection can be used again after a stream.
#
# Proves protocol.md: streaming, common-headers (HTTP versions).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_header_template HEAD;
    push_stream_footer_template FOOT;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher admin; push_stream_store_messages on; }
        location /sub   { push_stream_subscriber; }
        location /flat  { push_stream_subscriber; chunked_transfer_encoding off; }
        location /short { push_stream_subscriber; push_stream_subscriber_connection_ttl 300ms; }
        location /stats { push_stream_channels_statistics; }
        location /plain { return 200 plain; }
    }
EOC

my @unframed = (
    [ 'HTTP/1.0',                     '/sub',  version => '1.0' ],
    [ 'HTTP/1.0 without Host',        '/sub',  version => '1.0', host => undef ],
    [ 'HTTP/1.0 that wants more',     '/sub',  version => '1.0', Connection => 'keep-alive' ],
    [ 'chunked_transfer_encoding off', '/flat' ],
);
for (@unframed) {
    my ($name, $uri, @how) = @$_;
    my $s = $t->subscribe("$uri?id=a", @how);
    is($s->status, 200, $name);
    is($s->header('Transfer-Encoding'), undef, 'no chunks');
    is($s->header('Content-Length'), undef, 'no length');
    is($s->header('Connection'), 'close', 'the connection ends the body');
    $t->publish('/pub?id=a', 'one;');
    is($s->read_until(qr/;/), 'HEADone;', 'header and message as they are');
    $t->publish('/pub?id=a', 'two;');
    is($s->read_until(qr/;/), 'two;', 'the next message');
    $t->delete('/pub?id=a');
    is($s->body, 'HEADone;two;Channel deletedFOOT', 'and footer');
    ok($s->complete, 'then the end');
}

# keep-alive
my $c = $t->client;
for my $round (1 .. 3) {
    my $s = $t->subscribe('/short?id=b', client => $c);
    is($s->body, 'HEADFOOT', "stream $round on one connection");
    ok($s->complete, 'ended in order');
    is($t->get('/plain', client => $c)->body, 'plain', 'another request on it');
}
is($t->subscribe('/short?id=b', Connection => 'close')->header('Connection'), 'close', 'unless the client wants none');

# a pipelined request waits its turn
$c = $t->client;
my $first  = $t->start('GET', '/sub?id=c', client => $c);
my $second = $t->start('GET', '/plain', client => $c);
is($first->next_chunk, 'HEAD', 'the stream begins');
$t->publish('/pub?id=c', 'Ola');
is($first->next_chunk, 'Ola', 'and goes on');
is($c->buffered, '', 'the other request is not answered yet');
$t->delete('/pub?id=c');
is($first->body, 'HEADOlaChannel deletedFOOT', 'the stream ends');
is($second->body, 'plain', 'then comes the answer to the other');

# clients that leave are noticed, however they do it
$t->subscribe('/sub?id=d')->close;
$t->subscribe('/sub?id=d')->client->abort;
$t->subscribe('/sub?id=d', version => '1.0')->close;
ok($t->wait_subscribers('/stats?id=d', 0), 'a client that leaves is noticed');
ok($t->wait_for(sub { $t->stats->{subscribers} == 0 }, 'all to be gone'), 'nobody is counted any more');

$t->done();
