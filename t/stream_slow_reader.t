# A slow reader gets the bytes of its own channel in order, or the end of its connection, and delays nobody.
#
# Proves protocol.md: slow-readers; directives.md: push_stream_subscriber_max_buffered.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 10m;
    push_stream_channels_path $arg_id;
    push_stream_max_messages_stored_per_channel 5;
    client_body_buffer_size 64k;
    server {
        listen 127.0.0.1:%%PORT_8080%% sndbuf=16k;
        location /pub    { push_stream_publisher; }
        location /store  { push_stream_publisher; push_stream_store_messages on; }
        location /sub    { push_stream_subscriber; push_stream_subscriber_max_buffered 64m;
                           push_stream_footer_template FOOT; }
        location /bound  { push_stream_subscriber; push_stream_subscriber_max_buffered 200k; }
        location /chunks { push_stream_subscriber; push_stream_subscriber_max_buffered 64m;
                           push_stream_message_template "~id~ ~text~"; }
        location /timed  { push_stream_subscriber; push_stream_subscriber_max_buffered 64m; send_timeout 1s; }
        location /stats  { push_stream_channels_statistics; }
    }
EOC
my @workers = $t->worker_pids;

sub text { my ($n, $letter) = @_; return sprintf("%s%06d ", $letter, $n) . $letter x 9_991 . "\n" }

# Readers that stand still, one per worker, unframed and chunked, while their memory is used again
# and again: 6 MB of their own channel, 30 MB of another one. The zone has room for the 6 MB, so that
# none is refused when a worker gets no processor for a while.
my @slow = (
    $t->subscribe('/sub?id=a', rcvbuf => 4096, paused => 0, worker => $workers[0], version => '1.0'),
    $t->subscribe('/chunks?id=a', rcvbuf => 4096, worker => $workers[1]),
);
$_->client->pause for @slow;
my $quick = $t->subscribe('/sub?id=a');
my $want = join '', map { text($_, 'a') } 1 .. 600;
my ($n, $m) = (0, 0);
is_deeply($t->publish_many('', sub { $n++ < 600 ? ('/pub?id=a', text($n, 'a')) : () }, depth => 4), { 200 => 600 },
    'publishing is not hindered');
ok($t->wait_for(sub { length $quick->so_far >= length $want }, 'the quick reader'), 'nor is a quick reader');
ok($quick->so_far eq $want, 'who has everything in order');
is_deeply($t->publish_many('', sub { $m++ < 3000 ? ('/store?id=b', text($m, 'b')) : () }, depth => 4), { 200 => 3000 },
    'the memory is used for another channel');
is($t->stats('/stats?id=a')->{subscribers}, 3, 'the slow ones are still there');
$_->client->resume for @slow;
$t->wait_for(sub { length $slow[0]->so_far >= length $want }, 'the slow reader');
ok($slow[0]->so_far eq $want, 'it gets every byte of its own channel, and no other');
ok($slow[1]->wait_chunks(600), 'so does the one with chunks');
ok(join('', map { "$_ " . text($_, 'a') } 1 .. 600) eq join('', $slow[1]->chunks), 'framing intact');
$t->publish('/pub?id=a', 'after');
is($slow[1]->wait_chunks(601) && ($slow[1]->chunks)[600], '601 after', 'and it goes on');
$_->close for @slow, $quick;

# one that does not come back within the bound
my @lazy = map { $t->subscribe('/bound?id=c', rcvbuf => 4096) } 1 .. 3;
$_->client->pause for @lazy;
my $other = $t->subscribe('/sub?id=c');
($n, $m) = (0, 0);
my $published = $t->publish_many('', sub { $n++ < 400 ? ('/pub?id=c', text($n, 'c')) : () }, depth => 2);
is_deeply($published, { 200 => 400 }, '4 MB to readers bounded to 200k');
ok($t->wait_subscribers('/stats?id=c', 1), 'they are disconnected and no longer counted');
ok($t->wait_for(sub { length $other->so_far >= 400 * length text(1, 'c') }, 'the other reader'), 'the other one has it all');
$_->client->resume for @lazy;
for my $s (@lazy) {
    ok($s->closed, 'a lazy reader finds its connection ended');
    like($s->broken, qr/\S/, 'not in order, so it knows that something is missing');
    my @chunks = $s->chunks;
    ok(join('', @chunks) eq join('', map { text($_, 'c') } 1 .. @chunks), 'what it got is right');
}
my $logged = () = $t->log =~ /push stream: .*slow/g;
ok($logged >= 1 && $logged <= 3, 'which is logged, each at most once') or diag grep { /push stream/ } split /^/, $t->log;

# one that takes nothing for send_timeout
my $timed = $t->subscribe('/timed?id=d', rcvbuf => 4096);
$timed->client->pause;
$t->publish('/pub?id=d', text($_, 'd')) for 1 .. 60;
ok($t->wait_subscribers('/stats?id=d', 0), 'send_timeout ends a reader that takes nothing');
my $idle = $t->subscribe('/timed?id=e');
$t->quiet_for($idle, 1.5);
$t->publish('/pub?id=e', 'here');
is($idle->next_chunk, 'here', 'but not one that has nothing to take');

$t->done();
