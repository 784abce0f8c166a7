# Stop, quit and reload give every subscriber of every worker its orderly end, at once. That no socket is left
# open is checked at the end of every suite.
#
# Proves protocol.md: orderly-end, reload-stop-and-death, streaming.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $conf = <<'EOC';
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_footer_template FOOT;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; push_stream_store_messages on; }
        location /ttl   { push_stream_subscriber; push_stream_subscriber_connection_ttl 10m; }
        location /ping  { push_stream_subscriber; push_stream_ping_message_interval 10m; }
        location /none  { push_stream_subscriber; }
        location /bare  { push_stream_subscriber; push_stream_footer_template ""; }
        location /slow  { push_stream_subscriber; push_stream_subscriber_max_buffered 8m; }
        location /stats { push_stream_channels_statistics; }
    }
EOC
my @kinds = qw(ttl ping none);

sub start {
    my $t = Test::Nginx::PushStream->new->http($conf)->run();
    return $t;
}

# Subscribers of each kind in each worker, chunked and not.
sub subscribers {
    my ($t) = @_;
    return map {
        my $worker = $_;
        map { ($t->subscribe("/$_?id=a", worker => $worker),
               $t->subscribe("/$_?id=a", worker => $worker, version => '1.0')) } @kinds;
    } $t->worker_pids;
}

sub all_well {
    my ($event, @s) = @_;
    my @bad = grep { $_->body ne 'OlaFOOT' || !$_->complete } @s;
    is(scalar @bad, 0, "$event: everybody gets footer and end") or diag explain [ map { $_->so_far } @bad ];
    return;
}

for my $signal (qw(TERM QUIT INT)) {
    my $t = start();
    my @s = subscribers($t);
    my $bare = $t->subscribe('/bare?id=a');
    $t->publish('/pub?id=a', 'Ola');
    is($_->read_until(qr/Ola/), 'Ola', 'it runs') for @s;
    ok($t->stop($signal), "$signal: nginx ends");
    all_well($signal, @s);
    is($bare->body, 'Ola', "$signal: without a footer only the end");
    ok($bare->complete, 'but that in order');
    $t->finish;
}

my $t = start();
my @old = $t->worker_pids;
my @s = subscribers($t);
$t->publish('/pub?id=a', 'Ola');
is($_->read_until(qr/Ola/), 'Ola', 'it runs') for @s;
my $before = $t->stats;
is($before->{subscribers}, 12, 'twelve subscribers');
$t->signal('USR1');
$t->wait_log(qr/reopening logs|signal 10/, 5);
is(scalar(grep { $_->complete } @s), 0, 'USR1: nobody is ended');

ok($t->reload(wait_old => 1), 'reload: new workers serve, the old ones are gone');
all_well('reload', @s);
my $after = $t->stats;
is($after->{subscribers}, 0, 'nobody is counted any more');
is($after->{$_}, $before->{$_}, "$_ survives") for qw(channels published_messages stored_messages);
cmp_ok($after->{uptime}, '>=', $before->{uptime}, 'so does uptime');
my %now = map { $_->{pid} => $_ } @{ $after->{by_worker} };
is_deeply([ sort keys %now ], [ sort $t->worker_pids ], 'statistics list the new workers only');
cmp_ok($_->{uptime}, '<=', $after->{uptime}, 'a worker is no older than the zone') for values %now;
is($t->subscribe('/none?id=a.b1')->next_chunk, 'Ola', 'messages survive');

# a reload that is refused changes nothing
my $stays = $t->subscribe('/none?id=a');
$t->expect_log(qr/unknown directive "nonsense"/);
ok($t->reload($conf . 'nonsense;', fails => 1), 'a bad configuration');
$t->publish('/pub?id=a', 'still here');
is($stays->next_chunk, 'still here', 'ends nobody');
$t->http($conf);

# many subscribers at once
my @many = map { $t->subscribe("/ttl?id=c$_", worker => ($t->worker_pids)[0]) } 1 .. 20;
push @many, map { $t->subscribe('/ttl?id=m') } 1 .. 300;
ok($t->reload(wait_old => 1), 'reload with 320 subscribers');
is(scalar(grep { $_->body eq 'FOOT' && $_->complete } @many), 320, 'all say goodbye');
is($t->stats->{subscribers}, 0, 'and none is counted');
$_->close for @many;

# one that does not read holds nobody up for ever, and a quick one gets all before the footer
my $slow = $t->subscribe('/slow?id=s', rcvbuf => 4096);
$slow->client->pause;
my $quick = $t->subscribe('/none?id=s');
$t->publish('/pub?id=s', 'x' x 9000) for 1 .. 100;
$t->reload;
is(length $quick->body, 100 * 9000 + 4, 'messages and then the footer');
$slow->client->resume;
$slow->wait_end;
my $got = $slow->so_far;
ok($got =~ /\Ax*(?:FOOT)?\z/, 'a slow reader gets the beginning of the same');
$t->wait_for(sub { !$t->old_worker_pids }, 'the old workers to be gone');
ok(!$t->old_worker_pids, 'the old workers are gone');

$t->done();
