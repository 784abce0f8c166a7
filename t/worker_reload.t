# During a reload both generations serve; afterwards the new configuration applies to the old messages.
#
# Proves protocol.md: reload-stop-and-death, templates (after a reload), configured-limits (lowered by a
# reload); directives.md: push_stream_shared_memory_size.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $conf = <<'EOC';
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_channel_deleted_message_text "gone";
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        # MORE
        location /pub   { push_stream_publisher admin; push_stream_store_messages on; }
        location /sub   { push_stream_subscriber; push_stream_message_template "old ~text~;"; push_stream_footer_template F; }
        location /stats { push_stream_channels_statistics; }
        location /drip  { limit_rate 500; alias %%TESTDIR%%/drip; }
    }
EOC
my $t = Test::Nginx::PushStream->new->http($conf)->run();
$t->write_file('drip', 'drop' x 5000);

sub descriptors { my ($pid) = @_; return scalar(() = glob "/proc/$pid/fd/*") }

$t->publish('/pub?id=a', 'one');
my @before = $t->worker_pids;
$t->get('/stats', worker => $_) for @before;
# Connections that are just being closed do not count: so the lowest number that is seen in a while.
my @descriptors = map { descriptors($_) } @before;
for (1 .. 20) {
    $t->get('/stats', worker => $before[ $_ % 2 ]);
    for my $i (0, 1) {
        my $now = descriptors($before[$i]);
        $descriptors[$i] = $now if $now < $descriptors[$i];
    }
}

# other templates: more of them, in another order
my $new = $conf =~ s/old ~text~;/new ~text~ ~id~;/r =~ s/"gone"/"lost"/r
    =~ s{# MORE}{location /first { push_stream_subscriber; push_stream_message_template "first ~text~;"; }}r;
my $s = $t->subscribe('/sub?id=a.b1');
is($s->next_chunk, 'old one;', 'before');
ok($t->reload($new, wait_old => 1), 'reload');
is($s->body, 'old one;F', 'a subscriber of before is ended');
is($t->subscribe('/sub?id=a.b1')->next_chunk, 'new one 1;', 'an old message in the new template');
is($t->subscribe('/first?id=a.b1')->next_chunk, 'first one;', 'and in one that is new');
$s = $t->subscribe('/sub?id=a');
$t->publish('/pub?id=a', 'two');
is($s->next_chunk, 'new two 2;', 'message ids go on');
$t->delete('/pub?id=a');
is($s->body, 'new two 2;new lost -2;F', 'other texts are new too');

# descriptors
$t->reload(wait_old => 1) for 1 .. 3;
$t->get('/stats', worker => $_) for $t->worker_pids;
my @after;
ok($t->wait_for(sub { @after = map { descriptors($_) } $t->worker_pids; "@after" eq "@descriptors" }, 'descriptors', 5),
    'a worker has as many descriptors as before') or diag "@descriptors, then @after";

# both generations alive: an answer in slow drops keeps an old worker
my @old = $t->worker_pids;
my @drip = map { $t->start('GET', '/drip', worker => $_) } @old;
$_->wait_head for @drip;
my @kept = map { $t->client(worker => $_) } @old;
ok($t->reload, 'reload while old workers have work to do');
is(scalar $t->old_worker_pids, 2, 'they are still there');
my @subs = map { $t->subscribe('/sub?id=c', worker => $_) } $t->worker_pids;
$t->publish('/pub?id=c', 'hello');
is($_->next_chunk, 'new hello 1;', 'the new ones serve meanwhile') for @subs;
my @listed = sort map { $_->{pid} } @{ $t->stats->{by_worker} };
is("@listed", join(' ', sort $t->worker_pids), 'statistics list the new ones only');
$_->close for @drip, @kept;
$t->wait_for(sub { !$t->old_worker_pids }, 'old workers to end');
$t->publish('/pub?id=c', 'again');
is($_->next_chunk, 'new again 2;', 'nobody of the new ones is disturbed when they end') for @subs;

# limits: lowered ones refuse new objects and keep the existing
$t->publish("/pub?id=d$_", 'x') for 1 .. 3;
my $lower = $new =~ s/(push_stream_channels_path)/push_stream_max_number_of_channels 2; push_stream_max_messages_stored_per_channel 1; $1/r;
ok($t->reload($lower, wait_old => 1), 'lower limits');
is($t->post('/pub?id=e', 'x')->explain, 'Number of channels were exceeded.', 'refuse what is new');
is($t->post('/pub?id=d1', 'x')->body =~ /"stored_messages": (\d+)/ && $1, 1, 'and apply to what exists');

# another size is ignored
$t->expect_log(qr/Cannot change memory area size/);
ok($t->reload($lower =~ s/1m/2m/r, wait_old => 1), 'another size of the zone');
ok($t->wait_log(qr/\[warn\].*Cannot change memory area size without restart, ignoring change on zone: push_stream_module/),
    'is ignored with a warning');
ok($t->wait_for(sub { $t->stats->{stored_messages} == 5 }, 'the deleted channel to be in the trash'),
    'and everything is still there');

# many reloads under load lose nothing that is stored
my $count = 0;
my $client;
for my $i (1 .. 4) {
    my $got = $t->publish_many('/pub?id=c', 200);
    $count += $got->{200};
    $t->reload;
}
is($t->stats('/stats?id=c')->{published_messages}, 2 + $count, 'publishes between reloads are all counted');

$t->done();
