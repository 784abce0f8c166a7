# Bytes that a client sends after the server's close frame are thrown away and never taken for a request.
# Nothing resets the connection before the client has read the close frame.
#
# Proves protocol.md: frames-from-the-client (after the close frame), reload-stop-and-death.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $conf = <<'EOC';
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher admin; }
        location /ws    { push_stream_subscriber websocket; push_stream_websocket_allow_publish on; push_stream_footer_template FOOT; }
        location /stats { push_stream_channels_statistics; }
    }
EOC
my $t = Test::Nginx::PushStream->new->http($conf)->run();
my $garbage = "\x00\xff garbage\r\n\r\nGET /stats?id=ALL HTTP/1.1\r\nHost: x\r\n\r\n" x 500;

# behind the client's own close frame, before and after the answer
for my $close ("\x88\x00", "\x88\x02\x03\xe8", "\x82\x01x", "\xf1\x00", "\x81\x02\xff\xff") {
    my $ws = $t->websocket('/ws?id=a');
    $ws->send_raw($close . $garbage);
    like($ws->rest(2), qr/\A88(?:00|02....)\z/, 'only a close frame comes back');
    $ws->send_raw($garbage);
}
my $ws = $t->websocket('/ws?id=a');
$ws->send_raw("\x88\x00");
is($ws->raw, '8800', 'closed');
$ws->send_raw($garbage) for 1 .. 5;
is($ws->rest(2), '', 'and nothing more');

# behind a frame that was sent because the channel is gone
$ws = $t->websocket('/ws?id=d');
$t->delete('/pub?id=d');
$ws->send_raw($garbage);
like($ws->rest(2), qr/8104464f4f548800\z/, 'deleted: the last frames are not lost');

# during a reload, and over and over again
for my $round (1 .. 3) {
    my @ws = map { $t->websocket('/ws?id=r') } 1 .. 20;
    $t->signal('HUP');
    $t->wait_for(sub { $_->send_raw("garbage\r\n\r\n") for @ws; !grep { !$_->client->eof } @ws }, 'everybody to be told', 10);
    is(scalar(grep { $_->rest(0) =~ /\A(?:8104464f4f54)?88(?:00|0203ea)\z/ } @ws), 20,
        "reload $round: everybody gets a close frame");
    $t->wait_for(sub { !$t->old_worker_pids && $t->worker_pids == 2 }, 'the old workers to be gone', 10);
    is($t->stats->{subscribers}, 0, 'nobody is counted');
}

# a client that does not close its half does not hold an old worker up
my @stay = map { $t->websocket('/ws?id=s') } 1 .. 4;
$_->client->pause for @stay;
my $from = time;
ok($t->reload(wait_old => 1), 'reload with clients that do nothing');
cmp_ok(time - $from, '<=', 4, 'the old workers are gone soon');
is($_->client->resume && $_->rest(2), '8104464f4f548800', 'the goodbye can be read afterwards') for @stay;

unlike($t->log, qr/client sent/, 'nothing was parsed as a request');
unlike($t->log, qr/client prematurely/, 'nor complained of');
$t->done();
