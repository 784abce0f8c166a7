# Long polling: old messages are sent at once in one answer; otherwise the first event ends the wait.
#
# Proves protocol.md: long-polling, polling, modes, refusals.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new(workers => 2)->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_store_messages on;
    keepalive_requests 2000;
    default_type text/plain;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub    { push_stream_publisher admin; }
        location /live   { push_stream_publisher; push_stream_store_messages off; }
        location /lp     { push_stream_subscriber long-polling; push_stream_message_template "[~id~:~text~]";
                           push_stream_header_template "H"; push_stream_footer_template "F"; }
        location /plain  { push_stream_subscriber long-polling; }
        location /ping   { push_stream_subscriber long-polling; push_stream_ping_message_interval 100ms;
                           push_stream_longpolling_connection_ttl 900ms; }
        location /ttl    { push_stream_subscriber long-polling; push_stream_subscriber_connection_ttl 300ms; }
        location /stream { push_stream_subscriber; }
        location /poll   { push_stream_subscriber polling; }
        location /stats  { push_stream_channels_statistics; }
    }
EOC

my $pub = $t->client;
sub publish { return $t->publish('/pub?id=' . shift, shift, client => $pub, @_) }

# nothing there: it waits, without a byte, counted
my $poll = $t->poll('/lp?id=a');
$t->wait_subscribers('/stats?id=a', 1);
is($poll->client->buffered, '', 'a waiting poll has sent nothing');
publish('a', 'one');
is($poll->status, 200, 'a message answers it');
is($poll->body, 'H[1:one]F', 'header, message, footer');
like($poll->header('Last-Modified'), qr/ GMT\z/, 'its time');
is($poll->header('Etag'), 'W/1', 'its tag, without quotes');
is($poll->header('Content-Type'), 'text/plain', 'the type by nginx\'s rules');
ok((grep { $_ eq 'Etag' } $poll->header_names), 'spelled so');
my %cache = $t->cache_headers;
is($poll->header($_), $cache{$_}, $_) for sort keys %cache;
is($t->stats->{subscribers}, 0, 'and no subscriber is left');

# between two polls: replayed, all of them, in one answer
publish('a', $_) for 'two', 'three';
my $next = $t->poll('/lp?id=a', since => $poll);
is($next->body, 'H[2:two][3:three]F', 'what came between two polls is in one answer');
publish('a', 'four');
is($t->poll('/lp?id=a', since => $next)->body, 'H[4:four]F', 'and so on, without repeats');

# short ones are copied, long ones lent; at once or after a wait
for my $length (2036 .. 2048, 100_000) {
    my $text = 'x' x $length;
    my $waiting = $t->poll('/lp?id=lengths');
    $t->wait_subscribers('/stats?id=lengths', 1);
    publish('lengths', $text);
    like($waiting->body, qr/\AH\[\d+:$text\]F\z/, "$length bytes, after a wait");
    like($t->poll('/lp?id=lengths.b1')->body, qr/\AH\[\d+:$text\]F\z/, 'and at once');
}

# with several channels the answer continues where all of them are
publish('b', 'b1');
publish('a', 'a5');
my $both = $t->poll('/lp?id=a.b1/b.b1');
is($both->body, 'H[5:a5][1:b1]F', 'several channels, in request order');
$both = $t->poll('/lp?id=a/b', since => $both);
$t->wait_subscribers('/stats?id=b', 1);
publish('b', 'b2');
is($both->body, 'H[2:b2]F', 'a message on either ends the wait');

# no pings, and the ttl: 304 with the time now
my $ping = $t->poll('/ping?id=quiet');
my $ttl  = $t->poll('/ttl?id=quiet');
is($ttl->status, 304, 'nothing came');
is($ttl->header('Etag'), 'W/0', 'tag 0');
ok(defined $ttl->header('Last-Modified'), 'the time now');
is($ttl->body, '', 'no body');
ok(defined $ttl->header('Content-Type'), 'but its type');
cmp_ok($ttl->duration, '>=', 0.29, 'not before its time');
is($ping->status, 304, 'no ping ever came');
is($ping->client->buffered, '', 'not even after');
is($t->get('/stats?id=quiet', client => $ttl->client)->status, 200, 'the connection lives on');

# deleted while it waits
my $deleted = $t->poll('/lp?id=gone');
$t->wait_subscribers('/stats?id=gone', 1);
$t->delete('/pub?id=gone');
is($deleted->body, 'H[-2:Channel deleted]F', 'the channel was deleted');
is($deleted->header('Etag'), 'W/0', 'tag 0');

# the mode by a header
is($t->get('/stream?id=m', 'X-Nginx-PushStream-Mode' => 'polling')->status, 304, 'streaming -> polling');
my $by_header = $t->poll('/stream?id=m', 'X-Nginx-PushStream-Mode' => 'Long-Polling');
my $polling   = $t->poll('/poll?id=m',   'X-Nginx-PushStream-Mode' => 'long-polling');
$t->wait_subscribers('/stats?id=m', 2);
is($t->get('/lp?id=m', 'X-Nginx-PushStream-Mode' => 'POLLING')->status, 304, 'long-polling -> polling');
publish('m', 'x');
is($_->body, 'x', 'a long poll by header') for $by_header, $polling;

# the chunk framing of one message, 500 times over one connection
my $client = $t->client;
my $bad = 0;
for my $n (1 .. 500) {
    my $long = $t->poll('/plain?id=many', client => $client);
    $t->wait_subscribers('/stats?id=many', 1);
    my $text = sprintf '%022d', $n;
    $t->publish('/live?id=many', $text, client => $pub);
    $long->wait_end;
    $bad++ unless join('|', $long->chunks) eq $text && $long->complete;
}
is($bad, 0, '500 polls over one connection, each one chunk');

# who goes away is not counted
my $left = $t->poll('/lp?id=left');
$t->wait_subscribers('/stats?id=left', 1);
$left->client->abort;
$t->wait_subscribers('/stats?id=left', 0);

is_deeply([ map { $t->request($_, '/lp?id=a')->status } qw(POST HEAD) ], [ 405, 405 ], 'nothing but GET');
$t->done();
