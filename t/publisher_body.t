# A publisher takes any bytes, however the body arrives, and leaves no file behind.
#
# Proves protocol.md: publishing.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 15m;
    push_stream_channels_path $arg_id;
    client_body_buffer_size 1k;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; client_max_body_size 8m; }
        location /big   { push_stream_publisher; client_max_body_size 8m; client_body_buffer_size 8m; }
        location /one   { push_stream_publisher; client_max_body_size 8m; client_body_in_single_buffer on; }
        location /clean { push_stream_publisher; client_body_in_file_only clean; }
        location /keep  { push_stream_publisher; client_body_in_file_only on; client_body_temp_path %%TESTDIR%%/kept; }
        location /limit { push_stream_publisher; client_max_body_size 1k; }
        location /sub   { push_stream_subscriber; push_stream_message_template "<~size~>~text~</>"; }
    }
EOC

my $s = $t->subscribe('/sub?id=a');
my %before;

# Publishes and compares what the subscriber gets.
sub arrives {
    my ($uri, $body, $name, @how) = @_;
    my $sent = { @how }->{body} // $body;
    my $r = $t->request('POST', $uri, body => $sent, @how);
    is($r->status, 200, "$name: accepted");
    my $got = $s->next_chunk // '';
    ok($got eq '<' . length($body) . ">$body</>", "$name: arrives as it was sent")
        or diag 'got ' . length($got) . ' bytes: ' . substr $got, 0, 80;
}

sub chunked {
    my ($body, $size) = @_;
    my @pieces = unpack "(a$size)*", $body;
    return join '', map({ sprintf("%x\r\n", length) . "$_\r\n" } @pieces), "0\r\n\r\n";
}

arrives('/pub?id=a', 'x', 'one byte');
arrives('/pub?id=a', "\0", 'a NUL byte');
arrives('/pub?id=a', 'M' x 1024, 'a body that just fits the buffer');
arrives('/pub?id=a', 'F' x 1025, 'a body in a temporary file');
arrives('/big?id=a', 'M' x 300_000, 'a large body in memory');
arrives('/one?id=a', 'S' x 100_000, 'a body in a single buffer');

arrives('/clean?id=a', 'in a file', 'client_body_in_file_only clean');
arrives('/keep?id=a', 'in a file', 'client_body_in_file_only on');
is(scalar(() = glob $t->dir . '/kept/*'), 1, 'which is the only way to keep a file');

my $pairs = join '', map { my $a = $_; map { chr($a) . chr $_ } 0 .. 255 } 0 .. 255;
arrives('/pub?id=a', $pairs, 'all pairs of bytes, from a file');
arrives('/big?id=a', $pairs, 'all pairs of bytes, from memory');
arrives('/pub?id=a', '%E2%82%AC+~text~', 'nothing is decoded');

for my $body ('Ola', 'c' x 5000, $pairs) {
    my $name = 'chunked, ' . length($body) . ' bytes';
    arrives('/pub?id=a', $body, $name, 'Transfer-Encoding' => 'chunked', body => chunked($body, 777));
}
arrives('/pub?id=a', 'Ola', 'chunked, one byte each', 'Transfer-Encoding' => 'chunked', body => chunked('Ola', 1));

my $four = join '', map { sprintf "%015d\n", $_ } 1 .. 262_144;
is(length $four, 4 * 1024 * 1024, '(four mebibytes)');
arrives('/pub?id=a', $four, '4 MiB');

# in pieces, with a long breath between them
my $c = $t->client;
$c->send("POST /pub?id=a HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nOl")->flushed;
$t->get('/pub?id=a');    # nginx has been around its loop
$c->send('a Mu');
is($s->next_chunk, '<6>Ola Mu</>', 'a body in two segments');
$c->close;

# a body that never becomes complete publishes nothing
$c = $t->client;
$c->send("POST /pub?id=a HTTP/1.1\r\nHost: h\r\nContent-Length: 60\r\n\r\nhalf")->flushed;
$t->get('/pub?id=a');
$c->close;
arrives('/pub?id=a', 'whole', 'after an unfinished one');

my $r = $t->post('/limit?id=a', 'L' x 1025);
is($r->status, 413, 'larger than client_max_body_size');
like($r->body, qr/<html>/, 'with the page of nginx');
is($t->post('/limit?id=a', 'L' x 1024)->status, 200, 'exactly client_max_body_size');
is($s->next_chunk, '<1024>' . 'L' x 1024 . '</>', 'arrives, the other did not');

for (['Content-Length' => 0], ['Transfer-Encoding' => 'chunked', body => "0\r\n\r\n"], []) {
    $t->is_refusal($t->request('POST', '/pub?id=fresh', @$_), 400, 'Empty post requests are not allowed.',
        "an empty body (@{[ $_->[0] // 'no length' ]})");
}
$t->is_refusal($t->request('PUT', '/pub?id=fresh', body => ''), 400, 'Empty post requests are not allowed.',
    'an empty PUT');
is($t->get('/pub?id=fresh')->status, 404, 'an empty POST creates no channel');

$t->done();    # also looks for files in client_body_temp_path
