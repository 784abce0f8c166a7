# A subscriber that asks for messages whose time to live is over is told; so is one of a channel that was idle.
#
# Proves protocol.md: gaps.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_message_ttl 2s;
    push_stream_channel_inactivity_time 2s;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; push_stream_store_messages on; }
        location /sub   { push_stream_subscriber; push_stream_message_template "~time~|~tag~;"; }
        location /sse   { push_stream_subscriber eventsource; }
        location /poll  { push_stream_subscriber polling; }
        location /ws    { push_stream_subscriber websocket; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

my $GAP = 'X-Nginx-PushStream-Gap';
my $past = 'Sun, 06 Nov 1994 08:49:37 GMT';

sub told {
    my ($path, @headers) = @_;
    my %told;
    for my $mode (qw(sub sse)) {
        my $s = $t->subscribe("/$mode?id=$path", @headers);
        $told{$s->header($GAP) // 'none'} = 1;
        $s->close;
    }
    $told{ $t->get("/poll?id=$path", @headers)->header($GAP) // 'none' } = 1;
    my $ws = $t->websocket("/ws?id=$path", @headers)->wait_subscribed;
    $told{$ws->header($GAP) // 'none'} = 1;
    $ws->close;
    return join ' ', sort keys %told;
}

# Somebody stays, so that the channel stays as well, and sees the place of each message.
my $stays = $t->subscribe('/sub?id=a');
$t->publish('/pub?id=a', 'old', 'Event-Id' => 'old');
$t->publish('/pub?id=idle', 'old');
my ($time, $tag) = split /\|/, $stays->read_until(qr/;/) =~ s/;//r;
my @had = ('If-Modified-Since' => $time, 'If-None-Match' => $tag);

# Whether a tick has discarded it or not.
$t->wait_for(sub { ($t->get('/poll?id=a', 'If-Modified-Since' => $past)->header($GAP) // '') eq 'expired' },
    'the message to expire', 15);
is(told('a', 'If-Modified-Since' => $past), 'expired', 'an expired message');
is(told('a', @had), 'none', 'one that has had it');
$t->wait_for(sub { $t->stats('/stats?id=a')->{stored_messages} == 0 }, 'it to be discarded', 15);
is(told('a', 'If-Modified-Since' => $past), 'expired', 'one that was discarded');
is(told('a', 'Last-Event-Id' => 'old'), 'unknown', 'its event id');
is(told('a', @had), 'none', 'one that has had it, still');
is(told('a'), 'none', 'one that asks for nothing');

# A channel that nobody uses is removed.
$t->wait_for(sub { !$t->stats('/stats?id=idle') }, 'the channel to be removed', 20);
is(told('idle', 'If-Modified-Since' => $past), 'unknown', 'a channel that was removed');

$t->done();
