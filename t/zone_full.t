# A full zone refuses one publish, stays usable, and holds exactly as much again after it has drained.
#
# Proves protocol.md: full-memory, fields (how the counters relate); promises.md: full-memory.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $conf = <<'EOC';
    push_stream_shared_memory_size 129k;
    push_stream_channels_path $arg_id;
    push_stream_message_ttl 2s;
    push_stream_channel_inactivity_time 2s;
    client_body_buffer_size 64k;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher admin; push_stream_store_messages on; }
        location /sub   { push_stream_subscriber; push_stream_message_template "~text~;"; push_stream_footer_template F; }
        location /stats { push_stream_channels_statistics; }
        # MORE
    }
EOC
my $t = Test::Nginx::PushStream->new->http($conf)->run();

my $published = 0;
# Such that a message's slot is as large as a channel's: then as many fit, whichever was there before.
my $body = '0123456789abcdefghijklmnopqrstuvwxyzABCD';

# Publishes until the first refusal; how many were taken. It begins with a second of the clock, so
# that nothing can expire before it is through.
sub fill {
    my ($uri) = @_;
    $t->next_second;
    my $n = 0;
    my $count = $t->publish_many('', sub { ++$n; return (ref $uri ? $uri->($n) : $uri, $body) },
        depth => 20, until => sub { $_[0] ne '200' });
    $published += $count->{200} // 0;
    is(join(' ', sort keys %$count), '200 500', 'refused in the end, with 500');
    return $count->{200} // 0;
}
sub drained {
    return $t->wait_for(sub { !$t->stats->{stored_messages} }, 'the zone to drain', 15);
}

# one channel, kept by a subscriber
my $s = $t->subscribe('/sub?id=a');
my $first = fill('/pub?id=a');
my $stats = $t->stats;
is($stats->{published_messages}, $stats->{stored_messages} + $stats->{messages_in_trash}, 'published = stored + trash');
cmp_ok($first, '>', 200, "it takes $first messages");

# while it is full
my $c = $t->client;
my $r = $t->post('/pub?id=a', $body, client => $c);
is($r->status, 500, 'no memory for a message: 500');
is($r->header('Connection'), 'close', 'and the connection ends');
ok($c->wait_closed, 'indeed');
is($t->stats->{published_messages}, $published, 'a refused message is not counted') or diag explain $t->stats;
is($t->get('/pub?id=a')->status, 200, 'GET works');
is($t->stats('/stats?id=ALL')->{channels}, 1, 'statistics work');
my $more = $t->subscribe('/sub?id=a');
is($more->status, 200, 'subscribing to an existing channel works');
ok($t->wait_for(sub { length $s->so_far == $first * length "$body;" }, 'the subscriber'), 'it has every message taken')
    or diag length($s->so_far) / length "$body;";
$r = $t->post('/pub?id=a', 'x' x 50_000);
is($r->status, 500, 'a large message: 500');
$r = $t->post('/pub?id=a/new', $body);
is($r->status, 500, 'two channels, one of them new: 500');
is($t->stats->{published_messages}, $published, 'none of them has the message');
is($t->get('/pub?id=new')->status, 404, 'and none was created');

# a refused publish leaves nothing half done for those who listen: the next one reaches them
my @listeners = map { $t->subscribe('/sub?id=a', worker => $_) } $t->worker_pids;
drained();
is($t->post('/pub?id=a', 'Ola')->status, 200, 'there is room again');
$published++;
is($_->next_chunk, 'Ola;', 'and it reaches the subscribers of each worker') for @listeners;
$_->close for @listeners;

# again and again: drained, with a worker killed, with all killed, after a reload
drained();
is(fill('/pub?id=a'), $first, 'the second fill takes exactly as many');
drained();
$t->kill_worker(($t->worker_pids)[0]);
$t->wait_for(sub { $t->stats->{subscribers} <= 2 }, 'the counters to settle');
is(fill('/pub?id=a'), $first, 'so does one after a worker was killed');
$t->kill_worker($t->worker_pids);
drained();
ok($t->subscribe('/sub?id=a')->status == 200, '(somebody keeps the channel)');
is(fill('/pub?id=a'), $first, 'and one with all workers killed while it was full');
my $templates = join '', map {
    qq(location /t$_ { push_stream_subscriber; push_stream_message_template "$_~text~) . 'x' x 500 . '"; }'
} 1 .. 9;
$t->reload($conf =~ s/# MORE/$templates/r, wait_old => 1);
$t->reload(wait_old => 1);
my $keep = $t->subscribe('/sub?id=a');
drained();
is(fill('/pub?id=a'), $first, 'and one after two reloads that brought nine more templates');

# deletion needs no memory
$r = $t->delete('/pub?id=a');
is($r->status, 200, 'DELETE works in a full zone');
is($keep->read_until(qr/F/) =~ s/.*;(?=Channel)//sr, 'Channel deleted;F', 'its subscribers get the text');
is($t->post('/pub?id=b', $body)->status, 200, 'and the memory is there at once');
$published++;
$t->delete('/pub?id=b');

# many channels, one message each: the same holds for channels
$t->wait_for(sub { my $s = $t->stats; !$s->{channels} && !$s->{channels_in_delete} }, 'channels to be gone', 15);
my $channels = fill(sub { '/pub?id=c' . sprintf '%05d', $_[0] });
cmp_ok($channels, '>', 50, "it takes $channels channels");
is($t->stats->{channels}, $channels, 'which are all there');
$r = $t->post('/pub?id=other', $body);
is($r->status, 500, 'no memory for a channel: 500');
is($r->explain, undef, 'without an explanation');
is($r->header('Connection'), 'close', 'and the connection ends');
$r = $t->get('/sub?id=other');
is($r->status, 500, 'a subscriber of a new channel: 500');
is($r->explain, undef, 'without an explanation');
is($t->get('/pub?id=other')->status, 404, 'and no channel');
$t->wait_for(sub { !$t->stats->{channels} }, 'channels to be collected', 25);
is(fill(sub { '/pub?id=c' . sprintf '%05d', $_[0] }), $channels, 'the second fill takes exactly as many channels');
$t->wait_for(sub { !$t->stats->{channels} }, 'channels to be collected', 25);
is($t->post('/pub?id=large', 'x' x 60_000)->status, 200, 'a message of half the zone fits afterwards');

my $complaints = () = $t->log =~ /push stream: /g;
cmp_ok($complaints, '<', 60, 'the log is not flooded');

$t->done();
