# A channel id is a byte string: any byte but "/", "*" and control characters may be in it, and different ids
# are different channels.
#
# Proves protocol.md: channel-ids, channel-paths, values-from-the-request (decoded once, as a whole).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 4m;
    push_stream_channels_path $arg_id;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub      { push_stream_publisher admin; push_stream_store_messages on; }
        location /sub      { push_stream_subscriber; push_stream_message_template "<~channel~:~id~:~text~>"; }
        location ~ ^/re/(.*)$ { push_stream_subscriber; push_stream_channels_path $1;
                             push_stream_message_template "<~channel~:~id~:~text~>"; }
        location /constant { push_stream_publisher; push_stream_channels_path "a%20b"; }
        location /stats    { push_stream_channels_statistics; }
    }
EOC

sub encoded { my ($id) = @_; return join '', map { sprintf '%%%02X', ord } split //, $id }

# each id: publish, replay, live, info, delete
my @ids = ('plain', 'with space', '"quoted"', "it's", 'a.b', 'news.b', 'x.b3x', '~text~', '~', '%41', '100%',
    'a?b#c&d=e', "\xc3\xa9\xe2\x82\xac", "\xff\xfe\x80", 'all', 'All', 'ALLx', '<xml>&', 'a\\b', '{"a":1}', '+', '.',
    'b3', '..', 'x' x 1000);
for my $id (@ids) {
    my $shown = length $id > 40 ? 'a long id' : $id;
    my $uri = encoded($id);
    is($t->post("/pub?id=$uri", 'old')->status, 200, "publish to $shown");
    my $s = $t->subscribe("/sub?id=$uri.b1");
    $t->publish("/pub?id=$uri", 'new');
    is($s->read_until(qr/new>/), "<$id:1:old><$id:2:new>", 'replay and live');
    $t->delete("/pub?id=$uri");
    is($s->body =~ s/.*new>//sr, "<$id:-2:Channel deleted>", 'deleted');
}

# backtrack suffixes when publishing
my %channel_of = (
    'c1.b5' => 'c1', 'c2.b0' => 'c2', 'room.b18.beautiful.b3' => 'room.b18.beautiful', 'n.b2.b3' => 'n.b2',
    'm.b3x' => 'm.b3x', 'k.b' => 'k.b', 'l.B3' => 'l.B3', 'o.b99999999999999999999999' => 'o',
);
for my $path (sort keys %channel_of) {
    like($t->post("/pub?id=$path", 'x')->body, qr/\A\{"channel": "\Q$channel_of{$path}\E", "published_messages": 1, /,
        "POST to $path is for $channel_of{$path}");
}
my $s = $t->subscribe('/sub?id=room.b18.beautiful.b3');
is($s->next_chunk, '<room.b18.beautiful:1:x>', 'the same grammar for subscribers');
$s = $t->subscribe('/sub?id=o.b99999999999999999999999');
is($s->next_chunk, '<o:1:x>', 'a backtrack beyond all numbers: all messages');

# the path is cut after decoding
$s = $t->subscribe('/sub?id=p%2Fq');
$t->publish('/pub?id=p%2fq', 'both');
is($s->read_until(qr/q:1:both>/), '<p:1:both><q:1:both>', '%2F separates channels');

# decoded once: $arg is raw, a capture has been decoded by nginx already
$t->publish('/pub?id=dz%253Fx', 'raw');
is($t->subscribe('/sub?id=dz%253Fx.b1')->next_chunk, '<dz%3Fx:1:raw>', 'an argument is decoded once');
$t->publish('/pub?id=dz%3Fx', 'question');
is($t->subscribe('/sub?id=dz%3Fx.b1')->next_chunk, '<dz?x:1:question>', '%3F does not cut an id');
is($t->subscribe('/re/dz%253Fx.b1')->next_chunk, '<dz?x:1:question>', 'a capture is decoded a second time');
is($t->post('/constant', 'x')->body, qq({"channel": "a b", "published_messages": $_, "stored_messages": 0, "subscribers": 0}\r\n),
    "a constant path, request $_") for 1 .. 3;

# the same channel twice
$t->publish('/pub?id=twice', $_) for 1 .. 3;
$s = $t->subscribe('/sub?id=twice.b1/other/twice.b2');
$t->publish('/pub?id=twice', 4);
is($s->read_until(qr/:4>/), '<twice:2:2><twice:3:3><twice:4:4>', 'once, with the larger backtrack');
is($t->stats('/stats?id=twice')->{subscribers}, 1, 'and counted once');

# ids with one CRC-32: the checksum is linear, so an equal change in both keeps the collision
my @twins = (['plumless', 'buckeroo'], ['codding', 'gnu'], ['exhibiters', 'schlager']);
sub crc32 {
    my $crc = 0xffffffff;
    for my $byte (unpack 'C*', shift) {
        $crc ^= $byte;
        $crc = $crc & 1 ? ($crc >> 1) ^ 0xedb88320 : $crc >> 1 for 1 .. 8;
    }
    return $crc ^ 0xffffffff;
}
for my $pair (@twins) {
    is(crc32($pair->[0]), crc32($pair->[1]), "(@$pair collide)");
    $t->publish("/pub?id=$_", "for $_") for @$pair;
    is($t->subscribe("/sub?id=$_.b1")->next_chunk, "<$_:1:for $_>", "$_ is a channel of its own") for @$pair;
}

# many ids that differ little
my $n = 0;
my $count = $t->publish_many('', sub { $n++ < 2000 ? ("/pub?id=k$n", "text $n") : () });
is_deeply($count, { 200 => 2000 }, '2,000 channels');
for my $i (1, 999, 2000) {
    is($t->subscribe("/sub?id=k$i.b9")->next_chunk, "<k$i:1:text $i>", "channel k$i has its own message");
}

$t->done();
