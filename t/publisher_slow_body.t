# A slow body is published to the channel that exists when the body is complete.
#
# Proves protocol.md: publisher-methods (channels are looked up again); promises.md: slow-and-hostile-clients.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_channel_inactivity_time 1s;
    push_stream_max_number_of_channels 5;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher admin; push_stream_store_messages on; }
        location /pass  { push_stream_publisher; }
        location /sub   { push_stream_subscriber; push_stream_message_template "~channel~:~id~:~text~;"; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

# Begins a request and gives what finishes it.
sub slow {
    my ($method, $uri, $body) = @_;
    my $half = int(length($body) / 2);
    my $x = $t->start($method, $uri, 'Content-Length' => length $body, body => substr $body, 0, $half);
    $x->client->flushed;
    $t->get('/stats');    # nginx has been around its loop
    return sub { $x->client->send(substr $body, $half); return $x };
}

# deleted while the body arrives
$t->publish('/pub?id=a', 'old') for 1 .. 3;
my $finish = slow(POST => '/pub?id=a', 'slow one');
$t->delete('/pub?id=a');
$t->publish('/pub?id=b', 'other');
my $s = $t->subscribe('/sub?id=b');
my $r = $finish->();
is($r->body, qq({"channel": "a", "published_messages": 1, "stored_messages": 1, "subscribers": 0}\r\n),
    'deleted meanwhile: the channel is made anew');
is($t->stats('/stats?id=b')->{published_messages}, 1, 'another one got nothing');

# deleted and made anew by somebody else
$finish = slow(POST => '/pub?id=a', 'slow two');
$t->delete('/pub?id=a');
my $watch = $t->subscribe('/sub?id=a');
$t->publish('/pub?id=a', 'first');
is($finish->()->status, 200, 'made anew meanwhile');
is($watch->read_until(qr/two;/), 'a:1:first;a:2:slow two;', 'it goes to the new one');

# collected while the body arrives
$t->publish('/pass?id=idle', 'x');
$finish = slow(POST => '/pass?id=idle', 'slow three');
$t->wait_for(sub { !$t->stats('/stats?id=idle') }, 'the channel to be collected', 15);
is($finish->()->body, qq({"channel": "idle", "published_messages": 1, "stored_messages": 0, "subscribers": 0}\r\n),
    'collected meanwhile: the channel is made anew');

# not created before the body is there; limits count when it is
$finish = slow(POST => '/pub?id=late', 'slow four');
is($t->get('/pub?id=late')->status, 404, 'a channel is created when its first message is there');
$t->publish("/pub?id=fill$_", 'x') for 1 .. 5 - $t->stats->{channels};
$t->is_refusal($finish->(), 403, 'Number of channels were exceeded.', 'too late: others took the last places');

# DELETE likewise
$finish = slow(DELETE => '/pub?id=b', 'Adeus');
is($t->get('/pub?id=b')->status, 200, 'a DELETE acts when its text is there');
$t->delete('/pub?id=b');
$t->is_refusal($finish->(), 404, undef, 'deleted by somebody else meanwhile');
is($s->body, 'b:-2:Channel deleted;', 'who was first decides about the text');

# a client that gives up
$t->delete('/pub?id=a');
my $quits = $t->start('POST', '/pub?id=gone', 'Content-Length' => 100, body => 'half');
$quits->client->flushed;
$t->get('/stats');
$quits->client->abort;
is($t->get('/pub?id=gone')->status, 404, 'a body that never ends creates nothing');

$t->done();
