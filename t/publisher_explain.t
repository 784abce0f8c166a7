# A publisher says why it refuses, in the documented order, and a refusal changes nothing.
#
# Proves protocol.md: refusals, order-of-checks, configured-limits, channel-ids.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_max_channel_id_length 5;
    push_stream_max_number_of_channels 3;
    push_stream_max_number_of_wildcard_channels 1;
    push_stream_wildcard_channel_prefix w_;
    push_stream_events_channel_id evts;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher admin; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

my $all = 'Channel id not authorized for this method.';
for my $id ('ALL', '*', 'a*', '*b', 'a*b', 'ok/ALL', 'ok/a*', 'a%2A') {
    for my $method (qw(GET POST PUT DELETE)) {
        $t->is_refusal($t->request($method, "/pub?id=$id", body => 'x'), 403, $all, "$method $id");
    }
}
$t->is_refusal($t->post("/pub?id=a$_", 'x'), 403, $all, "control byte $_ in an id") for qw(%00 %01 %0A %0d %1f);
$t->is_refusal($t->post('/pub?id=ALLALL*', 'x'), 403, $all, 'authorisation comes before length');
$t->is_refusal($t->post('/pub?id=ALLALL', 'x'), 400, 'Channel id is too large.', 'ALL is a whole id');
$t->is_refusal($t->request($_, '/pub?id=123456', body => 'x'), 400, 'Channel id is too large.',
    "$_ with an id one byte too long") for qw(GET POST PUT DELETE);
$t->is_refusal($t->post('/pub?id=ok/123456', 'x'), 400, 'Channel id is too large.', 'in second place');
$t->is_refusal($t->post('/pub?id=%C3%A9%C3%A9%C3%A9', 'x'), 400, 'Channel id is too large.', 'bytes count, decoded');

my $evts = 'Only internal routines can change events channel.';
$t->is_refusal($t->request($_, '/pub?id=evts', body => 'x'), 403, $evts, "$_ on the events channel")
    for qw(POST PUT DELETE);
$t->is_refusal($t->post('/pub?id=ok/evts', 'x'), 403, $evts, 'also among others');
is($t->get('/pub?id=evts')->status, 200, 'GET of the events channel is allowed');

$t->is_refusal($t->post('/pub?id=ok', ''), 400, 'Empty post requests are not allowed.', 'an empty body');
is($t->get('/pub?id=ok')->status, 404, 'no refusal has created the channel');
is($t->stats->{channels}, 1, 'only the events channel is there');
is($t->stats->{published_messages}, 0, 'nothing was published');

is($t->post('/pub?id=12345', 'x')->status, 200, 'an id of the greatest length');
is($t->post('/pub?id=12345.b123', 'x')->status, 200, 'a backtrack suffix does not count');
is($t->get('/pub?id=12345')->body =~ /"published_messages": (\d+)/ && $1, 2, 'and is no part of the id');
is($t->post('/pub?id=two', 'x')->status, 200, 'the last free channel (the events channel takes one)');
my $exceeded = 'Number of channels were exceeded.';
$t->is_refusal($t->post('/pub?id=three', 'x'), 403, $exceeded, 'one channel too many');
$t->is_refusal($t->post('/pub?id=two/three', 'x'), 403, $exceeded, 'among others');
is($t->get('/pub?id=two')->body =~ /"published_messages": (\d+)/ && $1, 1, 'and the others got nothing');
is($t->post('/pub?id=two', 'x')->status, 200, 'channels that exist are never refused');
is($t->post('/pub?id=w_1', 'x')->status, 200, 'wildcard channels are counted apart');
$t->is_refusal($t->post('/pub?id=w_2', 'x'), 403, $exceeded, 'and have their own limit');
is($t->get('/pub?id=three')->status, 404, 'GET of what does not exist');
is($t->get('/pub?id=three')->explain, undef, 'without an explanation');

is($t->delete('/pub?id=two')->status, 200, 'a deleted channel');
is($t->post('/pub?id=three', 'x')->status, 200, 'makes room at once');

my $s = $t->stats;
is("$s->{channels} $s->{wildcard_channels}", '3 1', 'counts in the end');

$t->done();
