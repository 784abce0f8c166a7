# ALL, * and prefixes list channels in the order of their creation.
#
# Proves protocol.md: statistics-requests, several-channels, formats.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_wildcard_channel_prefix w_;
    push_stream_max_channel_id_length 8;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher admin; push_stream_store_messages on; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

sub listed {
    my ($id) = @_;
    my $s = $t->stats("/stats?id=$id") or return 'none';
    return 'single' unless $s->{infos};
    return join ' ', map { $_->{channel} } @{ $s->{infos} };
}

# nothing there yet
for my $id ('ALL', '*', 'x*') {
    my $r = $t->get("/stats?id=$id");
    is($r->status, 200, "$id on an empty server");
    like($r->body, qr/"channels": 0, "wildcard_channels": 0, "uptime": \d+, "infos": \[\r\n\]\}\r\n\z/, 'an empty list');
    like($t->get("/stats?id=$id", Accept => 'text/plain')->body, qr/infos: \r\n\r\n\z/, 'in plain text');
    like($t->get("/stats?id=$id", Accept => 'text/yaml')->body, qr/infos: \r\n\r\n\z/, 'in YAML');
    like($t->get("/stats?id=$id", Accept => 'text/xml')->body, qr{<infos>\r\n  </infos>\r\n</root>\r\n\z}, 'in XML');
}

$t->publish("/pub?id=$_", 'x') for qw(room_2 tech room_10 w_1 news room_1 all);
is(listed('ALL'), 'room_2 tech room_10 w_1 news room_1 all', 'ALL, in the order of creation');
is(listed('*'), listed('ALL'), '* is the same');
is(listed('room*'), 'room_2 room_10 room_1', 'a prefix');
is(listed('room_1*'), 'room_10 room_1', 'a longer one');
is(listed('news*'), 'news', 'one that is a whole id gives a list too');
is(listed('r*m'), 'room_2 room_10 room_1', 'what follows the * is ignored');
is(listed('*x'), listed('ALL'), 'also if nothing precedes it');
is(listed('zz*'), '', 'nothing matches: an empty list');
is(listed('ROOM*'), '', 'case counts');
is(listed('all'), 'single', 'all in small letters is a channel');
is(listed('news/ALL'), listed('ALL'), 'ALL among others');
is(listed('none/ALL'), listed('ALL'), 'even behind one that does not exist');
is(listed('news/room*/tech'), listed('room*'), 'the first of these ends the examination');
is(listed('ALL/room*'), listed('ALL'), 'ALL comes first');
is(listed('tech/none/news'), 'tech news', 'looked up: in the order requested');
is(listed('news/none'), 'single', 'one found: the single form');
is(listed('/news/'), 'single', 'empty pieces are ignored');
is(listed('news.b3'), 'single', 'a backtrack suffix is removed');
$t->is_refusal($t->get('/stats?id=12345678*'), 400, 'Channel id is too large.', 'the * counts for the length');
is(listed('1234567*'), '', 'equal is allowed');
my $s = $t->stats('/stats?id=ALL');
is("$s->{channels} $s->{wildcard_channels}", '6 1', 'wildcard channels are listed and counted apart');

$t->delete('/pub?id=room_10');
is(listed('ALL'), 'room_2 tech w_1 news room_1 all', 'a deleted channel is not listed');
$t->publish('/pub?id=room_10', 'x');
is(listed('room*'), 'room_2 room_1 room_10', 'made anew it comes last');

$t->done();
