# Twenty thousand channels are created and listed, completely and quickly.
#
# Proves protocol.md: statistics-requests, several-channels.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Time::HiRes qw(time);

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 200m;
    push_stream_channels_path $arg_id;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; push_stream_store_messages on; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

my $slow = $ENV{TEST_NGINX_SLOW} ? 8 : 1;
my $start = time;
my $n = 0;
is_deeply($t->publish_many('', sub { $n++ < 20_000 ? ("/pub?id=channel_$n", 'x') : () }), { 200 => 20_000 },
    '20,000 channels');
my $body = $t->get('/stats?id=ALL')->body;
cmp_ok(time - $start, '<', 15 * $slow, 'created and listed in less than 15 s');
my @listed = $body =~ /"channel": "channel_(\d+)", "published_messages": 1, "stored_messages": 1, "subscribers": 0\}/g;
ok("@listed" eq join(' ', 1 .. 20_000), 'all of them, in the order of creation');
like($body, qr/"channels": 20000, /, 'and counted');
my $s = $t->stats;
is("$s->{channels} $s->{published_messages} $s->{stored_messages}", '20000 20000 20000', 'in the summary too');
for my $word (qw(plain yaml xml)) {
    my $count = () = $t->get('/stats?id=ALL', Accept => "a/$word")->body =~ /\bchannel_\d+\b/g;
    is($count, 20_000, "complete as $word");
}
my $count = () = $t->get('/stats?id=channel_1*')->body =~ /"channel"/g;
is($count, 11_111, 'a prefix of many');

# subscribers are served meanwhile: nobody reads the list, everybody else goes on
my $lazy = $t->start('GET', '/stats?id=ALL', rcvbuf => 4096, paused => 1);
is($t->post('/pub?id=channel_7', 'x')->status, 200, 'a list that nobody reads stops nobody');

# nor does a tick, however many channels there are
my ($from, $longest, $c) = (time, 0, $t->client);
while (time - $from < 4.5) {
    my $before = time;
    $t->post('/pub?id=channel_8', 'x', client => $c)->status == 200 or last;
    my $took = time - $before;
    $longest = $took if $took > $longest;
}
cmp_ok($longest, '<', $slow, 'no publish has to wait for a tick');

$t->done();
