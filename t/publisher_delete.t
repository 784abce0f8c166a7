# DELETE removes channels at once: subscribers get the text and their orderly end, and the counters follow.
#
# Proves protocol.md: deleting, templates (id -2), expiry (deleted channels), orderly-end.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 2m;
    push_stream_channels_path $arg_id;
    push_stream_wildcard_channel_prefix w_;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub    { push_stream_publisher admin; push_stream_store_messages on; }
        location /sub    { push_stream_subscriber;
                           push_stream_header_template  HEAD;
                           push_stream_footer_template  FOOT;
                           push_stream_message_template "[~id~|~channel~|~text~|~size~|~tag~|~time~|~event-id~|~event-type~]"; }
        location /other  { push_stream_subscriber; push_stream_message_template "{~id~:~text~}"; }
        location /stats  { push_stream_channels_statistics; }
    }
EOC

my $deleted = 'Channel deleted.';
my @workers = $t->worker_pids;

$t->is_refusal($t->delete('/pub?id=a'), 404, undef, 'a channel that does not exist');
$t->is_refusal($t->delete('/pub?id=a/b'), 404, undef, 'nor do two');

# one subscriber in each worker, with different templates
$t->publish('/pub?id=a', 'one');
my @s = ($t->subscribe('/sub?id=a', worker => $workers[0]), $t->subscribe('/other?id=a', worker => $workers[1]));
is($t->stats('/stats?id=a')->{subscribers}, 2, 'two subscribers');
$t->is_refusal($t->delete('/pub?id=a'), 200, $deleted, 'DELETE of a channel');
is($t->get('/pub?id=a')->status, 404, 'it is gone at once');
is($s[0]->body, 'HEAD[-2|a|Channel deleted|15|0|Thu, 01 Jan 1970 00:00:00 GMT||]FOOT', 'what a subscriber gets');
ok($s[0]->complete, 'in an orderly end');
is($s[1]->body, '{-2:Channel deleted}', 'by its own template in the other worker');
is_deeply([ $s[0]->chunks ], [ 'HEAD', '[-2|a|Channel deleted|15|0|Thu, 01 Jan 1970 00:00:00 GMT||]', 'FOOT' ],
    'each part in its own chunk');
is($t->get('/stats', client => $s[0]->client)->status, 200, 'the connection can be used again');
$t->is_refusal($t->delete('/pub?id=a'), 404, undef, 'a second DELETE');

# counters
$t->publish("/pub?id=$_", 'x') for qw(b c d w_1);
my $before = $t->stats;
my $r = $t->delete('/pub?id=b', body => 'Adeus');
is($r->status . ' ' . $r->explain, "200 $deleted", 'with a text');
my $after = $t->stats;
is($before->{channels} - $after->{channels}, 1, 'channels drops');
is($after->{channels_in_delete} - $before->{channels_in_delete}, 1, 'channels_in_delete rises')
    or diag explain [$before, $after];
$t->delete('/pub?id=w_1');
is($t->stats->{wildcard_channels}, 0, 'wildcard_channels drops');

# the same id again is a new channel
$t->publish('/pub?id=c', 'x') for 1 .. 3;
$t->delete('/pub?id=c');
$t->publish('/pub?id=c', 'new');
is($t->stats('/stats?id=c')->{published_messages}, 1, 'message ids begin again at 1');
my $again = $t->subscribe('/other?id=c.b9');
is($again->next_chunk, '{1:new}', 'old messages are not replayed');

# custom text, per request
$r = $t->delete('/pub?id=c', body => "Adeus \0 ~id~");
is($r->status, 200, 'DELETE with a body');
is($again->body, "{1:new}{-2:Adeus \0 ~id~}", 'the body is the text');
my $next = $t->subscribe('/other?id=d');
$t->delete('/pub?id=d');
is($next->body, '{-2:Channel deleted}', 'for that request only');
my $big = 'A' x 40_000;
$next = $t->subscribe('/other?id=d');
is($t->delete('/pub?id=d', body => $big)->status, 200, 'a body in a temporary file');
is($next->body, "{-2:$big}", 'is the text too');

# several channels
$t->publish("/pub?id=$_", 'x') for qw(e f g);
my $many = $t->subscribe('/other?id=e/f/g');
$t->is_refusal($t->delete('/pub?id=e/missing/f/e'), 200, $deleted, 'some exist, one does not, one comes twice');
$t->publish('/pub?id=g', 'still');
is($many->read_until(qr/still\}/), '{-2:Channel deleted}{-2:Channel deleted}{2:still}',
    'a subscriber of another channel too stays');
$t->publish('/pub?id=e', 'reborn');
$t->publish('/pub?id=g', 'last');
is($many->read_until(qr/last\}/), '{3:last}', 'and is no subscriber of a channel that was made anew');

# Taken together by a worker that stood still: in the order of things, over all channels.
$t->publish("/pub?id=$_", 'x') for qw(i j k);
my $frozen = $t->subscribe('/other?id=i/j/k', worker => $workers[0]);
my $admin = $t->client(worker => $workers[1]);
$t->freeze($workers[0]);
$t->publish('/pub?id=k', 'before', client => $admin);
$t->delete('/pub?id=i/j', client => $admin);
$t->publish('/pub?id=k', 'after', client => $admin);
$t->thaw($workers[0]);
is($frozen->read_until(qr/after\}/), '{2:before}{-2:Channel deleted}{-2:Channel deleted}{3:after}',
    'the notice comes where the deletion was');
$t->delete('/pub?id=k');
is($frozen->body =~ s/.*(?=\{-2)//sr, '{-2:Channel deleted}', 'and the last one ends it');
$t->delete('/pub?id=g');
is($many->body =~ s/.*(?=\{-2)//sr, '{-2:Channel deleted}', 'until its last channel goes');
ok($many->complete, 'in order');

$t->wait_for(sub { my $s = $t->stats; $s->{channels_in_delete} == 0 }, 'the tick that moves deleted channels', 15);
my $s = $t->stats;
is($s->{channels_in_delete}, 0, 'after a tick none is in delete');
cmp_ok($s->{channels_in_trash}, '>=', 1, 'but in the trash');
is($s->{subscribers}, 0, 'nobody is subscribed');
is($s->{stored_messages}, 1, 'only the new channel has a message');

$t->done();
