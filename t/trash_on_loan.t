# A burst into a small zone does not fail while discarded messages lie around: their memory is only lent.
#
# Proves protocol.md: full-memory, expiry (trash); promises.md: full-memory.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 129k;
    push_stream_channels_path $arg_id;
    push_stream_max_messages_stored_per_channel 100;
    client_body_buffer_size 64k;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher admin; push_stream_store_messages on;
                          push_stream_channel_info_on_publish off; }
        location /pass  { push_stream_publisher; push_stream_channel_info_on_publish off; }
        location /sub   { push_stream_subscriber; push_stream_message_template "~id~;"; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

is_deeply($t->publish_many('/pub?id=a', 100_000, body => 'message'), { 200 => 100_000 },
    '100,000 publishes, 100 stored, all taken');
my $s = $t->stats;
is($s->{stored_messages}, 100, '100 are stored');
is($s->{published_messages}, 100_000, 'all are counted');
my $newest = $t->subscribe('/sub?id=a.b2');
is($newest->read_until(qr/100000;/), '99999;100000;', 'the newest are there');
$newest->close;
$t->wait_subscribers('/stats?id=a', 0);    # who listens keeps memory until it has read

is_deeply($t->publish_many('/pass?id=a', 5_000, body => 'x' x 1000), { 200 => 5_000 }, 'unstored ones');
my $n = 0;
is_deeply($t->publish_many('', sub { $n++ < 5_000 ? ('/pub?id=a', 'y' x (1 + $n * 37 % 500)) : () }), { 200 => 5_000 },
    'messages of many lengths');
is_deeply($t->publish_many('/pub?id=a', 3, body => 'z' x 500), { 200 => 3 }, '(some more)');

# channels that were deleted lend their memory too
my %status;
for my $i (1 .. 2_000) {
    $status{ $t->post("/pub?id=n$i", 'x' x 200)->status }++;
    $status{ $t->delete("/pub?id=n$i")->status }++;
}
is_deeply(\%status, { 200 => 4_000 }, '2,000 channels made and deleted');

# a reader keeps up with what it has not read yet
my $r = $t->subscribe('/sub?id=b');
my %seen;
for my $n (1 .. 2_000) {
    $seen{ $t->post('/pub?id=b', 'w' x 100)->status }++;
    $r->read_until(qr/\b$n;/) if $n % 50 == 0;
}
is_deeply(\%seen, { 200 => 2_000 }, 'publishing with a subscriber');
ok($r->so_far eq join('', map { "$_;" } 1 .. 2_000), 'which gets them, all in order');

$t->done();
