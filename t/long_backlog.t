# Old messages that a socket does not take stay in the zone without pinning anything there, and cost the
# worker no more than one portion. A client that reads gets all of them, in order, and then the live ones.
#
# Proves protocol.md: slow-readers, resuming (order, no gap); promises.md: slow-and-hostile-clients.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Compress::Raw::Zlib qw(WANT_GZIP);
use JSON::PP qw(decode_json);

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 32m;
    push_stream_channels_path $arg_id;
    push_stream_max_messages_stored_per_channel 400;
    push_stream_subscriber_max_buffered 100k;
    push_stream_message_template "~channel~ ~id~ ~text~";
    client_body_buffer_size 64k;
    gzip_types text/plain;
    server {
        listen 127.0.0.1:%%PORT_8080%% sndbuf=16k;
        location /pub    { push_stream_publisher admin; push_stream_store_messages on; }
        location /live   { push_stream_publisher admin; }
        location /sub    { push_stream_subscriber; push_stream_header_template "HEAD\n"; push_stream_footer_template "FOOT\n"; }
        location /ttl    { push_stream_subscriber; push_stream_header_template "HEAD\n"; push_stream_footer_template "FOOT\n";
                           push_stream_subscriber_connection_ttl 4s; }
        location /filter { push_stream_subscriber; push_stream_force_filters on; }
        location /zipped { push_stream_subscriber; default_type text/plain; gzip on; }
        location /ev     { push_stream_subscriber eventsource; }
        location /ws     { push_stream_subscriber websocket; }
        location /stats  { push_stream_channels_statistics; }
        location /audit  { push_stream_audit on; }
    }
EOC
my ($here, $there) = $t->worker_pids;

my %last;    # id of a channel's last message
sub text { return sprintf('%05d ', $_[0]) . 'x' x 9_993 . "\n" }
sub old { my ($id, $from, $to) = @_; return join '', map { "$id $_ " . text($_) } $from .. $to }

sub fill {
    my ($id, $count) = @_;
    my $n = $last{$id} // 0;
    $last{$id} = $n + $count;
    my $done = $t->publish_many('', sub { $n++ < $last{$id} ? ("/pub?id=$id", text($n)) : () }, worker => $there, depth => 4);
    is_deeply($done, { 200 => $count }, "$count messages in $id");
}

sub live { my ($id, $text) = @_; $last{$id}++; return $t->publish("/live?id=$id", $text) }

sub still { my ($uri, @how) = @_; return $t->subscribe_still($uri, worker => $here, @how) }

# Messages that are kept only because somebody is to read them.
sub pinned { return decode_json($t->get('/audit')->body)->{kinds}{messages_being_read}{count} }

# 6 MB each, for twenty that take none of it.
fill(a => 300);
fill(b => 300);
my $before = $t->memory_of($here);
my @still = map { still('/sub?id=a.b300/b.b300') } 1 .. 20;
my $each = ($t->memory_of($here) - $before) / @still;
cmp_ok($each, '<', 1_500_000, 'a reader that stands still costs a portion')
    or diag "$each bytes each";

# Live messages wait behind the old ones, those of all channels in one order.
live(b => 'one');
live(a => "two\n");
live(b => 'three');
$still[0]->client->resume;
ok($still[0]->read_until(qr/three/, 60) eq "HEAD\n" . old(a => 1, 300) . old(b => 1, 300) . "b 301 onea 301 two\nb 302 three",
    'who reads gets everything, once and in order');
live(a => 'four');
is($still[0]->read_until(qr/four/), 'a 302 four', 'and goes on');

# They are bounded on their own. One at a time: the bound is looked at when the next ones come.
for (1 .. 13) {
    live(b => 'y' x 9_999 . "\n");
    $still[0]->read_until(qr/y\n/);
}
ok($t->wait_subscribers('/stats?id=b', 1), 'too many of them end it for those who do not read');
is($t->stats('/stats?id=a')->{subscribers}, 1, 'but not for the one who does');
$_->close for @still;

# In all modes, and through all filters.
my $want = old(a => 1, 300) . 'a 303 end';
my %way = map { $_ => still("$_?id=a.b300") } qw(/sub /filter);
$way{old} = still('/filter?id=a.b300', version => '1.0');
my $ev = still('/ev?id=a.b300');
my $ws = $t->websocket('/ws?id=a.b300', worker => $here, rcvbuf => 4096);
$ws->client->pause;
my $zipped = still('/zipped?id=a.b300', 'Accept-Encoding' => 'gzip');
live(a => 'end');
for my $way (sort keys %way) {
    $way{$way}->client->resume;
    ok($way{$way}->read_until(qr/end/, 60) =~ s/\AHEAD\n//r eq $want, "all to the end: $way");
}
$_->client->resume for $zipped, $ev, $ws;
my ($inflate) = Compress::Raw::Zlib::Inflate->new(-WindowBits => WANT_GZIP, -ConsumeInput => 0);
my ($plain, $seen) = ('', 0);
$t->wait_for(sub {
    my $more = substr $zipped->so_far, $seen;
    $seen += length $more;
    $inflate->inflate($more, my $out) if length $more;
    $plain .= $out // '';
    return length $plain >= length $want;
}, 'all that was compressed', 60);
ok($plain eq $want, 'all to the end: gzip');
my $events = join '', map { my $text = text($_) =~ s/\n//r; "data: a $_ $text\n\n" } 1 .. 300;
ok($ev->read_until(qr/end\n\n/, 60) =~ s/\A: \n//r eq "${events}data: a 303 end\n\n", 'all to the end: event stream');
ok(join('', map { $ws->text(60) } 1 .. 301) eq $want, 'all to the end: WebSocket');
$ws->send_frame(9, 'ping', mask => 'mmmm');
is($ws->frame->{opcode}, 10, 'which is read from again');

# What is evicted before it was taken is not passed over in silence.
my ($slow, $frames) = (still('/sub?id=b.b300'), $t->websocket('/ws?id=b.b300', worker => $here, rcvbuf => 4096));
$frames->client->pause;
fill(b => 390);
is(pinned(), 0, 'nobody holds what was evicted');
$_->client->resume for $slow, $frames;
ok($slow->closed(30), 'its reader is cut off');
like($slow->broken, qr/\S/, 'not in order, so it knows that something is missing');
my $got = join '', $slow->chunks;
ok(length $got && index("HEAD\n" . old(b => 1, 300), $got) == 0, 'after all up to some message');
my ($n, $wrong, $frame) = (0, 0);
while ($frame = $frames->frame(30)) {
    last if $frame->{opcode} != 1;
    $wrong++ if $frame->{payload} ne old(b => ++$n, $n);
}
is($wrong, 0, "a WebSocket too, after $n whole frames");
is($frame && unpack('H*', $frame->{raw}), '880203f5', 'with the reason');

# Deletion takes the rest of a channel with it, and its live messages that wait behind it.
fill(c => 300);
my ($bereft, $left) = (still('/sub?id=c.b300'), still('/sub?id=a.b300/c.b300'));
live(c => 'not without the others');
live(a => 'alive');
$t->delete('/pub?id=c');
$_->client->resume for $bereft, $left;
my $body = $bereft->body(30);
like($body, qr/\AHEAD\n(?:c \d+ \d+ x+\n)*c -2 Channel deletedFOOT\n\z/, 'a deleted channel');
ok(index($body, "HEAD\n" . old(c => 1, 10)) == 0, 'has no gap before its end');
ok($bereft->complete, 'which is in order');
ok($left->read_until(qr/deleted/, 60) eq "HEAD\n" . old(a => 1, 300) . 'a 304 alivec -2 Channel deleted',
    'another one is read to its end');

# The end of its time, and goodbye, come after all that was promised until then.
my %end = (reload => still('/sub?id=a.b300'));
my $leaving = $t->websocket('/ws?id=a.b300', worker => $here, rcvbuf => 4096);
$leaving->client->pause;
my $others = $t->stats('/stats?id=a')->{subscribers};
$end{ttl} = still('/ttl?id=a.b300');
live(a => 'last');
ok($t->wait_subscribers('/stats?id=a', $others), 'the time of one is over');
$t->reload;
$_->client->resume for values %end, $leaving;
for my $why (sort keys %end) {
    my $all = $end{$why}->body(60);
    ok($all =~ s/\AHEAD\n//r eq old(a => 1, 300) . "a 305 lastFOOT\n", "$why: all, and the footer");
    ok($end{$why}->complete, 'in order');
}
ok(join('', map { $leaving->text(60) } 1 .. 301) eq old(a => 1, 300) . 'a 305 last', 'a WebSocket too');
is($leaving->rest(5), '8800', 'and its close frame');

$t->done();
