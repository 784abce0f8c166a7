# A backtrack sends the last stored messages, oldest first, before any live one.
#
# Proves protocol.md: resuming (backtrack, order), channel-paths, streaming.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 15m;
    push_stream_channels_path $arg_id;
    client_max_body_size 8m;
    client_body_buffer_size 1m;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; push_stream_store_messages on; }
        location /pass  { push_stream_publisher; }
        location /sub   { push_stream_subscriber; push_stream_message_template "~channel~~id~~text~;"; }
        location /head  { push_stream_subscriber; push_stream_header_template H; push_stream_footer_template F;
                          push_stream_message_template "~text~"; push_stream_subscriber_connection_ttl 300ms; }
    }
EOC

# The stored message of channel `z` marks the end of every replay: channels come in request order.
$t->publish('/pub?id=z', 'END');
sub replay {
    my ($path, @headers) = @_;
    my $s = $t->subscribe("/sub?id=$path/z.b1", @headers);
    my $got = $s->read_until(qr/z1END;/) // 'nothing';
    $s->close;
    return $got =~ s/z1END;//r;
}

is(replay('a'), '', 'nothing stored, nothing replayed');
is(replay('a.b5'), '', 'nor with a backtrack');
$t->publish('/pub?id=a', chr 64 + $_) for 1 .. 5;
$t->publish('/pass?id=a', 'unstored');
$t->publish('/pub?id=a', 'F');
my @all = map { 'a' . ($_ == 6 ? 7 : $_) . chr(64 + $_) . ';' } 1 .. 6;
is(replay('a'), '', 'without a backtrack nothing');
is(replay('a.b0'), '', 'nor with a backtrack of 0');
is(replay("a.b$_"), join('', @all[6 - $_ .. 5]), "backtrack $_") for 1 .. 6;
is(replay("a.b$_"), join('', @all), "backtrack $_ is more than there is") for 7, 1000, '4294967297', '9' x 40;

$t->publish('/pub?id=b', $_) for qw(x y);
is(replay('b.b1/a.b2/c.b3'), 'b2y;' . join('', @all[4, 5]), 'channels come in request order');
is(replay('a.b1/b.b2'), $all[5] . 'b1x;b2y;', 'and not in order of time');
is(replay('b/a.b1'), $all[5], 'each has its own backtrack');
is(replay('b/a.b1', 'If-Modified-Since' => 'Thu, 01 Jan 1970 00:00:00 GMT'), 'b1x;b2y;' . $all[5],
    'a backtrack overrules a time, for its own channel');
is(replay('a.b1', 'Last-Event-Id' => 'none'), $all[5], 'and an event id');

my $s = $t->subscribe('/sub?id=a.b2');
$t->publish('/pub?id=a', 'live');
is(join('|', map { $s->next_chunk } 1 .. 3), "$all[4]|$all[5]|a8live;", 'replay, then live, each a chunk');

$t->publish('/pub?id=h', $_) for 1 .. 3;
$s = $t->subscribe('/head?id=h.b2');
is($s->body, 'H23F', 'between header and footer');
is(join('|', $s->chunks), 'H|2|3|F', 'each in its own chunk');

# no gap and no doubles between replay and live, while messages are published all the time
my $n = 0;
for my $round (1 .. 5) {
    my @s;
    my $from = $n;
    my $counts = $t->publish_many('', sub {
        return if $n - $from >= 400;
        push @s, $t->start('GET', '/sub?id=race.b100000') if $n % 20 == 0;
        return ('/pub?id=race', 'm' . ++$n);
    }, depth => 5);
    is_deeply($counts, { 200 => 400 }, "round $round: published");
    my $want = join '', map { "race${_}m$_;" } 1 .. $n;
    my @wrong = grep { ($_->read_until(qr/m$n;/) // '') ne $want } @s;
    is(scalar @wrong, 0, 'every subscriber has every message once, in order');
    $_->close for @s;
}

# 4 MiB, live and replayed
my $four = join '', map { sprintf "%015d\n", $_ } 1 .. 262_144;
my $live = $t->subscribe('/sub?id=four');
is($t->post('/pub?id=four', $four)->status, 200, '4 MiB published');
ok(($live->next_chunk // '') eq "four1$four;", 'live');
ok(($t->subscribe('/sub?id=four.b1')->next_chunk // '') eq "four1$four;", 'replayed');

$t->done();
