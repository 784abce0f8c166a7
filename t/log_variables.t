# The access log says how each subscriber was served, how much it got, and why it ended.
#
# Proves directives.md: variables.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new(workers => 1)->http(<<'EOC')->run;
    log_format push "$uri?$args mode=$push_stream_mode sent=$push_stream_messages_sent buffered=$push_stream_bytes_buffered reason=$push_stream_close_reason;";
    access_log %%TESTDIR%%/access.log push;
    push_stream_shared_memory_size 32m;
    push_stream_channels_path $arg_id;
    push_stream_store_messages on;

    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub    { push_stream_publisher admin; }
        location /stats  { push_stream_channels_statistics; }
        location /other  { return 204; }
        location /sub    { push_stream_subscriber; add_header X-Mode $push_stream_mode; add_header X-Sent $push_stream_messages_sent always; }
        location /short  { push_stream_subscriber eventsource; push_stream_subscriber_connection_ttl 200ms; }
        location /poll   { push_stream_subscriber polling; }
        location /lp     { push_stream_subscriber long-polling; push_stream_longpolling_connection_ttl 200ms; }
        location /ws     { push_stream_subscriber websocket; }
        location /wait   { push_stream_subscriber long-polling; }
        location /slow   { push_stream_subscriber; push_stream_subscriber_max_buffered 10k; }
        location /stuck  { push_stream_subscriber; send_timeout 500ms; push_stream_subscriber_max_buffered 1g; }
        location /flood  { push_stream_publisher; push_stream_store_messages off; }
    }
EOC

sub line {
    my ($uri) = @_;
    my $line;
    $t->wait_for(sub {
        open my $file, '<', $t->dir . '/access.log' or return 0;
        ($line) = grep { index($_, $uri) == 0 } <$file>;
        return defined $line && $line =~ /;$/;
    }, "a line about $uri");
    return defined $line ? $line =~ s/\A\S+ (.*);\n?\z/$1/r : undef;
}

$t->get('/other?a');
is(line('/other?a'), 'mode=- sent=- buffered=- reason=-', 'another location');
$t->publish('/pub?id=a', 'one');
is(line('/pub?id=a'), 'mode=publisher sent=- buffered=- reason=-', 'a publisher');
$t->stats('/stats?id=a');
is(line('/stats?id=a'), 'mode=statistics sent=- buffered=- reason=-', 'statistics');
$t->get('/sub?id=');
is(line('/sub?id= '), 'mode=streaming sent=- buffered=- reason=-', 'a subscriber without a channel');
$t->get('/sub?id=*');
is(line('/sub?id=*'), 'mode=streaming sent=0 buffered=0 reason=refused', 'a refused subscriber');

my $sub = $t->subscribe('/sub?id=a.b1&client');
is($sub->header('X-Mode'), 'streaming', 'the mode can be used in the response');
is($sub->header('X-Sent'), '0', 'so can a number');
$sub->read_until(qr/one/);
$t->publish('/pub?id=a', 'two');
$sub->read_until(qr/two/);
$sub->close;
is(line('/sub?id=a.b1&client'), 'mode=streaming sent=2 buffered=0 reason=client', 'old and new messages, and the client left');

$t->get('/short?id=a');
is(line('/short?id=a'), 'mode=eventsource sent=0 buffered=0 reason=ttl', 'its time was over');

my $deleted = $t->subscribe('/sub?id=gone');
$t->delete('/pub?id=gone');
$deleted->wait_end;
is(line('/sub?id=gone'), 'mode=streaming sent=1 buffered=0 reason=deleted', 'its channel was deleted');

$t->get('/poll?id=a.b2');
is(line('/poll?id=a.b2'), 'mode=polling sent=2 buffered=0 reason=answered', 'a poll with messages');
$t->get('/poll?id=none');
is(line('/poll?id=none'), 'mode=polling sent=0 buffered=0 reason=answered', 'a poll without');
$t->get('/lp?id=a');
is(line('/lp?id=a'), 'mode=long-polling sent=0 buffered=0 reason=ttl', 'a long poll that timed out');
$t->get('/sub?id=a.b1&asked', 'X-Nginx-PushStream-Mode' => 'polling');
is(line('/sub?id=a.b1&asked'), 'mode=polling sent=1 buffered=0 reason=answered', 'the mode that the client asked for');

my $poll = $t->poll('/wait?id=w');
$t->wait_subscribers('/stats?id=w', 1);
$t->publish('/pub?id=w', 'x');
$poll->wait_end;
is(line('/wait?id=w'), 'mode=long-polling sent=1 buffered=0 reason=answered', 'a long poll that was answered');

my $ws = $t->websocket('/ws?id=s');
$t->publish('/pub?id=s', 'x');
is($ws->text, 'x', 'a websocket gets a message');
$ws->send_frame(8, '', mask => 'abcd');
ok($ws->closed, 'and ends');
$ws->close;
is(line('/ws?id=s'), 'mode=websocket sent=1 buffered=0 reason=client', 'a websocket');
$ws = $t->websocket('/ws?id=*');
ok($ws->closed, 'a refused websocket ends');
$ws->close;
is(line('/ws?id=*'), 'mode=websocket sent=0 buffered=0 reason=refused', 'and is refused');

# more than a socket takes: nobody reads
sub fill {
    my ($channel, $done) = @_;
    $t->wait_for(sub { $t->publish("/flood?id=$channel", 'x' x 500_000); return $done->() }, 'a full socket');
}
my $slow = $t->subscribe('/slow?id=slow', -rcvbuf => 4096);
$slow->client->pause;
fill('slow', sub { $t->log =~ /disconnected, being too slow/ });
like(line('/slow?id=slow'), qr/\Amode=streaming sent=\d+ buffered=\d{5,} reason=slow\z/, 'too slow');

my $stuck = $t->subscribe('/stuck?id=stuck', -rcvbuf => 4096);
$stuck->client->pause;
$t->publish('/flood?id=stuck', 'x' x 900_000) for 1 .. 10;
like(line('/stuck?id=stuck'), qr/\Amode=streaming sent=\d+ buffered=\d{5,} reason=send_timeout\z/, 'stuck');

my $last = $t->subscribe('/sub?id=shutdown');
$t->stop('QUIT');
is(line('/sub?id=shutdown'), 'mode=streaming sent=0 buffered=0 reason=shutdown', 'nginx ended');

$t->done;
