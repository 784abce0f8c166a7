# Whichever worker takes a publish, the subscribers of all workers get it, once and in order.
#
# Proves protocol.md: terms, publishing; promises.md: order-and-number.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Time::HiRes qw(time);

my $t = Test::Nginx::PushStream->new(workers => 3)->http(<<'EOC')->run();
    push_stream_shared_memory_size 4m;
    push_stream_channels_path $arg_id;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher admin; push_stream_store_messages on; }
        location /pass  { push_stream_publisher; }
        location /sub   { push_stream_subscriber; push_stream_message_template "~channel~:~id~:~text~;"; }
        location /stats { push_stream_channels_statistics; }
    }
EOC
my @workers = $t->worker_pids;

# ten subscribers in each worker
my %of = map { my $w = $_; $w => [ map { $t->subscribe('/sub?id=a', worker => $w) } 1 .. 10 ] } @workers;
my @all = map { @$_ } @of{@workers};
is_deeply({ map { $_->{pid} => $_->{subscribers} } @{ $t->stats->{by_worker} } }, { map { $_ => 10 } @workers },
    'ten subscribers in each worker');
is($t->stats('/stats?id=a')->{subscribers}, 30, 'thirty in the channel');

my $n = 0;
for my $worker (@workers, @workers) {
    for my $location (qw(pub pass)) {
        $t->publish("/$location?id=a", "m", worker => $worker);
        $n++;
        my @bad = grep { ($_->next_chunk // '') ne "a:$n:m;" } @all;
        is(scalar @bad, 0, "published by $worker at /$location: everybody gets it");
    }
}

# three publishers at once, one in each worker
my $start = time;
my @publishers = map { $t->client(worker => $_) } @workers;
my @answers;
for my $round (1 .. 500) {
    push @answers, $t->start('POST', '/pass?id=a', body => "p$_.$round", client => $publishers[$_]) for 0 .. 2;
}
is(scalar(grep { $_->status == 200 } @answers), 1500, '1,500 publishes');
my $last = $n + 1500;
$_->read_until(qr/a:$last:[^;]*;/) for @all;
cmp_ok(time - $start, '<', 5 * ($ENV{TEST_NGINX_SLOW} || 3), 'quickly');
my $want = $all[0]->so_far;
is(join(' ', $want =~ /a:(\d+):/g), join(' ', 1 .. $last), 'every message id once, in order');
is(scalar(grep { $_->so_far ne $want } @all), 0, 'and the same for all subscribers of all workers');
for my $p (0 .. 2) {
    is(join(' ', $want =~ /:p$p\.(\d+);/g), join(' ', 1 .. 500), "the messages of publisher $p are in its order");
}

# a worker that is busy for long misses nothing: it stands still while others publish
my @asleep = map { $t->subscribe("/sub?id=sleep$_", worker => $workers[1]) } 1 .. 50;
$t->freeze($workers[1]);
my $i = 0;
my $taken = $t->publish_many('', sub { $i++ < 5000 ? ('/pass?id=sleep' . (1 + $i % 50), 'x') : () }, worker => $workers[0]);
is(scalar(grep { $_->so_far ne '' } @asleep), 0, '(it stood still)');
$t->thaw($workers[1]);
is_deeply($taken, { 200 => 5000 }, '5,000 publishes past a worker that stands still');
my @missing;
for my $n (1 .. 50) {
    my $want = join '', map { "sleep$n:$_:x;" } 1 .. 100;
    push @missing, $n if ($asleep[ $n - 1 ]->read_until(qr/:100:x;/) // '') ne $want;
}
is("@missing", '', 'its subscribers get them all, once and in order');
$_->close for @asleep;

# several channels, subscribers of some of them
my $ab = $t->subscribe('/sub?id=x/y', worker => $workers[0]);
my $b  = $t->subscribe('/sub?id=y', worker => $workers[1]);
for my $i (1 .. 20) {
    $t->publish('/pub?id=x/y', $i, worker => $workers[ $i % 3 ]);
}
is($b->read_until(qr/:20:20;/), join('', map { "y:$_:$_;" } 1 .. 20), 'a subscriber of one');
$t->wait_for(sub { 40 == (() = $ab->so_far =~ /;/g) }, 'forty messages');
is(join(' ', $ab->so_far =~ /x:(\d+)/g), join(' ', 1 .. 20), 'a subscriber of both: the first');
is(join(' ', $ab->so_far =~ /y:(\d+)/g), join(' ', 1 .. 20), 'and the second');

# delete by one worker, subscribers in all
$t->request('DELETE', '/pub?id=a', worker => $workers[2]);
is(scalar(grep { $_->body !~ /a:-2:Channel deleted;\z/ || !$_->complete } @all), 0, 'DELETE reaches all');
ok($t->wait_for(sub { $t->stats->{subscribers} == 2 }, 'counters'), 'and they are no longer counted');

$t->done();
