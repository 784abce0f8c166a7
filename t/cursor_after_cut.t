# A client that was cut off for being slow, and one whose channel was deleted, find out by their cursor what they
# missed when they come back.
#
# Proves protocol.md: gaps, slow-readers, cursors.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 32m;
    push_stream_channels_path $arg_id;
    push_stream_store_messages on;
    push_stream_max_messages_stored_per_channel 100;
    push_stream_cursor on;
    push_stream_message_template "~channel~ ~id~ ~cursor~ ~text~\n";
    client_body_buffer_size 64k;
    server {
        listen 127.0.0.1:%%PORT_8080%% sndbuf=16k;
        location /pub   { push_stream_publisher admin; }
        location /sub   { push_stream_subscriber; push_stream_subscriber_max_buffered 200k; }
        location /ws    { push_stream_subscriber websocket; push_stream_subscriber_max_buffered 200k; }
        location /ev    { push_stream_subscriber eventsource; push_stream_subscriber_max_buffered 200k; }
        location /poll  { push_stream_subscriber polling; }
        location /stats { push_stream_channels_statistics; }
    }
EOC
my $GAP = 'X-Nginx-PushStream-Gap';
my %last;

sub text { return sprintf('%06d ', $_[0]) . 'x' x 9_993 }

sub publish {
    my ($id, $count) = @_;
    for (1 .. $count) { my $n = ++$last{$id}; $t->publish("/pub?id=$id", text($n)) }
    return;
}

# Comes back with the last place that it was told. Returns the gap, and the ids of what it gets until the newest one.
sub come_back {
    my ($id, $place) = @_;
    my $s = $t->subscribe("/sub?id=$id", 'Last-Event-Id' => $place);
    my $gap = $s->header($GAP) // 'none';
    publish($id, 1);
    my $n = $last{$id};
    my $body = $s->read_until(qr/^$id $n \S+ .*\n/m, 30) // '';
    $s->close;
    return ($gap, [grep { $_ > 0 } $body =~ /^$id (-?\d+) /mg]);
}

# Cut off, in each mode. It comes back while all is stored, and when the first ones are gone.
for my $mode (qw(sub ev ws)) {
    for my $gone (0, 1) {
        my $id = "$mode$gone";
        my $s = $mode eq 'ws' ? $t->websocket("/ws?id=$id", rcvbuf => 4096) : $t->subscribe("/$mode?id=$id", rcvbuf => 4096);
        $s->client->pause;
        my $n = 0;
        $t->wait_for(sub { publish($id, 1); $t->stats("/stats?id=$id")->{subscribers} == 0 }, "$id to be cut off", 30);
        publish($id, 100) if $gone;
        $s->client->resume;
        my $got = '';
        if ($mode eq 'ws') {
            while (my $frame = $s->frame(30)) { last if $frame->{opcode} != 1; $got .= $frame->{payload} }
        }
        else { ok($s->closed(30), "$id: the connection has ended"); $got = $s->so_far }
        my %place = $got =~ /^(?:data: )?$id (\d+) (\S+) \d{6} x{9993}\n/mg;
        my ($had) = sort { $b <=> $a } keys %place;
        ok($had, "$id: it had some") or next;
        my ($gap, $ids) = come_back($id, $place{$had});
        if ($gone) {
            is($gap, 'evicted', "$id: what is gone is told");
            is("@$ids", join(' ', $last{$id} - @$ids + 1 .. $last{$id}), "$id: and the rest comes") or diag $had;
            cmp_ok(scalar @$ids, '>=', 100, "$id: all of it");
        }
        else {
            is($gap, 'none', "$id: nothing is gone");
            is("@$ids", join(' ', $had + 1 .. $last{$id}), "$id: all that it missed comes, once");
        }
    }
}

# The channel was deleted: one has had all of it, the other has not.
my $s = $t->subscribe('/sub?id=gone');
publish('gone', 2);
my $body = $s->read_until(qr/^gone 2 .*\n/m) // '';
my ($second) = $body =~ /^gone 2 (\S+) /m;
publish('gone', 1);
$body = $s->read_until(qr/^gone 3 .*\n/m) // '';
my ($third) = $body =~ /^gone 3 (\S+) /m;
$t->delete('/pub?id=gone');
like($s->body, qr/^gone -2  Channel deleted\n\z/m, 'the notice and the end');
$last{gone} = 0;
my ($gap, $ids) = come_back('gone', $second);
is($gap, 'unknown', 'a message of a deleted channel is missing');
is("@$ids", '1', 'and the new channel is there');
($gap, $ids) = come_back('gone', $third);
is($gap, 'none', 'who had all of it misses nothing');
is("@$ids", '1 2', 'and gets all of the new one');

# Slow, and the channel is deleted meanwhile: cut off or ended, it finds out.
$s = $t->subscribe_still('/sub?id=both');
publish('both', 5);
$t->delete('/pub?id=both');
$s->client->resume;
$s->wait_end(30);
my %place = $s->so_far =~ /^both (\d+) (\S+) \d{6} x/mg;
$last{both} = 0;
($gap, $ids) = come_back('both', $place{5} // '');
is($gap, 'none', 'all of it was sent before the end');
($gap, $ids) = come_back('both', $place{4} // '');
is($gap, 'unknown', 'one that did not read the last one is told');

$t->done();
