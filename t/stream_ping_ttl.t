# Pings come at their interval, live messages restart it, and the ttl ends a subscriber with its footer.
#
# Proves protocol.md: pings, templates (id -1), orderly-end, configured-limits (ttl).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_ping_message_text "-ping~id~-";
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; push_stream_store_messages on; }
        location /ttl   { push_stream_subscriber; push_stream_footer_template FOOT;
                          push_stream_subscriber_connection_ttl 1s; }
        location /both  { push_stream_subscriber; push_stream_footer_template FOOT;
                          push_stream_message_template "[~id~|~channel~|~text~|~size~|~tag~|~time~|~event-id~|~event-type~]";
                          push_stream_ping_message_interval 1s; push_stream_subscriber_connection_ttl 5900ms; }
        location /busy  { push_stream_subscriber; push_stream_ping_message_interval 2500ms; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

# everything is under way at once
my $ttl   = $t->subscribe('/ttl?id=a');
my $both  = $t->subscribe('/both?id=a');
my $busy  = $t->subscribe('/busy?id=b');
my $pub   = $t->client;
is($t->stats->{subscribers}, 3, 'three subscribers');

# live messages keep the pings of /busy away: 4 s, in steps far below the interval
my $sent = '';
for my $i (1 .. 16) {
    $t->publish('/pub?id=b', "m$i;", client => $pub);
    $sent .= "m$i;";
    $t->quiet_for($pub, 0.25);
}
is($busy->so_far, $sent, 'no ping between live messages');
is($busy->next_chunk, $_, "chunk $_") for $sent =~ /m\d+;/g;
is($busy->next_chunk, '-ping~id~-', 'but one after them');

is($ttl->body, 'FOOT', 'the ttl ends with the footer');
ok($ttl->complete, 'and the end of the body');
cmp_ok($ttl->duration, '>=', 0.99, 'not before its time');
cmp_ok($ttl->duration, '<', 10, 'nor long after');
is($t->get('/stats?id=a', client => $ttl->client)->status, 200, 'the connection lives on');

$both->body;
my $ping = '[-1||-ping~id~-|10|0|Thu, 01 Jan 1970 00:00:00 GMT||]';
is_deeply([ $both->chunks ], [ ($ping) x 5, 'FOOT' ], 'five pings, then the footer');
cmp_ok($both->duration, '>=', 5.89, 'each connection has its own clock');
my @at = $both->chunk_times;
cmp_ok($at[ $_ - 1 ], '>=', $_ - 0.01, "ping $_ is not early") for 1 .. 5;
$t->wait_for(sub { $t->stats->{subscribers} == 1 }, 'only one to be left');
is($t->stats->{subscribers}, 1, 'who ended is not counted');
is($t->stats('/stats?id=a')->{published_messages} // 0, 0, 'pings are no messages');
$t->finish;

# the default text is one space; a ping without a byte is not sent
$t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /sub { push_stream_subscriber; push_stream_ping_message_interval 200ms; }
    }
EOC
my $s = $t->subscribe('/sub?id=a');
is($s->next_chunk, ' ', 'the default ping') for 1 .. 3;
$t->finish;

$t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_ping_message_text "";
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /sub { push_stream_subscriber; push_stream_ping_message_interval 100ms;
                        push_stream_subscriber_connection_ttl 1s; push_stream_footer_template FOOT; }
    }
EOC
$s = $t->subscribe('/sub?id=a');
is($s->body, 'FOOT', 'an empty ping sends nothing and breaks nothing');
ok($s->complete, 'until the end');
$t->done();
