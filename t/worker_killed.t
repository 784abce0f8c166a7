# A killed worker takes only its own subscribers with it; nobody else misses or repeats a message.
# PUSH_STREAM_STRESS=1 makes it large: 1,000 subscribers, 10,000 messages.
#
# Proves protocol.md: reload-stop-and-death, fields (by_worker); promises.md: deaths-and-changes.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 16m;
    push_stream_channels_path $arg_id;
    push_stream_subscriber_max_buffered 64m;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; push_stream_store_messages on; }
        location /pass  { push_stream_publisher; }
        location /sub   { push_stream_subscriber; push_stream_message_template "~id~;"; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

# quiet first
my ($one, $two) = $t->worker_pids;
my @dies  = map { $t->subscribe('/sub?id=a', worker => $one) } 1 .. 5;
my @stays = map { $t->subscribe('/sub?id=a', worker => $two) } 1 .. 7;
$t->publish('/pub?id=a', 'x');
is(scalar(grep { $_->next_chunk eq '1;' } @dies, @stays), 12, 'all get a message');
my $before = $t->stats;
is($before->{subscribers}, 12, 'all are counted');

$t->kill_worker($one);
is(scalar(grep { $_->closed } @dies), 5, 'its subscribers are cut');
is(scalar(grep { $_->complete } @dies), 0, 'without a goodbye');
ok($t->wait_for(sub { my $s = $t->stats; $s->{subscribers} == 7 && $t->stats('/stats?id=a')->{subscribers} == 7 },
    'counters to be right', 10), 'every counter is right again');
my $after = $t->stats;
is($after->{$_}, $before->{$_}, "$_ as before") for qw(channels published_messages stored_messages);
my %by = map { $_->{pid} => $_->{subscribers} } @{ $after->{by_worker} };
my ($new) = grep { $_ != $two } $t->worker_pids;
is_deeply(\%by, { $two => 7, $new => 0 }, 'the successor has its entry, with nobody');

my @again = map { $t->subscribe('/sub?id=a', worker => $new) } 1 .. 3;
my $n = 1;
for my $publisher ($two, $new) {
    $t->publish('/pub?id=a', 'x', worker => $publisher);
    $n++;
    is(scalar(grep { ($_->next_chunk // '') eq "$n;" } @stays, @again), 10, "published by $publisher: all get it");
}
is(scalar(grep { $_->client->eof } @stays), 0, 'nobody else was cut');
$_->close for @stays, @again;

# both at once
my @both = map { $t->subscribe('/sub?id=a', worker => $_) } $two, $new;
$t->kill_worker($two, $new);
is(scalar(grep { $_->closed } @both), 2, 'all workers killed');
ok($t->wait_for(sub { $t->stats->{subscribers} == 0 }, 'counters'), 'nobody is counted');
is($t->subscribe('/sub?id=a.b9')->read_until(qr/3;/), '1;2;3;', 'stored messages stay');

# under load: worker after worker is killed while messages are published without a pause
my ($subscribers, $messages, $kills) = $ENV{PUSH_STREAM_STRESS} ? ($ENV{PUSH_STREAM_STRESS} =~ m{,} ? split(/,/, $ENV{PUSH_STREAM_STRESS}) : (1000, 10_000, 30)) : (60, 6_000, 5);
my ($number, $answered, %killed_at) = (0, 0);
my @subs;
sub attach {
    my ($worker) = @_;
    push @subs, { s => $t->subscribe('/sub?id=load', worker => $worker), worker => $worker } for 1 .. $subscribers / 2;
    return;
}
attach($_) for $t->worker_pids;
my %dead;
my ($client, @underway);
my $done = 0;
for my $round (0 .. $kills) {
    my @workers = $t->worker_pids;
    my $victim = $workers[ $round % 2 ];
    my $until = int($messages * ($round + 1) / ($kills + 1));
    my $killed;
    while ($done < $until) {
        if (!$client || $client->eof) {
            # What was under way in a killed worker may or may not have been published.
            $client = $t->client(worker => (grep { $_ != $victim } @workers)[0]);
            @underway = ();
        }
        push @underway, $t->start('POST', '/pass?id=load', body => 'x', client => $client) while @underway < 20;
        $underway[0]->wait_end;
        while (@underway && $underway[0]{state} ne 'head') {
            my $answer = shift @underway;
            $done++ if ($answer->status // 0) == 200;
            $underway[0]->advance if @underway;
        }
        if (!$killed && $round < $kills && $done > $until - $messages / ($kills + 1) / 2) {
            $killed = 1;
            $dead{$victim} = 1;
            $t->kill_worker($victim);
        }
    }
    if ($killed) {
        my ($fresh) = grep { my $w = $_; !grep { $_ == $w } @workers } $t->worker_pids;
        attach($fresh);
    }
}
$_->wait_end for @underway;
my $total = $t->stats('/stats?id=load')->{published_messages};
cmp_ok($total, '>=', $messages, "$total messages, $kills workers killed");
my (%verdict, @odd);
for my $sub (@subs) {
    my $s = $sub->{s};
    if (!$dead{ $sub->{worker} }) { $s->read_until(qr/(?:\A|;)$total;/) }
    else                          { $s->closed }
    my @ids = $s->so_far =~ /(\d+);/g;
    my $in_order = !grep { $ids[$_] != $ids[0] + $_ } 0 .. $#ids;
    my $whole = $dead{ $sub->{worker} } || @ids && $ids[-1] == $total;
    my $verdict = !$in_order ? 'a gap or a double' : !$whole ? 'incomplete' : 'fine';
    $verdict{$verdict}++;
    push @odd, $sub->{worker} . ": $ids[0]..$ids[-1]" if $verdict ne 'fine';
}
is_deeply(\%verdict, { fine => scalar @subs }, 'every subscriber has every message once, in order, to its end')
    or diag explain \@odd;

my $living = grep { !$dead{ $_->{worker} } } @subs;
ok($t->wait_for(sub { $t->stats->{subscribers} == $living }, 'counters', 10), 'counters are right');

$t->done();
