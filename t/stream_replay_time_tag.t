# If-Modified-Since and If-None-Match say where a subscriber left off; what follows is sent.
#
# Proves protocol.md: resuming (time, tag), terms (time, tag).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub  { push_stream_publisher; push_stream_store_messages on; }
        location /sub  { push_stream_subscriber; push_stream_message_template "~text~;"; }
        location /info { push_stream_subscriber; push_stream_message_template "~text~|~time~|~tag~;"; }
    }
EOC

sub lines { my ($s, $re) = @_; my $got = $s->read_until($re) // ''; $s->close; return $got }

# The stored message of channel `z` marks the end of every replay.
$t->publish('/pub?id=z', 'END');
sub replay {
    my ($path, $since, $tag, @more) = @_;
    my @headers = @more;
    push @headers, 'If-Modified-Since', $since if defined $since;
    push @headers, 'If-None-Match',     $tag   if defined $tag;
    return lines($t->subscribe("/sub?id=$path/z.b1", @headers), qr/END;/) =~ s/END;//r;
}

# Three messages within one second, one in a later one, one more much later.
my ($channel, @m);
for my $try (1 .. 10) {
    $channel = "try$try";
    $t->next_second;
    $t->publish("/pub?id=$channel", $_) for qw(A B C);
    $t->next_second;
    $t->next_second;
    $t->publish("/pub?id=$channel", 'D');
    @m = map { [ split /\|/ ] } split /;/, lines($t->subscribe("/info?id=$channel.b9"), qr/D\|.*;/);
    last if $m[0][1] eq $m[2][1];
}
is($m[0][1], $m[2][1], 'three messages share a second') or diag explain \@m;
is(join(' ', map { $_->[2] } @m), '1 2 3 1', 'tags count within a second and begin again in the next');

my ($same, $late) = ($m[0][1], $m[3][1]);
my ($first, $second) = ($t->epoch($same), $t->epoch($late));
is(replay($channel, $t->http_date($first - 1)), 'A;B;C;D;', 'an earlier time: everything');
is(replay($channel, $t->http_date($first - 1), 7), 'A;B;C;D;', 'whatever the tag');
is(replay($channel, $same), 'D;', 'without a tag the whole second is skipped');
is(replay($channel, $same, 0), 'A;B;C;D;', 'tag 0 includes the whole second');
is(replay($channel, $same, 1), 'B;C;D;', 'tag 1');
is(replay($channel, $same, 2), 'C;D;', 'tag 2');
is(replay($channel, $same, 3), 'D;', 'tag 3');
is(replay($channel, $same, 4), 'D;', 'a tag beyond the last');
is(replay($channel, $late), '', 'the time of the last message');
is(replay($channel, $late, 1), '', 'time and tag of the last message');
is(replay($channel, $late, 0), 'D;', 'its second from the beginning');
is(replay($channel, $t->http_date($second + 100)), '', 'the future');
is(replay($channel, undef, 1), '', 'a tag without a time');
is(replay($channel), '', 'neither');
is(replay($channel, 'Thu, 01 Jan 1970 00:00:00 GMT'), 'A;B;C;D;', 'the epoch');

# spellings of the tag
is(replay($channel, $same, 'W/2'), 'C;D;', 'W/ before the tag');
is(replay($channel, $same, 'W/"2"'), 'C;D;', 'weak and quoted');
is(replay($channel, $same, '"2"'), 'C;D;', 'quoted');
is(replay($channel, $same, $_), 'D;', "not a tag: $_") for 'x', '2x', '-1', '"', 'W/', '*', '';

# spellings of the time
is(replay($channel, $_), '', "not a time: $_") for 'Thu, 1 Jan 1970 00:00:00 GMT', '', 'yesterday', '0';
is(replay($channel, 'Thursday, 01-Jan-70 00:00:00 GMT'), 'A;B;C;D;', 'RFC 850');

# several channels, each on its own
$t->publish('/pub?id=other', 'E');
is(replay("other/$channel", $same, 2), 'E;C;D;', 'in request order');
is(replay("$channel.b1/other", $late, 1), 'D;E;', 'a backtrack is for its channel only');
is(replay("$channel/none", $same, 2), 'C;D;', 'a channel without messages adds nothing');

# tags are counted over all channels
for my $try (1 .. 10) {
    $t->next_second;
    $t->publish("/pub?id=tags$_.$try", 'x') for 1 .. 4;
    my @tags = map { lines($t->subscribe("/info?id=tags$_.$try.b1"), qr/;/) =~ /\|(.*)\|(\d+);/ ? [ $1, $2 ] : [] } 1 .. 4;
    next if grep { $_->[0] ne $tags[0][0] } @tags;
    is(join(' ', map { $_->[1] } @tags), '1 2 3 4', 'one count for all channels');
    last;
}

# what a client does: it goes on from what it saw last, and neither misses nor repeats
$t->publish('/pub?id=walk', "w$_") for 1 .. 20;
$t->next_second;
$t->publish('/pub?id=walk', "w$_") for 21 .. 40;
my @info = split /;/, lines($t->subscribe('/info?id=walk.b99'), qr/w40\|.*;/);
for my $i (0, 7, 18 .. 21, 38) {
    my ($text, $time, $tag) = $info[$i] =~ /\A(w\d+)\|(.*)\|(\d+)\z/;
    is(replay('walk', $time, "W/$tag"), join('', map { "w$_;" } $i + 2 .. 40), "resuming behind $text");
}

$t->done();
