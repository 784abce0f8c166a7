# One request publishes to several channels in the order of its path, and each counts its own ids.
#
# Proves protocol.md: publishing, channel-paths, several-channels.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; push_stream_store_messages on; }
        location /quiet { push_stream_publisher; push_stream_channel_info_on_publish off; }
        location /sub   { push_stream_subscriber; push_stream_message_template "~channel~:~id~:~text~;"; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

my $s = $t->subscribe('/sub?id=tech/news/misc');
$t->publish('/pub?id=news', 'first');
my $r = $t->post('/pub?id=news/tech', 'Ola');
is($r->status, 200, 'two channels');
like($r->body, qr/\A\{"hostname": "[^"]+", "time": "\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", "channels": 3, "wildcard_channels": 0, "uptime": \d+, "infos": \[\r\n\{"channel": "news", "published_messages": 2, "stored_messages": 2, "subscribers": 1\},\r\n\{"channel": "tech", "published_messages": 1, "stored_messages": 1, "subscribers": 1\}\r\n\]\}\r\n\z/,
    'are answered by a list in the order requested');
is($s->read_until(qr/tech:1:Ola;/), 'news:1:first;news:2:Ola;tech:1:Ola;', 'and delivered in that order');

$r = $t->post('/pub?id=%2Fnews%2F%2Ftech%2F', 'empty');
is($r->status, 200, 'empty pieces are ignored');
is($s->read_until(qr/tech:2:empty;/), 'news:3:empty;tech:2:empty;', 'the rest gets the message');
$r = $t->post('/pub?id=/misc', 'slash');
is($r->body, qq({"channel": "misc", "published_messages": 1, "stored_messages": 1, "subscribers": 1}\r\n),
    'a leading slash: one channel, the single form');
is($t->stats->{channels}, 3, 'no channel with an empty id');

$r = $t->post('/pub?id=news/news.b4/news', 'once');
is($r->body, qq({"channel": "news", "published_messages": 4, "stored_messages": 4, "subscribers": 1}\r\n),
    'a channel that is named twice gets the message once');
$t->publish('/pub?id=tech', 'end');
is($s->read_until(qr/end;/), 'misc:1:slash;news:4:once;tech:3:end;', 'so does its subscriber');

$r = $t->post('/quiet?id=news/tech', 'silent');
is($r->status . $r->header('Content-Length') . $r->body, '2000', 'channel_info_on_publish off');
is($s->read_until(qr/tech:4:silent;/), 'news:5:silent;tech:4:silent;', 'publishes all the same');
is($t->stats('/stats?id=news')->{stored_messages}, 4, 'an unstored message is not stored');

my $ids = join '/', map { "many$_" } 1 .. 100;
$r = $t->post("/pub?id=$ids", 'x');
is(() = $r->body =~ /"channel": "many\d+", "published_messages": 1/g, 100, 'a hundred channels at once');

is($t->stats->{published_messages}, 1 + 2 + 2 + 1 + 1 + 1 + 2 + 100, 'each copy counts as published');

$t->done();
